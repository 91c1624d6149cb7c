//! How many points there may be: those that are stored, and those that Posts under way are about to
//! store. Without the latter, Posts at the same time would each find room for the same points.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Room for points.
#[derive(Debug, Default)]
pub struct Quota {
    /// Points of Posts that were let in and have not ended.
    underway: Mutex<u64>,
    ended: Notify,
}

/// Room that a Post has, until it ends: its points are stored then, or there are none.
#[derive(Debug)]
pub struct Room<'q> {
    quota: &'q Quota,
    points: u64,
}

impl Quota {
    /// Room for `points` more beside those that `stored` counts, at most `max` together, 0 being no
    /// limit; `None` where there is none. Waits while it hangs on what Posts under way end with.
    pub async fn room(&self, points: u64, max: u64, stored: impl Fn() -> u64) -> Option<Room<'_>> {
        if max == 0 {
            return Some(Room { quota: self, points: 0 });
        }
        loop {
            // Made before the look, so that no end between the two is missed.
            let ended = self.ended.notified();
            {
                let mut underway = self.lock();
                // Points of a Post that is about to end count twice here, which is on the safe side.
                let with_these = stored().saturating_add(points);
                if with_these > max {
                    return None;
                }
                if with_these.saturating_add(*underway) <= max {
                    *underway += points;
                    return Some(Room { quota: self, points });
                }
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.underway.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.points > 0 {
            *self.quota.lock() -= self.points;
            self.quota.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn room_is_given_once_and_comes_back_and_a_post_waits_for_those_before_it() {
        let (quota, stored) = (Quota::default(), AtomicU64::new(0));
        let ask = |points| quota.room(points, 10, || stored.load(Ordering::Relaxed));
        let mut context = Context::from_waker(Waker::noop());
        let mut now = |points| pin!(ask(points)).poll(&mut context);
        let Poll::Ready(Some(first)) = now(6) else { panic!("there is room for 6") };
        assert!(matches!(now(11), Poll::Ready(None)), "never");
        let Poll::Ready(Some(second)) = now(4) else { panic!("there is room for 4") };
        assert!(matches!(now(1), Poll::Pending), "the first may end with nothing");
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = pin!(ask(5));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        // It has failed.
        drop(first);
        let Poll::Ready(Some(third)) = waiting.as_mut().poll(&mut context) else {
            panic!("what the first gave back is there")
        };
        stored.store(9, Ordering::Relaxed);
        drop((second, third));
        assert!(matches!(pin!(ask(2)).poll(&mut context), Poll::Ready(None)));
        assert!(matches!(pin!(ask(1)).poll(&mut context), Poll::Ready(Some(_))));
        assert_eq!(*quota.lock(), 0);
    }
}
