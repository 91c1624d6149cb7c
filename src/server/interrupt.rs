//! Ctrl-C for commands that have something to tidy up: the first SIGINT, SIGTERM, SIGHUP or SIGQUIT
//! is told to whoever asks, a second one ends the process at once.
//!
//! One asking may be several signals. GNU `timeout` sends one to the process and one to its group; `npm` and
//! many a script hand on to their child what the terminal has sent to both; a terminal that closes sends
//! SIGHUP while its session's manager sends SIGTERM. Who counts, as Docker's client does, to three, is one signal
//! away from the same mistake. We go by time: what comes within [`ONE_ASKING`] after the first is the same wish,
//! said twice.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::base::clock::{Clock, SystemClock};
use crate::base::thread::Thread;

/// What a shell adds to the number of the signal that ended a process.
const EXIT_CODE_OF_SIGNALS: i32 = 128;

/// How soon somebody who waits notices.
const LOOK: Duration = Duration::from_millis(20);

/// How long what comes after a first signal belongs to it. The repeats of programs come within milliseconds, and
/// a person needs longer than this to see that the first one has ended nothing.
pub(super) const ONE_ASKING: Duration = Duration::from_secs(1);

/// Nobody has asked for the end.
const NONE: i32 = 0;

/// Hears signals for as long as it lives. Afterwards they are not obeyed by this process any more, so it
/// lives until the process has nothing left to do.
#[derive(Debug)]
pub struct Interrupts {
    /// The number of the first signal. Relaxed everywhere: it orders nothing.
    heard: Arc<AtomicI32>,
    /// Ends the thread when dropped.
    end: Option<oneshot::Sender<()>>,
    thread: Option<Thread>,
}

impl Interrupts {
    /// Hears from here on. The first signal is answered on standard error by `said`.
    ///
    /// # Errors
    ///
    /// When the system lets nobody listen, or has no thread to give.
    pub fn listen(said: &'static str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let signals = {
            let _inside = runtime.enter();
            let kinds = [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::hangup(),
                SignalKind::quit(),
            ];
            kinds.map(|kind| signal(kind).map(|signal| (signal, kind.as_raw_value())))
        };
        let [interrupt, terminate, hang_up, quit] = signals;
        let signals = [interrupt?, terminate?, hang_up?, quit?];
        let heard = Arc::new(AtomicI32::new(NONE));
        let (end, ended) = oneshot::channel();
        let told = Arc::clone(&heard);
        let thread =
            Thread::spawn("interrupts", move || hear(&runtime, signals, ended, (&told, said)))?;
        Ok(Self { heard, end: Some(end), thread: Some(thread) })
    }

    /// The number of the signal that asked for the end, if one did.
    pub fn heard(&self) -> Option<i32> {
        Some(self.heard.load(Ordering::Relaxed)).filter(|number| *number != NONE)
    }

    /// Waits so long, or until a signal asks for the end.
    pub fn sleep(&self, clock: &dyn Clock, how_long: Duration) {
        let mut left = how_long;
        while !left.is_zero() && self.heard().is_none() {
            let slice = left.min(LOOK);
            clock.sleep(slice);
            left -= slice;
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        drop(self.end.take());
        // A panic of it has told what it is; there is nothing to hear any more.
        drop(self.thread.take().map(Thread::join));
    }
}

/// Whether a signal that comes now asks again, after a first one at that time.
pub(super) fn is_asked_again(first: Duration, now: Duration) -> bool {
    now.saturating_sub(first) >= ONE_ASKING
}

/// Listens until `ended`.
fn hear(
    runtime: &Runtime,
    mut signals: [(Signal, i32); 4],
    mut ended: oneshot::Receiver<()>,
    (heard, said): (&AtomicI32, &str),
) {
    let clock = SystemClock::new();
    let mut asked = None;
    loop {
        let [(interrupt, one), (terminate, two), (hang_up, three), (quit, four)] = &mut signals;
        let next = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Some(*one),
                _ = terminate.recv() => Some(*two),
                _ = hang_up.recv() => Some(*three),
                _ = quit.recv() => Some(*four),
                _ = &mut ended => None,
            }
        });
        let Some(number) = next else { return };
        let now = clock.monotonic();
        match asked {
            None => {
                asked = Some(now);
                heard.store(number, Ordering::Relaxed);
                // Standard error may be closed, most of all after SIGHUP.
                drop(writeln!(io::stderr(), "\n{said} (again: at once)"));
            }
            Some(first) if is_asked_again(first, now) => {
                std::process::exit(EXIT_CODE_OF_SIGNALS + number);
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_within_a_second_is_one_asking() {
        let at = Duration::from_millis;
        for (now, again) in [(500, false), (501, false), (1499, false), (1500, true), (9000, true)]
        {
            assert_eq!(is_asked_again(at(500), at(now)), again, "{now}");
        }
    }
}
