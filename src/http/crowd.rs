//! All connections: who of them waits for a next request, since when, and what each is told.
//!
//! Where all connections are taken, the one that has been idle for longest gives way to a newcomer:
//! else whoever opens enough connections and says nothing keeps all producers out.
//!
//! A request must not pay for this. A connection notes the moment at which it began to wait in a place
//! of its own, and looks there for what it is told: two stores and a load. Who looks for the longest
//! wait looks at all places, which happens only where there is no room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// A connection that has been idle for less than this keeps its place: it may be between two requests.
pub const IDLE_KEPT: Duration = Duration::from_secs(1);

/// Most connections that linger at once ([`super::linger`]). One more is closed at once, as all were if there
/// were no lingering: so those that strangers leave behind cost no more than these.
pub const LINGERING_MAX: usize = 256;

/// In place of a moment: the connection is busy.
const BUSY: u64 = u64::MAX;

/// What a connection is told; the later ones stand above the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// Go on.
    Nothing = 0,
    /// Answer what was begun, and close.
    End = 1,
    /// Close.
    Cut = 2,
}

impl Told {
    const fn of(code: u8) -> Self {
        match code {
            0 => Self::Nothing,
            1 => Self::End,
            _ => Self::Cut,
        }
    }
}

/// All connections.
#[derive(Debug)]
pub struct Crowd {
    places: Mutex<Places>,
    began: Instant,
    /// How many linger. Relaxed: the count orders nothing else.
    lingering: AtomicUsize,
}

#[derive(Debug)]
struct Places {
    taken: HashMap<u64, Arc<Place>>,
    next: u64,
    /// What all were told, and whoever comes now is.
    told: Told,
}

/// What the crowd sees of one connection.
#[derive(Debug)]
struct Place {
    /// When the connection began to wait, in ns since the crowd began; [`BUSY`] where it does not wait,
    /// or was asked to end already.
    ///
    /// Relaxed: a moment orders nothing else, and who reads an old one asks the next connection to end
    /// a little later.
    idle_since_ns: AtomicU64,
    /// A [`Told`].
    told: AtomicU8,
    /// Wakes the connection when it is told something.
    waker: Mutex<Option<Waker>>,
}

/// The place of one connection.
#[derive(Debug)]
pub struct Seat {
    crowd: Arc<Crowd>,
    place: Arc<Place>,
    number: u64,
}

/// Leave to linger, given back when it is dropped.
#[derive(Debug)]
pub struct Lingering(Arc<Crowd>);

/// Where a connection hears what it is told.
#[derive(Debug)]
pub struct Ear {
    place: Arc<Place>,
    heard: Told,
    /// The waker that the place has.
    waker: Option<Waker>,
}

impl Crowd {
    /// Nobody.
    pub fn new() -> Self {
        let places = Places { taken: HashMap::new(), next: 0, told: Told::Nothing };
        let lingering = AtomicUsize::new(0);
        Self { places: Mutex::new(places), began: Instant::now(), lingering }
    }

