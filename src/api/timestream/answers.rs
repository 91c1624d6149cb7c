//! The answers to the last writes, so that a client that did not hear one and asks again hears it.
//!
//! SDKs repeat a request whose connection broke, under the same `amz-sdk-invocation-id`. Executing it
//! again is harmless to what is stored, by the version rule, but not always to the answer: where two
//! records of one request are of one key, the second execution finds the second record standing and
//! refuses the first as lower; and where somebody else has written a higher version in between, it
//! refuses what was taken. So the answer is kept, by the caller's name, the invocation id and the body.
//!
//! - A repetition that arrives while the first is still under way waits for that one's answer. The
//!   first goes on when its connection breaks.
//! - Only answers that say what was stored are kept: after an error the request is executed again.
//! - Kept for [`AGE_MAX`], longer than any SDK goes on trying, and in at most [`BYTES_MAX`]; the oldest
//!   go first. They do not outlive the process: after a restart a repetition is executed again.
//! - A request without an invocation id is executed each time that it is sent.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use xxhash_rust::xxh3::Xxh3;

use super::write::Written;
use crate::base::clock::SharedClock;

/// How long an answer is kept.
pub const AGE_MAX: Duration = Duration::from_mins(10);

/// Most bytes of all answers that are kept.
pub const BYTES_MAX: usize = 32 << 20;

/// What an answer takes beside the texts of its rejections: its places in both lists.
const ENTRY_BYTES: usize = 160;

/// A call of a client: the same for its repetitions, and for no other call in all likelihood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u128);

/// What everybody who waits for an answer hears; `None` until it is there.
type Heard = Option<Arc<Written>>;

/// The answers.
#[derive(Debug)]
pub struct Answers {
    clock: SharedClock,
    /// Keeps others from finding two calls with one key.
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    calls: HashMap<Key, Call>,
    /// Those that are answered, the oldest first, with the time and their bytes.
    answered: VecDeque<(Duration, Key, usize)>,
    bytes: usize,
}

#[derive(Debug)]
enum Call {
    Running(watch::Receiver<Heard>),
    Answered(Arc<Written>),
}

/// What a call is.
#[derive(Debug)]
pub enum Begin {
    /// The first of its kind: to be executed.
    First(Ticket),
    /// A repetition of one that is under way.
    Running(watch::Receiver<Heard>),
    /// A repetition of one that was answered.
    Answered(Arc<Written>),
}

/// The right to execute a call. Dropped without an answer, the next repetition executes it.
#[derive(Debug)]
pub struct Ticket {
    answers: Arc<Answers>,
    key: Key,
    sender: watch::Sender<Heard>,
}

impl Answers {
    /// No answers yet.
    pub fn new(clock: SharedClock) -> Self {
        let seed = RandomState::new().hash_one(0);
        Self { clock, seed, inner: Mutex::default() }
    }

    /// The call that a caller gave this id.
    pub fn key(&self, caller: &str, invocation: &str, body: &[u8]) -> Key {
        let mut hash = Xxh3::with_seed(self.seed);
        for part in [caller.as_bytes(), invocation.as_bytes(), body] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Key(hash.digest128())
    }

    /// Begins a call, or finds that it is a repetition.
    pub fn begin(self: &Arc<Self>, key: Key) -> Begin {
        let mut inner = self.lock();
        inner.forget(self.clock.monotonic());
        match inner.calls.get(&key) {
            Some(Call::Running(receiver)) => Begin::Running(receiver.clone()),
            Some(Call::Answered(written)) => Begin::Answered(Arc::clone(written)),
            None => {
                let (sender, receiver) = watch::channel(None);
                inner.calls.insert(key, Call::Running(receiver));
                Begin::First(Ticket { answers: Arc::clone(self), key, sender })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in here leaves at worst an answer that nobody finds.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Lets go of what is too old, or too much.
    fn forget(&mut self, now: Duration) {
        while let Some((time, key, bytes)) = self.answered.front().copied() {
            if now.saturating_sub(time) < AGE_MAX && self.bytes <= BYTES_MAX {
                return;
            }
            self.answered.pop_front();
            self.calls.remove(&key);
            self.bytes -= bytes;
        }
    }
}

impl Ticket {
    /// Keeps the answer, and tells it to those who wait.
    pub fn answered(self, written: &Arc<Written>) {
        let bytes = ENTRY_BYTES + written.bytes();
        let mut inner = self.answers.lock();
        inner.calls.insert(self.key, Call::Answered(Arc::clone(written)));
        inner.answered.push_back((self.answers.clock.monotonic(), self.key, bytes));
        inner.bytes += bytes;
        drop(inner);
        self.sender.send_replace(Some(Arc::clone(written)));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.answers.lock();
        if matches!(inner.calls.get(&self.key), Some(Call::Running(_))) {
            inner.calls.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;

    fn written(bytes: usize) -> Arc<Written> {
        Arc::new(Written::for_test(bytes))
    }

    fn first(answers: &Arc<Answers>, key: Key) -> Ticket {
        match answers.begin(key) {
            Begin::First(ticket) => ticket,
            other => panic!("not the first: {other:?}"),
        }
    }

    #[test]
    fn a_repetition_hears_the_first_answer_and_another_body_or_caller_does_not() {
        let answers = Arc::new(Answers::new(ManualClock::at(0)));
        let key = answers.key("ann", "id", b"body");
        let ticket = first(&answers, key);
        let Begin::Running(mut waiting) = answers.begin(key) else { panic!("it runs") };
        ticket.answered(&written(100));
        assert_eq!(waiting.borrow_and_update().as_ref().unwrap().bytes(), 100);
        assert!(matches!(answers.begin(key), Begin::Answered(found) if found.bytes() == 100));
        for other in [
            answers.key("bob", "id", b"body"),
            answers.key("ann", "id2", b"body"),
            answers.key("ann", "id", b"bodx"),
            answers.key("ann", "idb", b"ody"),
        ] {
            drop(first(&answers, other));
        }
    }

    #[test]
    fn a_call_that_ended_without_an_answer_is_executed_again() {
        let answers = Arc::new(Answers::new(ManualClock::at(0)));
        let key = answers.key("", "id", b"");
        drop(first(&answers, key));
        drop(first(&answers, key));
    }

    #[test]
    fn what_is_kept_is_bounded_in_time_and_bytes_and_the_oldest_goes_first() {
        let clock = ManualClock::at(0);
        let answers = Arc::new(Answers::new(Arc::clone(&clock) as SharedClock));
        let key = |at: u32| answers.key("", &at.to_string(), b"");
        let third = BYTES_MAX / 3;
        for at in 0..4 {
            first(&answers, key(at)).answered(&written(third));
        }
        drop(first(&answers, key(0)));
        assert!(matches!(answers.begin(key(3)), Begin::Answered(_)));
        assert!(answers.lock().bytes <= BYTES_MAX);
        clock.advance(AGE_MAX);
        drop(first(&answers, key(3)));
        assert_eq!(answers.lock().bytes, 0);
    }
}
