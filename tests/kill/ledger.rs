//! What one writer knows: every record that was acknowledged to it, and the one request that was not
//! answered.

use std::collections::HashMap;

use crate::common::rows::{Key, Row, Rows, differences};

/// A request, as far as it changes what stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effects {
    /// Each key once, with what stands for it afterwards. A repeat changes nothing, and is listed.
    pub(crate) rows: Vec<(Key, Row)>,
    /// Texts of records that must end in the reject sink, each text in one request only.
    pub(crate) conflicts: Vec<String>,
}

/// A writer's book. Its keys are its own, and it sends one request at a time, so what stands after
/// each answer is known.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    stands: Rows,
    open: Option<Effects>,
    /// How often each conflict was sent, and whether it was acknowledged.
    conflicts: HashMap<String, (u32, bool)>,
}

impl Ledger {
    /// What stands, as far as the writer knows.
    pub(crate) const fn stands(&self) -> &Rows {
        &self.stands
    }

    /// Notes a request that is about to be sent.
    pub(crate) fn send(&mut self, effects: Effects) {
        assert!(self.open.is_none(), "one request at a time");
        for conflict in &effects.conflicts {
            self.conflicts.entry(conflict.clone()).or_default().0 += 1;
        }
        self.open = Some(effects);
    }

    /// Notes that it was acknowledged.
    pub(crate) fn acknowledge(&mut self) {
        let effects = self.open.take().expect("an answer follows a request");
        for conflict in &effects.conflicts {
            self.conflicts.entry(conflict.clone()).or_default().1 = true;
        }
        self.stands.extend(effects.rows);
    }

    /// Compares with what was found after a crash, and learns from it what became of the request that
    /// was not answered: it is there as a whole or not at all, since it is one frame of the log.
    pub(crate) fn settle(&mut self, found: &Rows) -> Vec<String> {
        let is_new = |(key, after): &(Key, Row)| {
            self.stands.get(key) != Some(after) && found.get(key) == Some(after)
        };
        if let Some(effects) = self.open.take()
            && effects.rows.iter().any(is_new)
        {
            self.stands.extend(effects.rows);
        }
        differences(&self.stands, found)
    }

    /// Compares with the reject sink: how many frames reported each conflict.
    pub(crate) fn settle_conflicts(&self, reported: &HashMap<String, u32>) -> Vec<String> {
        let mut wrong = Vec::new();
        for (text, (sent, is_acknowledged)) in &self.conflicts {
            let found = reported.get(text).copied().unwrap_or(0);
            if found > *sent || *is_acknowledged && found == 0 {
                wrong.push(format!("{text}: sent {sent} times, reported {found} times"));
            }
        }
        wrong
    }

    /// Whether this writer sent the conflict.
    pub(crate) fn sent_conflict(&self, text: &str) -> bool {
        self.conflicts.contains_key(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::rows::Value;

    fn key(time_ns: i64) -> Key {
        Key { measurement: "m".to_owned(), tags: std::iter::empty().collect(), time_ns }
    }

    fn row(version: i64, value: i64) -> Row {
        Row { version, fields: [("i".to_owned(), Value::Bigint(value))].into() }
    }

    /// A ledger with records 1 and 2 acknowledged, and 2 (anew) and 3 sent without an answer.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.send(Effects {
            rows: vec![(key(1), row(1, 1)), (key(2), row(1, 2))],
            conflicts: vec!["c".to_owned()],
        });
        ledger.acknowledge();
        let rows = vec![(key(2), row(2, 20)), (key(3), row(1, 3))];
        ledger.send(Effects { rows, conflicts: vec!["d".to_owned()] });
        ledger
    }

    fn complaints(found: &[(i64, Row)]) -> usize {
        ledger().settle(&found.iter().map(|(at, row)| (key(*at), row.clone())).collect()).len()
    }

    #[test]
    fn an_unanswered_request_may_be_there_or_not() {
        assert_eq!(complaints(&[(1, row(1, 1)), (2, row(1, 2))]), 0);
        assert_eq!(complaints(&[(1, row(1, 1)), (2, row(2, 20)), (3, row(1, 3))]), 0);
    }

    #[test]
    fn what_is_lost_changed_halved_or_invented_is_found() {
        for found in [
            vec![],
            vec![(1, row(1, 1))],
            vec![(1, row(1, 1)), (2, row(1, 3))],
            vec![(1, row(2, 1)), (2, row(1, 2))],
            vec![(1, row(1, 1)), (2, row(1, 2)), (3, row(1, 3))],
            vec![(1, row(1, 1)), (2, row(2, 20))],
            vec![(1, row(1, 1)), (2, row(1, 2)), (4, row(1, 4))],
        ] {
            assert!(complaints(&found) > 0, "{found:?}");
        }
    }

    #[test]
    fn a_conflict_is_reported_once_for_each_time_it_was_sent() {
        let reports = |c: u32, d: u32| {
            let reported = HashMap::from([("c".to_owned(), c), ("d".to_owned(), d)]);
            ledger().settle_conflicts(&reported).len()
        };
        assert_eq!([reports(1, 0), reports(1, 1)], [0, 0]);
        assert_eq!([reports(0, 0), reports(2, 0), reports(1, 2)], [1, 1, 1]);
    }
}
