//! The answers to the last writes, so that a client that did not hear one and asks again hears it.
//!
//! Executing a write again is harmless to what is stored, by the version rule, as long as its records
//! have times and versions of their own; and even then not always to the answer: where two records of
//! one request are of one key, the second execution finds the second record standing and refuses the
//! first as lower; and where somebody else has written a higher version in between, it refuses what was
//! taken. A second `CreateTable` finds the table there, a second `DeleteTable` does not. So the answer is kept, by the caller's name and an id that tells repetitions from new calls:
//!
//! | calls | id | age at most | bytes at most |
//! |---|---|---|---|
//! | Timestream's, of which SDKs repeat those whose connection broke | `amz-sdk-invocation-id` and the body | [`SDK_LIMITS`] | there |
//! | Timestream's with a key of the caller's | `Idempotency-Key` | [`KEYED_LIMITS`] | there |
//! | all other writes ([`super::write`](mod@super::write)) | `Idempotency-Key` | [`KEYED_LIMITS`] | there |
//!
//! - A repetition that arrives while the first is still under way waits for that one's answer. The
//!   first goes on when its connection breaks.
//! - Only answers that say what was stored are kept: after an error the request is executed again.
//! - An id that comes again with another content is a mistake of the client, and told as one.
//! - The oldest answers go first when there are too many; that is counted
//!   (`tidegate_api_answers_forgotten_total`). None outlives the process: after a restart a repetition
//!   is executed again.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::watch;
use xxhash_rust::xxh3::Xxh3;

use crate::base::clock::SharedClock;

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long an answer is kept.
    pub age: Duration,
    /// Most bytes of all answers that are kept.
    pub bytes: usize,
}

/// For SDKs: longer than any goes on trying.
pub const SDK_LIMITS: Limits = Limits { age: Duration::from_mins(10), bytes: 32 << 20 };

/// For who sends a key: a day, in which about 200,000 answers without refusals fit.
pub const KEYED_LIMITS: Limits = Limits { age: Duration::from_hours(24), bytes: 64 << 20 };

/// What an answer takes beside what it holds: its own size, and its places in both lists.
const ENTRY_BYTES: usize = 320;

/// What is kept of a call.
pub trait Answer {
    /// Bytes that it holds beside itself.
    fn bytes(&self) -> usize;
}

/// What tells one thing from another in all likelihood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u128);

/// A call of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The same for its repetitions, and for no other call that means something else.
    pub id: Digest,
    /// What it asks.
    pub content: Digest,
}

/// What everybody who waits for an answer hears; `None` until it is there.
type Heard<A> = Option<Arc<A>>;

/// The answers.
#[derive(Debug)]
pub struct Answers<A> {
    clock: SharedClock,
    limits: Limits,
    /// Answers that went before their time.
    forgotten: IntCounter,
    /// Keeps others from finding two calls with one digest.
    seed: u64,
    inner: Mutex<Inner<A>>,
}

#[derive(Debug)]
struct Inner<A> {
    /// With their contents.
    calls: HashMap<Digest, (Digest, State<A>)>,
    /// Those that are answered, the oldest first, with the time and their bytes.
    answered: VecDeque<(Duration, Digest, usize)>,
    bytes: usize,
}

#[derive(Debug)]
enum State<A> {
    Running(watch::Receiver<Heard<A>>),
    Answered(Arc<A>),
}

/// What a call is.
#[derive(Debug)]
pub enum Begin<A: Answer> {
    /// The first of its kind: to be executed.
    First(Ticket<A>),
    /// A repetition of one that is under way.
    Running(watch::Receiver<Heard<A>>),
    /// A repetition of one that was answered.
    Answered(Arc<A>),
    /// Its id is that of a call with another content.
    Other,
}

/// The right to execute a call. Dropped without an answer, the next repetition executes it.
#[derive(Debug)]
pub struct Ticket<A: Answer> {
    answers: Arc<Answers<A>>,
    call: Call,
    sender: watch::Sender<Heard<A>>,
    /// Then what stands under the id is no longer this call's to take away: another's, maybe.
    is_answered: bool,
}

impl<A: Answer> Answers<A> {
    /// No answers yet; `forgotten` counts those that go before their time.
    pub fn new(clock: SharedClock, limits: Limits, forgotten: IntCounter) -> Self {
        let seed = RandomState::new().hash_one(0);
        let inner = Inner { calls: HashMap::new(), answered: VecDeque::new(), bytes: 0 };
        Self { clock, limits, forgotten, seed, inner: Mutex::new(inner) }
    }

