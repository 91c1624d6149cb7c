//! Pauses between attempts: doubled from one to the next, bounded, and ended by a stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::Ended;
use crate::base::clock::SharedClock;

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause: how late a recovered engine is noticed.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The pauses of one call that is tried again until it succeeds.
#[derive(Debug)]
pub struct Backoff<'a> {
    clock: &'a SharedClock,
    stopping: &'a Arc<AtomicBool>,
    pause: Duration,
    /// What chooses how much of a pause is left out, if anything.
    jitter: Option<u64>,
}

impl<'a> Backoff<'a> {
    /// Pauses that end when `stopping` is set.
    pub fn new(clock: &'a SharedClock, stopping: &'a Arc<AtomicBool>) -> Self {
        Self { clock, stopping, pause: PAUSE_MIN, jitter: None }
    }

    /// The same, but each pause is between half of it and all, by chance: whoever stood in another's way
    /// must not meet it again at the same moment.
    #[must_use]
    pub fn with_jitter(mut self, seed: u64) -> Self {
        self.jitter = Some(seed);
        self
    }

    /// Rests before the next attempt.
    ///
    /// # Errors
    ///
    /// [`Ended::Stopping`] when there shall be none: what could not be done stays in the log.
    pub fn rest(&mut self) -> Result<(), Ended> {
        // Acquire: pairs with the Release store of the stop.
        if self.stopping.load(Ordering::Acquire) {
            return Err(Ended::Stopping);
        }
        self.clock.sleep(self.next_pause());
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }

    fn next_pause(&mut self) -> Duration {
        let Some(seed) = &mut self.jitter else { return self.pause };
        let now = self.clock.monotonic().as_nanos();
        *seed = xxh3_64(
            &[seed.to_le_bytes(), now.to_le_bytes()[..8].try_into().expect("8 of 16")].concat(),
        );
        let part = u32::try_from(*seed % 512).expect("less than 512");
        self.pause / 2 + self.pause * part / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock, ManualClock};

    #[test]
    fn pauses_with_jitter_differ_and_are_never_less_than_half() {
        let clock: SharedClock = ManualClock::at(0);
        let stopping = Arc::new(AtomicBool::new(false));
        let pauses = |seed: u64| {
            let mut backoff = Backoff::new(&clock, &stopping).with_jitter(seed);
            (0..7)
                .map(|at| {
                    backoff.rest().unwrap();
                    let whole = PAUSE_MIN * (1 << at);
                    let pause = backoff.next_pause();
                    assert!(whole <= pause && pause <= whole * 2, "{pause:?}");
                    pause
                })
                .collect::<Vec<_>>()
        };
        assert_ne!(pauses(1), pauses(2));
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_a_stop_ends_them() {
        let manual = ManualClock::at(0);
        let clock: SharedClock = Arc::clone(&manual) as SharedClock;
        let stopping = Arc::new(AtomicBool::new(false));
        let mut backoff = Backoff::new(&clock, &stopping);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let before = manual.monotonic();
            backoff.rest().unwrap();
            pauses.push(manual.monotonic().saturating_sub(before).as_millis());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
        stopping.store(true, Ordering::Release);
        assert!(matches!(backoff.rest(), Err(Ended::Stopping)));
    }
}
