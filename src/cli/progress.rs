//! How far a long command got, on standard error: one line that is written over on a terminal, else a
//! line now and then.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::out::in_place;
use crate::base::clock::{Clock, SystemClock};

/// How often a terminal's line is written anew.
const TERMINAL_EVERY: Duration = Duration::from_millis(100);

/// How often a plain line is written: a log of a long run stays short.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Characters of the bar.
const BAR_CHARS: u64 = 30;

/// Tells how far a command got. What it last wrote on a terminal is wiped when it is dropped.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    /// All there is to do; 0 when that is not known.
    total: u64,
    clock: SystemClock,
    every: Duration,
    told: Duration,
    /// Whether a line stands on the terminal.
    stands: bool,
    terminal: bool,
}

impl Progress {
    /// Tells of `total` units of work; 0 when it is not known how many.
    pub fn new(what: &'static str, total: u64) -> Self {
        let clock = SystemClock::new();
        let terminal = io::stderr().is_terminal();
        let every = if terminal { TERMINAL_EVERY } else { PLAIN_EVERY };
        let told = clock.monotonic();
        Self { what, total, clock, every, told, stands: false, terminal }
    }

    /// Says that `done` units are done; cheap enough to be called for each.
    pub fn at(&mut self, done: u64) {
        let now = self.clock.monotonic();
        if now.saturating_sub(self.told) < self.every {
            return;
        }
        self.told = now;
        let line = line(self.what, done, self.total);
        if self.terminal {
            self.stands = true;
            tell(&in_place(&line));
        } else {
            tell(&format!("{line}\n"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.stands {
            tell("\r\x1b[K");
        }
    }
}

fn tell(text: &str) {
    // Standard error may be closed; there is nobody left to tell.
    drop(io::stderr().write_all(text.as_bytes()));
}

fn line(what: &str, done: u64, total: u64) -> String {
    if total == 0 {
        return format!("{what}: {done}");
    }
    let share = |of: u64| done.min(total).saturating_mul(of) / total;
    let filled = usize::try_from(share(BAR_CHARS)).unwrap_or_default();
    let width = usize::try_from(BAR_CHARS).unwrap_or_default();
    format!("{what}: [{:width$}] {} % ({done} of {total})", "#".repeat(filled), share(100))
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_shows_how_far_it_is() {
        assert_eq!(line("reading", 7, 0), "reading: 7");
        let half = line("reading", 5, 10);
        assert!(half.contains(&"#".repeat(15)) && half.ends_with("50 % (5 of 10)"), "{half}");
        assert!(line("reading", 12, 10).contains("100 %"));
    }
}