    /// The digest of these parts.
    pub fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut hash = Xxh3::with_seed(self.seed);
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Digest(hash.digest128())
    }

    /// Begins a call, or finds that it is a repetition.
    pub fn begin(self: &Arc<Self>, call: Call) -> Begin<A> {
        let mut inner = self.lock();
        self.forget(&mut inner);
        match inner.calls.get(&call.id) {
            Some((content, _)) if *content != call.content => Begin::Other,
            Some((_, State::Running(receiver))) => Begin::Running(receiver.clone()),
            Some((_, State::Answered(answer))) => Begin::Answered(Arc::clone(answer)),
            None => {
                let (sender, receiver) = watch::channel(None);
                inner.calls.insert(call.id, (call.content, State::Running(receiver)));
                let answers = Arc::clone(self);
                Begin::First(Ticket { answers, call, sender, is_answered: false })
            }
        }
    }

    /// Lets go of what is too old, or too much.
    fn forget(&self, inner: &mut Inner<A>) {
        let now = self.clock.monotonic();
        while let Some((time, id, bytes)) = inner.answered.front().copied() {
            let is_old = now.saturating_sub(time) >= self.limits.age;
            if !is_old && inner.bytes <= self.limits.bytes {
                return;
            }
            inner.answered.pop_front();
            inner.calls.remove(&id);
            inner.bytes -= bytes;
            self.forgotten.inc_by(u64::from(!is_old));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<A>> {
        // A panic in here leaves at worst an answer that nobody finds.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Answer> Ticket<A> {
    /// Keeps the answer, and tells it to those who wait.
    pub fn answered(mut self, answer: &Arc<A>) {
        self.is_answered = true;
        let bytes = ENTRY_BYTES + answer.bytes();
        let Call { id, content } = self.call;
        let mut inner = self.answers.lock();
        inner.calls.insert(id, (content, State::Answered(Arc::clone(answer))));
        inner.answered.push_back((self.answers.clock.monotonic(), id, bytes));
        inner.bytes += bytes;
        // Now rather than at the next call, which may never come.
        self.answers.forget(&mut inner);
        drop(inner);
        self.sender.send_replace(Some(Arc::clone(answer)));
    }
}

impl<A: Answer> Drop for Ticket<A> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answers.lock().calls.remove(&self.call.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;

    #[derive(Debug)]
    struct Sized(usize);

    impl Answer for Sized {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    fn answers(clock: SharedClock) -> Arc<Answers<Sized>> {
        let forgotten = IntCounter::new("forgotten", "answers").unwrap();
        Arc::new(Answers::new(clock, SDK_LIMITS, forgotten))
    }

    fn call(answers: &Answers<Sized>, id: &[&[u8]], content: &[u8]) -> Call {
        Call { id: answers.digest(id), content: answers.digest(&[content]) }
    }

    fn first(answers: &Arc<Answers<Sized>>, call: Call) -> Ticket<Sized> {
        match answers.begin(call) {
            Begin::First(ticket) => ticket,
            other => panic!("not the first: {other:?}"),
        }
    }

    #[test]
    fn a_repetition_hears_the_first_answer_and_another_call_does_not() {
        let answers = answers(ManualClock::at(0));
        let kept = call(&answers, &[b"ann", b"id"], b"body");
        let ticket = first(&answers, kept);
        let Begin::Running(mut waiting) = answers.begin(kept) else { panic!("it runs") };
        let other = call(&answers, &[b"ann", b"id"], b"bodx");
        assert!(matches!(answers.begin(other), Begin::Other));
        ticket.answered(&Arc::new(Sized(100)));
        assert_eq!(waiting.borrow_and_update().as_ref().unwrap().bytes(), 100);
        assert!(matches!(answers.begin(kept), Begin::Answered(found) if found.bytes() == 100));
        assert!(matches!(answers.begin(other), Begin::Other));
        for id in [[&b"bob"[..], b"id"], [b"ann", b"id2"], [b"anni", b"d"]] {
            drop(first(&answers, call(&answers, &id, b"body")));
        }
    }

    #[test]
    fn a_call_that_ended_without_an_answer_is_executed_again_with_any_content() {
        let answers = answers(ManualClock::at(0));
        drop(first(&answers, call(&answers, &[b"id"], b"1")));
        drop(first(&answers, call(&answers, &[b"id"], b"1")));
        drop(first(&answers, call(&answers, &[b"id"], b"2")));
    }

    #[test]
    fn what_is_kept_is_bounded_in_time_and_bytes_and_the_oldest_goes_first() {
        let clock = ManualClock::at(0);
        let answers = answers(Arc::clone(&clock) as SharedClock);
        let numbered = |at: u32| call(&answers, &[at.to_string().as_bytes()], b"");
        for at in 0..4 {
            first(&answers, numbered(at)).answered(&Arc::new(Sized(SDK_LIMITS.bytes / 3)));
            assert!(answers.lock().bytes <= SDK_LIMITS.bytes);
        }
        assert_eq!(answers.forgotten.get(), 2);
        for at in 0..2 {
            drop(first(&answers, numbered(at)));
        }
        assert!(matches!(answers.begin(numbered(3)), Begin::Answered(_)));
        clock.advance(SDK_LIMITS.age);
        drop(first(&answers, numbered(3)));
        assert_eq!((answers.lock().bytes, answers.forgotten.get()), (0, 2));
    }
}
