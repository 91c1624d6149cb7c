//! Who waits for a next request, in the order in which they began to wait. Where all connections are
//! taken, the one that has been idle for longest gives way to a newcomer: else whoever opens enough
//! connections and says nothing keeps all producers out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A connection that has been idle for less than this keeps its place: it may be between two requests.
pub const IDLE_KEPT: Duration = Duration::from_secs(1);

/// All idle connections.
#[derive(Debug, Default)]
pub struct Crowd(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    /// By a number that grows, so the first has waited for longest.
    waiting: BTreeMap<u64, (Instant, Arc<Notify>)>,
    next: u64,
}

/// The place of one connection among those that wait.
#[derive(Debug)]
pub struct Seat {
    crowd: Arc<Crowd>,
    leave: Arc<Notify>,
    number: Mutex<Option<u64>>,
}

impl Crowd {
    /// A place for one connection, which is busy at first.
    pub fn seat(self: &Arc<Self>) -> Seat {
        Seat { crowd: Arc::clone(self), leave: Arc::new(Notify::new()), number: Mutex::new(None) }
    }

    /// Asks the connection that has been idle for longest to end. Returns whether there was one that has
    /// been for [`IDLE_KEPT`].
    pub fn ask_one_to_leave(&self) -> bool {
        let mut idle = self.lock();
        let Some(first) = idle.waiting.first_entry() else { return false };
        if first.get().0.elapsed() < IDLE_KEPT {
            return false;
        }
        let (_, leave) = first.remove();
        leave.notify_one();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The connection is idle from here on.
    pub fn sit(&self) {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = self.crowd.lock();
        if let Some(old) = number.take() {
            idle.waiting.remove(&old);
        }
        let next = idle.next;
        idle.next += 1;
        idle.waiting.insert(next, (Instant::now(), Arc::clone(&self.leave)));
        *number = Some(next);
    }

    /// The connection is busy from here on.
    pub fn stand(&self) {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = number.take() {
            self.crowd.lock().waiting.remove(&number);
        }
    }

    /// What tells the connection to end.
    pub fn leave(&self) -> Arc<Notify> {
        Arc::clone(&self.leave)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stand();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the connection was asked to end since it was looked at last.
    fn is_asked(seat: &Seat) -> bool {
        use std::future::Future as _;
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(seat.leave.notified()).poll(&mut cx).is_ready()
    }

    #[test]
    fn who_has_been_idle_for_longest_gives_way_and_who_is_busy_or_new_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let crowd = Arc::new(Crowd::default());
            let [first, busy, second] = [(); 3].map(|()| crowd.seat());
            for seat in [&busy, &second, &first] {
                seat.sit();
            }
            busy.stand();
            // It had a request meanwhile, so the other has waited for longer.
            first.sit();
            assert!(!crowd.ask_one_to_leave(), "all are new");
            for seat in crowd.lock().waiting.values_mut() {
                seat.0 = seat.0.checked_sub(IDLE_KEPT).unwrap();
            }
            for (expected, seat) in [(true, &second), (true, &first)] {
                assert_eq!(crowd.ask_one_to_leave(), expected);
                assert!(is_asked(seat));
            }
            assert!(!crowd.ask_one_to_leave() && !is_asked(&busy));
            drop((first, busy, second));
            assert!(crowd.lock().waiting.is_empty());
        });
    }
}
