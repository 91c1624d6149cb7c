//! Time, so that tests can drive it. Wall time is for records and retention; monotonic time is for
//! measuring and waiting.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time, shared by threads.
pub trait Clock: Debug + Send + Sync {
    /// Wall time in nanoseconds since 1970-01-01T00:00:00Z.
    fn wall_ns(&self) -> i64;

    /// Time since some fixed moment in the past; never goes back.
    fn monotonic(&self) -> Duration;

    /// Lets this thread rest for `pause`.
    fn sleep(&self, pause: Duration);
}

/// A clock that threads share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// The machine's clock, ready to share.
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }

    /// The machine's clock; its monotonic time starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    fn wall_ns(&self) -> i64 {
        // A clock set before 1970 reads as 0; one past 2262 as the last nanosecond that fits.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that rests a thread")]
    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

/// `CLOCK_MONOTONIC`, which all processes of the machine share, as service managers want to be told.
pub fn machine_monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // It counts from the start of the machine, so neither part is ever negative.
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// A clock that stands still until a test moves it. [`Clock::sleep`] moves it and returns at once.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ns: AtomicI64,
}

impl ManualClock {
    /// A clock that says `wall_ns` until it is moved.
    pub fn at(wall_ns: i64) -> Arc<Self> {
        Arc::new(Self { now_ns: AtomicI64::new(wall_ns) })
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by_ns = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        // Relaxed: the clock orders nothing but itself.
        self.now_ns.fetch_add(by_ns, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn wall_ns(&self) -> i64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.wall_ns().unsigned_abs())
    }

    fn sleep(&self, pause: Duration) {
        self.advance(pause);
    }
}
