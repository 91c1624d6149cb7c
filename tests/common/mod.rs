//! What the promise tests share: the real binary as a process, a small HTTP client, exports read back
//! as typed rows, and random numbers that a seed repeats.
//!
//! Nothing here uses the library's own decoders or engine: what is promised is judged from outside.

#![allow(dead_code, reason = "each test uses its own part")]

pub(crate) mod azurite;
pub(crate) mod client;
pub(crate) mod count;
pub(crate) mod gateway;
pub(crate) mod random;
pub(crate) mod rows;
pub(crate) mod volume;

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use tidegate::base::clock::{Clock, SystemClock};

/// Pause between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// Asks `is_there` again and again, at most for `longest`; what it waits for is named by `what`.
pub(crate) fn wait_for<T>(
    what: &str,
    longest: Duration,
    mut is_there: impl FnMut() -> Option<T>,
) -> T {
    let clock = SystemClock::new();
    loop {
        if let Some(found) = is_there() {
            return found;
        }
        assert!(clock.monotonic() < longest, "waited {longest:?} in vain for {what}");
        clock.sleep(LOOK);
    }
}

/// Tells whoever runs the tests a figure or a seed, also when the test passes.
pub(crate) fn tell(what: impl Display) {
    // Standard error may be closed; there is nobody left to tell.
    drop(writeln!(std::io::stderr(), "{what}"));
}
