//! Pauses between attempts: doubled from one to the next, bounded, and ended by a stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
}

impl<'a> Backoff<'a> {
    /// Pauses that end when `stopping` is set.
    pub fn new(clock: &'a SharedClock, stopping: &'a Arc<AtomicBool>) -> Self {
        Self { clock, stopping, pause: PAUSE_MIN }
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
        self.clock.sleep(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock, ManualClock};

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
