//! What is wrong with the upstream, since when, and how long a shard rests before it asks again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client::Failure;
use crate::base::clock::SharedClock;
use crate::engine::ShardId;

/// The first pause after a failure that passes by itself, and the longest.
const BUSY_PAUSE_MIN: Duration = Duration::from_millis(20);
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The same where an operator must act.
const OPERATOR_PAUSE_MIN: Duration = Duration::from_secs(1);
const OPERATOR_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often a pause looks whether the server stops.
const LOOK: Duration = Duration::from_millis(50);

/// Failures of one shard in a row.
type Streak = AtomicU32;

/// What is wrong.
#[derive(Debug)]
pub(super) struct Trouble {
    clock: SharedClock,
    stopping: Arc<AtomicBool>,
    /// Relaxed: each is its shard's own.
    streaks: Vec<Streak>,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    since_ns: i64,
    what: String,
}

impl Trouble {
    pub(super) fn new(shards: usize, clock: SharedClock, stopping: Arc<AtomicBool>) -> Self {
        let streaks = (0..shards).map(|_| Streak::new(0)).collect();
        Self { clock, stopping, streaks, open: Mutex::default() }
    }

    /// Hears of a failure, and rests.
    pub(super) fn met(&self, shard: ShardId, failure: &Failure, what: &str) {
        if *failure == Failure::Stopping {
            return;
        }
        self.note(what);
        let streak = self.streaks[usize::from(shard.0)].fetch_add(1, Ordering::Relaxed);
        let (min, max) = match failure {
            Failure::Operator(_) | Failure::Missing(_) => (OPERATOR_PAUSE_MIN, OPERATOR_PAUSE_MAX),
            _ => (BUSY_PAUSE_MIN, BUSY_PAUSE_MAX),
        };
        self.rest(jittered(longest(min, max, streak)));
    }

    /// Hears of a success.
    pub(super) fn mended(&self, shard: ShardId) {
        if self.streaks[usize::from(shard.0)].swap(0, Ordering::Relaxed) > 0
            && let Some(open) = self.lock().take()
        {
            let after = self.clock.wall_ns().saturating_sub(open.since_ns);
            tracing::info!(seconds = after / 1_000_000_000, "the upstream answers again");
        }
    }

    /// What is wrong and since when, for people.
    pub(super) fn told(&self) -> Option<String> {
        let open = self.lock();
        let open = open.as_ref()?;
        let since = jiff::Timestamp::from_nanosecond(open.since_ns.into());
        let since = since.map_or_else(|_| String::new(), |since| format!(" since {since:.0}"));
        Some(format!("nothing is stored{since}: {}", open.what))
    }

    fn note(&self, what: &str) {
        let mut open = self.lock();
        if let Some(open) = &mut *open {
            what.clone_into(&mut open.what);
        } else {
            tracing::warn!(what, "the upstream does not store; the log keeps everything");
            *open = Some(Open { since_ns: self.clock.wall_ns(), what: what.to_owned() });
        }
    }

    fn rest(&self, pause: Duration) {
        let mut left = pause;
        // Acquire: pairs with the Release store of the stop.
        while !left.is_zero() && !self.stopping.load(Ordering::Acquire) {
            let step = left.min(LOOK);
            self.clock.sleep(step);
            left -= step;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after so many failures: doubled, up to `max`.
fn longest(min: Duration, max: Duration, streak: u32) -> Duration {
    min.saturating_mul(1_u32.checked_shl(streak).unwrap_or(u32::MAX)).min(max)
}

/// A part of the pause by chance, so that shards and gateways do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let chance = u32::from(RandomState::new().build_hasher().finish().to_le_bytes()[0]);
    pause / 2 + pause / 2 * chance / 255
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock, ManualClock};

    fn trouble(clock: &Arc<ManualClock>) -> Trouble {
        Trouble::new(2, Arc::clone(clock) as SharedClock, Arc::default())
    }

    #[test]
    fn what_is_wrong_is_told_with_its_beginning_until_it_is_mended() {
        let clock = ManualClock::at(1_700_000_000_000_000_000);
        let trouble = trouble(&clock);
        assert_eq!(trouble.told(), None);
        trouble.met(ShardId(0), &Failure::Busy(String::new()), "there: away");
        trouble.met(ShardId(0), &Failure::Busy(String::new()), "there: still away");
        let told = trouble.told().unwrap();
        assert_eq!(told, "nothing is stored since 2023-11-14T22:13:20Z: there: still away");
        trouble.mended(ShardId(0));
        assert_eq!(trouble.told(), None);
    }

    #[test]
    fn pauses_double_within_their_bounds_and_an_operator_is_given_more_time() {
        assert_eq!(longest(BUSY_PAUSE_MIN, BUSY_PAUSE_MAX, 0), BUSY_PAUSE_MIN);
        assert_eq!(longest(BUSY_PAUSE_MIN, BUSY_PAUSE_MAX, 3), BUSY_PAUSE_MIN * 8);
        assert_eq!(longest(BUSY_PAUSE_MIN, BUSY_PAUSE_MAX, 4_000), BUSY_PAUSE_MAX);
        for _ in 0..100 {
            let pause = jittered(BUSY_PAUSE_MAX);
            assert!((BUSY_PAUSE_MAX / 2..=BUSY_PAUSE_MAX).contains(&pause), "{pause:?}");
        }
        let clock = ManualClock::at(0);
        trouble(&clock).met(ShardId(0), &Failure::Operator(String::new()), "x");
        assert!(clock.monotonic() >= OPERATOR_PAUSE_MIN / 2);
    }

    #[test]
    fn a_stop_ends_a_pause_and_is_no_trouble() {
        let clock = ManualClock::at(0);
        let stopping = Arc::new(AtomicBool::new(true));
        let trouble = Trouble::new(1, Arc::clone(&clock) as SharedClock, stopping);
        trouble.met(ShardId(0), &Failure::Stopping, "x");
        assert_eq!(trouble.told(), None);
        trouble.met(ShardId(0), &Failure::Operator(String::new()), "x");
        assert_eq!(clock.monotonic(), Duration::ZERO);
    }
}
