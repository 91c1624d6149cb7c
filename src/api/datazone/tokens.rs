//! Client tokens: what each was first used for, for 24 h.
//!
//! A token is remembered by a key, the digest of its entity and itself, with the digest of what was asked
//! and the seed of the ids that were given. That is enough to give the first answer again: everything
//! else in it stands in the repetition, which is the same. It is durable as a record in the frame of the
//! points, and for a Delete as a note of the erasure, so it is there if and only if what it was used for
//! is; the map in memory is made from both at the first request.

use std::collections::{HashMap, VecDeque};

use crate::engine::catalog::Catalog;
use crate::engine::{EngineError, Row, TableEngine, TimeRange};
use crate::record::{TableId, Value};

use super::input::{Digest, Parts};
use super::path::Entity;

/// How long a token is remembered, ns.
pub const KEPT_NS: i64 = 24 * 3_600 * 1_000_000_000;

const _: () = assert!(KEPT_NS < crate::engine::catalog::erasure::NOTE_KEPT_NS);

/// What a token was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What was asked.
    pub digest: Digest,
    /// Of the ids that were given; 0 for a Delete.
    pub seed: u64,
    /// When, ns.
    pub at_ns: i64,
}

/// The tokens of the last 24 h.
#[derive(Debug)]
pub struct Tokens {
    used: HashMap<Digest, Used>,
    /// In the order in which they were added, which is nearly that of time.
    order: VecDeque<(i64, Digest)>,
    max: usize,
}

/// What tells a token from others.
pub fn key_of(entity: &Entity, token: &str) -> Digest {
    let mut parts = Parts::of("token", entity);
    parts.put(Some(token));
    parts.end()
}

/// A key or digest as texts have it.
pub fn shown(digest: Digest) -> String {
    format!("{digest:032x}")
}

fn read(text: &str) -> Option<Digest> {
    Digest::from_str_radix(text, 16).ok()
}

/// The note of an erasure that a token asked for.
pub fn note(key: Digest, digest: Digest) -> String {
    format!("{} {}", shown(key), shown(digest))
}

impl Tokens {
    /// No tokens; at most `max`.
    pub fn new(max: usize) -> Self {
        Self { used: HashMap::new(), order: VecDeque::new(), max }
    }

    /// Those that engine and catalog have, as of `now_ns`.
    ///
    /// # Errors
    ///
    /// [`EngineError`] where the table cannot be read.
    pub fn load(
        max: usize,
        engine: &dyn TableEngine,
        table: Option<TableId>,
        catalog: &Catalog,
        now_ns: i64,
    ) -> Result<Self, EngineError> {
        let mut found = Vec::new();
        let range = TimeRange { from_ns: now_ns.saturating_sub(KEPT_NS), to_ns: i64::MAX };
        if let Some(table) = table {
            engine.scan(table, range, &mut |row| {
                found.extend(of_row(row));
                std::ops::ControlFlow::Continue(())
            })?;
        }
        for erasure in catalog.erasures_noted() {
            let (key, digest) = erasure.note.split_once(' ').unwrap_or_default();
            if let (Some(key), Some(digest)) = (read(key), read(digest)) {
                found.push((key, Used { digest, seed: 0, at_ns: erasure.at_ns }));
            }
        }
        found.sort_by_key(|(_, used)| used.at_ns);
        let mut tokens = Self::new(max);
        for (key, used) in found {
            tokens.put(key, used);
        }
        tokens.forget(now_ns);
        Ok(tokens)
    }

    /// What a token was used for, if it is remembered.
    pub fn find(&mut self, key: Digest, now_ns: i64) -> Option<Used> {
        self.forget(now_ns);
        self.used.get(&key).copied().filter(|used| used.at_ns > now_ns.saturating_sub(KEPT_NS))
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        self.used.len() < self.max
    }

    /// Remembers a token.
    pub fn put(&mut self, key: Digest, used: Used) {
        self.used.insert(key, used);
        self.order.push_back((used.at_ns, key));
    }

    fn forget(&mut self, now_ns: i64) {
        let from_ns = now_ns.saturating_sub(KEPT_NS);
        while let Some(&(at_ns, key)) = self.order.front()
            && at_ns <= from_ns
        {
            self.order.pop_front();
            // It may have been used again since.
            if self.used.get(&key).is_some_and(|used| used.at_ns <= from_ns) {
                self.used.remove(&key);
            }
        }
    }
}

fn of_row(row: &Row<'_>) -> Option<(Digest, Used)> {
    let (_, key) = row.dimensions.iter().find(|(name, _)| *name == "token")?;
    let (mut digest, mut seed) = (None, None);
    for (name, value) in row.attributes {
        match (*name, value) {
            ("digest", Value::Varchar(text)) => digest = read(text),
            ("seed", Value::Bigint(number)) => seed = Some(number.cast_unsigned()),
            _ => {}
        }
    }
    Some((read(key)?, Used { digest: digest?, seed: seed?, at_ns: row.time_ns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(at_ns: i64) -> Used {
        Used { digest: 7, seed: 1, at_ns }
    }

    #[test]
    fn a_token_is_remembered_for_a_day_and_gives_its_room_back() {
        let mut tokens = Tokens::new(2);
        tokens.put(1, used(10));
        tokens.put(2, used(20));
        assert!(!tokens.has_room());
        assert_eq!(tokens.find(1, 10 + KEPT_NS - 1), Some(used(10)));
        assert_eq!(tokens.find(1, 10 + KEPT_NS), None);
        assert_eq!(tokens.find(2, 10 + KEPT_NS), Some(used(20)));
        assert!(tokens.has_room());
        tokens.put(2, used(30));
        assert_eq!(tokens.find(2, 20 + KEPT_NS), Some(used(30)), "used again since");
    }
}
