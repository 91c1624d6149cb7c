//! The queue between the feeder and one worker: bounded in frames, and everything that lies ready goes
//! in and comes out under one lock. A channel hands over one by one, and its receiver looks again and
//! again before it sleeps: at one record a frame that took more of the processors than the engine.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::feeder::Work;

/// A queue of at most `frames_max`.
pub fn bounded(frames_max: usize) -> (Sender, Receiver) {
    assert!(frames_max > 0, "or nothing could pass");
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        filled: Condvar::new(),
        emptied: Condvar::new(),
        frames_max,
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The worker waits for a frame.
    filled: Condvar,
    /// The feeder waits for room.
    emptied: Condvar,
    frames_max: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Work>,
    /// Bytes of payload in them.
    bytes: usize,
    /// The feeder has ended.
    is_closed: bool,
    /// The worker has ended.
    is_abandoned: bool,
}

/// The feeder's end.
#[derive(Debug)]
pub struct Sender(Arc<Shared>);

/// The worker's end.
#[derive(Debug)]
pub struct Receiver(Arc<Shared>);

/// The worker has ended: nobody takes frames any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock but assertions, and a queue is sound between them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Moves frames out of `work`, in order, as many as there is room for; waits up to `wait` where there
    /// is none.
    ///
    /// # Errors
    ///
    /// [`Abandoned`]; what was not taken stays in `work`.
    pub fn send(&self, work: &mut VecDeque<Work>, wait: Duration) -> Result<(), Abandoned> {
        let shared = &*self.0;
        let is_full =
            |state: &mut State| !state.is_abandoned && state.waiting.len() >= shared.frames_max;
        let mut state = shared
            .emptied
            .wait_timeout_while(shared.lock(), wait, is_full)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if state.is_abandoned {
            return Err(Abandoned);
        }
        let was_empty = state.waiting.is_empty();
        let room = shared.frames_max - state.waiting.len();
        for one in work.drain(..room.min(work.len())) {
            state.bytes += one.frame.payload().len();
            state.waiting.push_back(one);
        }
        let is_first = was_empty && !state.waiting.is_empty();
        assert!(state.waiting.len() <= shared.frames_max, "a queue is bounded");
        drop(state);
        // A worker that found something does not sleep before it has found nothing.
        if is_first {
            shared.filled.notify_one();
        }
        Ok(())
    }

    /// Frames that wait.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.filled.notify_one();
    }
}

impl Receiver {
    /// Waits for a frame; how many bytes of payload wait then. `None` once the feeder has ended and all
    /// was taken.
    pub fn wait(&self) -> Option<usize> {
        let is_empty = |state: &mut State| !state.is_closed && state.waiting.is_empty();
        let state = self
            .0
            .filled
            .wait_while(self.0.lock(), is_empty)
            .unwrap_or_else(PoisonError::into_inner);
        (!state.waiting.is_empty()).then_some(state.bytes)
    }

    /// Takes what waits, in order, at most `frames_max`, and none more once `bytes_max` of payload are
    /// taken; and tells how many stay.
    pub fn take(&self, frames_max: usize, bytes_max: usize) -> (Vec<Work>, usize) {
        let mut taken = Vec::new();
        let mut state = self.0.lock();
        let was_full = state.waiting.len() >= self.0.frames_max;
        let mut taken_bytes = 0;
        while taken.len() < frames_max && taken_bytes < bytes_max {
            let Some(one) = state.waiting.pop_front() else { break };
            let bytes = one.frame.payload().len();
            taken_bytes += bytes;
            state.bytes = state.bytes.checked_sub(bytes).expect("it was counted when it came");
            taken.push(one);
        }
        let stay = state.waiting.len();
        assert!(stay > 0 || state.bytes == 0, "the bytes are those of what waits");
        drop(state);
        if was_full {
            self.0.emptied.notify_one();
        }
        (taken, stay)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_abandoned = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        self.0.emptied.notify_one();
        // Outside the lock: each may be the last that holds a segment.
        drop(left);
    }
}