    /// A place for one connection, which is busy at first.
    pub fn seat(self: &Arc<Self>) -> Seat {
        let mut places = self.lock();
        let place = Arc::new(Place {
            idle_since_ns: AtomicU64::new(BUSY),
            told: AtomicU8::new(places.told as u8),
            waker: Mutex::default(),
        });
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, Arc::clone(&place));
        drop(places);
        Seat { crowd: Arc::clone(self), place, number }
    }

    /// Tells all connections, and those that come.
    pub fn tell_all(&self, told: Told) {
        let mut places = self.lock();
        places.told = told;
        for place in places.taken.values() {
            place.tell(told);
        }
    }

    /// Asks the connection that has been idle for longest to end. Returns whether there was one that has
    /// been for [`IDLE_KEPT`].
    pub fn ask_one_to_leave(&self) -> bool {
        self.ask_at(self.now_ns())
    }

    fn ask_at(&self, now_ns: u64) -> bool {
        let kept_ns = u64::try_from(IDLE_KEPT.as_nanos()).expect("a second");
        let Some(latest) = now_ns.checked_sub(kept_ns) else { return false };
        let places = self.lock();
        let mut idle: Vec<_> = places
            .taken
            .values()
            .map(|place| (place.idle_since_ns.load(Ordering::Relaxed), place))
            .filter(|(since, _)| *since <= latest)
            .collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        // One that has got a request meanwhile stays.
        let asked = idle.into_iter().find(|(since, place)| {
            let idle = &place.idle_since_ns;
            idle.compare_exchange(*since, BUSY, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        });
        if let Some((_, place)) = asked {
            place.tell(Told::End);
        }
        asked.is_some()
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(BUSY - 1)
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Crowd {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    fn tell(&self, told: Told) {
        // Release: pairs with the Acquire load of the ear, which may hear without being woken.
        self.told.fetch_max(told as u8, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Seat {
    /// The connection is idle from here on.
    pub fn sit(&self) {
        self.place.idle_since_ns.store(self.crowd.now_ns(), Ordering::Relaxed);
    }

    /// The connection is busy from here on.
    pub fn stand(&self) {
        self.place.idle_since_ns.store(BUSY, Ordering::Relaxed);
    }

    /// Leave to stay open for a client that is still sending, unless [`LINGERING_MAX`] others do. The
    /// connection counts as idle meanwhile: it gives way to newcomers.
    pub fn lingering(&self) -> Option<Lingering> {
        let lingering = Lingering(Arc::clone(&self.crowd));
        if self.crowd.lingering.fetch_add(1, Ordering::Relaxed) >= LINGERING_MAX {
            return None;
        }
        self.sit();
        Some(lingering)
    }

    /// Where the connection hears what it is told.
    pub fn ear(&self) -> Ear {
        Ear { place: Arc::clone(&self.place), heard: Told::Nothing, waker: None }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.lock().taken.remove(&self.number);
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ear {
    /// What the connection is told beyond what it has heard.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Told> {
        if let Some(told) = self.look() {
            return Poll::Ready(told);
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let waker = self.waker.insert(cx.waker().clone()).clone();
        *self.place.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
        // Told between the look and the lock: nobody was there to be woken.
        self.look().map_or(Poll::Pending, Poll::Ready)
    }

    fn look(&mut self) -> Option<Told> {
        let told = Told::of(self.place.told.load(Ordering::Acquire));
        (told > self.heard).then(|| {
            self.heard = told;
            told
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the connection was told since it was looked at last.
    fn heard(ear: &mut Ear) -> Option<Told> {
        match ear.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(told) => Some(told),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_has_been_idle_for_longest_gives_way_and_who_is_busy_or_new_does_not() {
        let crowd = Arc::new(Crowd::new());
        let [first, busy, second] = [(); 3].map(|()| crowd.seat());
        let mut ears = [&first, &busy, &second].map(Seat::ear);
        for seat in [&busy, &second, &first] {
            seat.sit();
        }
        busy.stand();
        let before = crowd.now_ns();
        while crowd.now_ns() == before {}
        // It had a request meanwhile, so the other has waited for longer.
        first.sit();
        assert!(!crowd.ask_one_to_leave(), "all are new");
        let later = crowd.now_ns() + u64::try_from(IDLE_KEPT.as_nanos()).unwrap();
        for expected in [2, 0] {
            assert!(crowd.ask_at(later));
            let told: Vec<_> = ears.iter_mut().map(heard).collect();
            let is_the_one = |at| (at == expected).then_some(Told::End);
            assert_eq!(told, [0, 1, 2].map(is_the_one));
        }
        assert!(!crowd.ask_at(later));
        drop((first, busy, second));
        assert!(crowd.lock().taken.is_empty());
    }

    #[test]
    fn so_many_may_linger_and_each_that_ends_makes_room_for_one() {
        let crowd = Arc::new(Crowd::new());
        let seat = crowd.seat();
        let mut all: Vec<_> = (0..LINGERING_MAX).map(|_| seat.lingering().unwrap()).collect();
        assert!(seat.lingering().is_none() && seat.lingering().is_none());
        drop(all.pop());
        all.push(seat.lingering().unwrap());
        assert!(seat.lingering().is_none());
    }

    #[test]
    fn all_are_told_and_so_is_who_comes_later_and_each_thing_once() {
        let crowd = Arc::new(Crowd::new());
        let seat = crowd.seat();
        let mut ear = seat.ear();
        assert_eq!(heard(&mut ear), None);
        crowd.tell_all(Told::End);
        assert_eq!([heard(&mut ear), heard(&mut ear)], [Some(Told::End), None]);
        let late = crowd.seat();
        assert_eq!(heard(&mut late.ear()), Some(Told::End));
        crowd.tell_all(Told::Cut);
        // What is asked of idle ones does not take back what all were told.
        seat.place.tell(Told::End);
        assert_eq!([heard(&mut ear), heard(&mut ear)], [Some(Told::Cut), None]);
    }

    #[test]
    fn a_connection_that_sleeps_is_woken_when_it_is_told_something() {
        struct Counter(AtomicU64);
        impl std::task::Wake for Counter {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let counter = Arc::new(Counter(AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&counter));
        let crowd = Arc::new(Crowd::new());
        let seat = crowd.seat();
        let mut ear = seat.ear();
        assert!(ear.poll(&mut Context::from_waker(&waker)).is_pending());
        crowd.tell_all(Told::End);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        assert_eq!(ear.poll(&mut Context::from_waker(&waker)), Poll::Ready(Told::End));
    }
}
