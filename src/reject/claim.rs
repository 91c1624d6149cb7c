//! Whose sink it is.
//!
//! Reports, marks and rejections are named by the numbers of one log's frames. Another log counts from 1 as well,
//! and would write over them: so a sink belongs to one gateway and its log, which an object at the top of it says:
//!
//! ```text
//! .owner.json
//! {"gateway":"0b7c..","host":"edge-7","since":"2026-11-23T10:00:00Z","reported":4711,"reserved":1053439}
//! ```
//!
//! No report's key begins with a dot ([`crate::object::encode`]). Whoever finds no such object makes one, reads it
//! back, and goes on if the name in it is its own.
//!
//! `reserved` is what makes it safe: **a report or mark of a frame is written only when a number as high is
//! reserved.** Numbers are reserved a million ahead, so that this costs a write now and then. A log that takes over the
//! sink begins behind what is reserved: whatever the gateway before it still writes, their names never meet.
//! `reported` is a frame that was given when the object was written: a log that ends before it lost its end, or is an
//! older copy, and would give the numbers of reported frames again. It is written with the first new frame that a
//! process reports, every ten seconds while it reports, and when it stops. What is reported in between, an older copy
//! of the log meets in the objects themselves: a rejection of a new frame that is there already, and says something
//! else, is not written over ([`super::shared`]).
//!
//! | who asks | when it is another's, or has what this log never gave |
//! |---|---|
//! | a start of the server | is refused |
//! | a report, a mark | waits in the log, as for a sink that is away |
//! | the removal of old days | removes nothing |
//! | a look through the server | is answered 503 |
//! | a look at the sink itself (`rejects ls --config ..`), `export` | is served |
//!
//! A sink that is away at the start is asked again before the first write. The owner is looked up again with the
//! first write ten seconds later, so that a gateway whose sink was taken over says so. A copy of a data folder has the
//! same name as the original, and is not told from it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::entry::Moment;
use super::key::{BLOCK_FRAMES, Block};
use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::object::{ObjectError, Store, Trouble};

/// The key of the object that says whose it is.
pub const OWNER: &str = ".owner.json";

/// Most bytes of it. A gateway writes two hundred; whoever else can write to the bucket may write more.
const OWNER_BYTES_MAX: u64 = 4096;

/// How many numbers are reserved ahead: at 60,000 frames/s with a rejection each, a write in seventeen seconds.
const RESERVED_AHEAD: u64 = 1 << 20;

/// How long a look at the owner holds good, and after how long the sink is told of new frames.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Longest time that a look waits for an answer of the sink, a call.
const LOOK_WAITS: Duration = Duration::from_secs(10);

/// The same of a start, which goes on without.
const START_WAITS: Duration = Duration::from_secs(3);

/// Who has a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The gateway's name, as its data folder has it.
    pub gateway: String,
    /// The machine that it ran on when it began; empty where that is unknown.
    #[serde(default)]
    pub host: String,
    /// Since when, RFC 3339; for people.
    #[serde(default)]
    pub since: String,
    /// A frame that its log had given when this was written; absent where somebody wrote this by hand, so that the
    /// reports themselves must tell.
    #[serde(default)]
    pub reported: Option<Lsn>,
    /// Frames up to this one may have reports and marks.
    #[serde(default)]
    pub reserved: Lsn,
}

/// What a sink says of its owner.
#[derive(Debug)]
pub enum Found {
    /// Nothing: it is nobody's yet.
    Nobody,
    /// This one.
    Owner(Owner),
    /// Something that no gateway writes; why.
    Unreadable(String),
}

/// Why a sink cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Taken {
    /// Another gateway has it.
    #[error(
        "it is the reject sink of gateway {0}, and reports are named by the numbers of one log: give rejects.url a \
         prefix of its own; where that gateway is gone for good, `tidegate wal begin --take-rejects` begins a log \
         that goes on with its sink; where this is its folder and the file gateway-id was lost, write that name into it"
    )]
    Another(Owner),
    /// The log has not given what it has reports of.
    #[error(
        "it has reports of frames up to {reported} at least, and the log ends at {ended}: the log lost its end, or is \
         an older copy, and would write over them; put the right log back, or give rejects.url a prefix of its own; \
         where the log is lost for good, `tidegate wal begin` begins one behind them"
    )]
    Ahead {
        /// What it has.
        reported: Lsn,
        /// The last frame of the log when it was opened.
        ended: Lsn,
    },
    /// Nobody knows whose it is.
    #[error(
        "it should say whose reject sink it is, {{\"gateway\":\"NAME\"}}, and cannot be read: {0}; write the name of \
         its gateway there, which that one's data folder has as gateway-id, or give rejects.url a prefix of its own"
    )]
    Unreadable(String),
}

/// What another thread's look came to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{told}")]
struct Failure {
    told: String,
    trouble: Trouble,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever can write to the bucket wrote this: no byte of it may move a terminal's cursor.
        let plain = |text: &str| -> String {
            text.chars()
                .filter(|c| c.is_ascii_alphanumeric() || "-_.:+".contains(*c))
                .take(100)
                .collect()
        };
        let (host, since) = (plain(&self.host), plain(&self.since));
        write!(f, "{}", plain(&self.gateway))?;
        if !host.is_empty() {
            write!(f, " on {host}")?;
        }
        if since.is_empty() { Ok(()) } else { write!(f, " since {since}") }
    }
}

/// A gateway's claim to a sink.
#[derive(Debug)]
pub struct Claim {
    store: Arc<Store>,
    gateway: String,
    /// The last frame of the log when it was opened.
    ended: Lsn,
    clock: SharedClock,
    state: Mutex<State>,
    /// A look has ended.
    looked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// Whether this process has held it before.
    was_held: bool,
    /// Whether it has told the sink of a frame: what a copy of its folder lacks should show soon.
    has_told: bool,
    /// The last frame that was asked for, and the last that the sink was told of.
    last: Lsn,
    told: Lsn,
    /// Whether a thread asks the sink: the others wait for what it hears.
    is_asking: bool,
    /// How the last look failed.
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    reserved: Lsn,
    /// When it was seen, by the monotonic clock.
    at: Duration,
}

/// Ends a look, also one that panics: the others would wait for ever.
struct Asking<'c>(&'c Claim);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.state().is_asking = false;
        self.0.looked.notify_all();
    }
}

impl Claim {
    /// The claim of `gateway`, whose log ended at `ended` when it was opened, to the sink in `store`; nobody is
    /// asked yet.
    pub fn new(store: Arc<Store>, gateway: String, ended: Lsn, clock: SharedClock) -> Self {
        Self { store, gateway, ended, clock, state: Mutex::default(), looked: Condvar::new() }
    }

    /// The sink.
    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What is in it is whole after a panic too.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees at a start whether the sink is this gateway's. One that is away passes, and is asked again before
    /// anything is written.
    ///
    /// # Errors
    ///
    /// [`Trouble::Taken`] where it is another's, [`Trouble::Invalid`] where it never will be this one's.
    pub fn check(&self) -> Result<(), ObjectError> {
        let Err(error) = self.settle(Lsn::ZERO, START_WAITS) else { return Ok(()) };
        if matches!(error.trouble(), Trouble::Taken | Trouble::Invalid) {
            return Err(error);
        }
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        warn!(
            %error,
            cause,
            "cannot see whose the reject sink is; it is asked again before anything is written"
        );
        Ok(())
    }

    /// Sees that it is not another's, for whoever only reads.
    ///
    /// # Errors
    ///
    /// [`Trouble::Taken`] where it is.
    pub fn check_read(&self) -> Result<(), ObjectError> {
        let asked = self.settle(Lsn::ZERO, LOOK_WAITS);
        asked.or_else(|error| if error.trouble() == Trouble::Taken { Err(error) } else { Ok(()) })
    }

    /// Sees that the sink is this gateway's, makes it so where it is nobody's, and reserves numbers up to `lsn`.
    ///
    /// # Errors
    ///
    /// [`Trouble::Taken`] where it is another's, and any error of a sink that is away. Nothing may be written
    /// then.
    pub fn hold(&self, lsn: Lsn) -> Result<(), ObjectError> {
        self.settle(lsn, LOOK_WAITS)
    }

    fn settle(&self, lsn: Lsn, waits: Duration) -> Result<(), ObjectError> {
        let mut state = self.state();
        loop {
            let now = self.clock.monotonic();
            let is_fresh = |held: Held| now.saturating_sub(held.at) < LOOK_AGAIN;
            let is_told = lsn <= self.ended || state.has_told;
            state.last = state.last.max(lsn);
            if is_told && state.held.is_some_and(|held| held.reserved >= lsn && is_fresh(held)) {
                return Ok(());
            }
            if !state.is_asking {
                break;
            }
            while state.is_asking {
                state = self.looked.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if let Some(failure) = &state.failure {
                return Err(ObjectError::told(
                    self.store.place(),
                    OWNER,
                    failure.trouble,
                    failure.clone(),
                ));
            }
        }
        state.is_asking = true;
        let was_held = state.was_held;
        // Not under the lock: a sink may take its time, and `asking` makes the others wait.
        drop(state);
        let asking = Asking(self);
        let found = self.ask(&self.store.within(waits), lsn, was_held);
        let mut state = self.state();
        let now = self.clock.monotonic();
        state.held = found.as_ref().ok().map(|reserved| Held { reserved: *reserved, at: now });
        state.was_held |= state.held.is_some();
        // A frame that is replayed is none that a copy lacks.
        state.has_told |= state.held.is_some() && lsn > self.ended;
        if state.held.is_some() {
            state.told = state.told.max(lsn);
        }
        state.failure = found.as_ref().err().map(Failure::of);
        drop(state);
        drop(asking);
        found.map(drop)
    }

    /// Asks the sink, and reserves numbers up to `lsn`; up to which they are now.
    fn ask(&self, store: &Store, lsn: Lsn, was_held: bool) -> Result<Lsn, ObjectError> {
        match look(store)? {
            Found::Nobody => self.make(store, lsn, was_held),
            Found::Owner(owner) => self.keep(store, owner, lsn, was_held),
            Found::Unreadable(why) => Err(taken(store, Taken::Unreadable(why))),
        }
    }

    /// Sees that `owner` is this gateway, and writes what has changed.
    fn keep(
        &self,
        store: &Store,
        owner: Owner,
        lsn: Lsn,
        was_held: bool,
    ) -> Result<Lsn, ObjectError> {
        if owner.gateway != self.gateway {
            return Err(taken(store, Taken::Another(owner)));
        }
        let known = owner.reported.map_or_else(|| super::last_reported(&self.store), Ok)?;
        if !was_held {
            self.check_given(store, known)?;
        }
        // At a start: frames that the log has, and of which there may be reports.
        let reported = lsn.max(self.ended.min(owner.reserved)).max(known);
        if Some(reported) == owner.reported {
            return Ok(owner.reserved);
        }
        let ahead = if lsn > known { ahead_of(lsn) } else { known };
        let reserved = owner.reserved.max(ahead);
        let owner = Owner { reported: Some(reported), reserved, ..owner };
        store.put(OWNER, json(&owner))?;
        Ok(owner.reserved)
    }

    /// Makes the sink this gateway's, which is nobody's. It may have reports from before sinks had owners.
    fn make(&self, store: &Store, lsn: Lsn, was_held: bool) -> Result<Lsn, ObjectError> {
        let known = super::last_reported(&self.store)?;
        if !was_held {
            self.check_given(store, known)?;
        }
        let reported = known.max(lsn);
        let reserved = if lsn == Lsn::ZERO { reported } else { ahead_of(reported) };
        let owner = json(&self.owner(reported, reserved));
        let made = store.put_new(OWNER, owner.clone());
        // Somebody may have been quicker, or the service cannot do this: a look tells.
        if let (Err(_), Found::Nobody) = (made, look(store)?) {
            store.put(OWNER, owner)?;
        }
        match look(store)? {
            Found::Owner(owner) => self.keep(store, owner, lsn, true),
            Found::Unreadable(why) => Err(taken(store, Taken::Unreadable(why))),
            Found::Nobody => {
                let told = Failure {
                    told: "it is gone as soon as it is written".to_owned(),
                    trouble: Trouble::Away,
                };
                Err(ObjectError::told(store.place(), OWNER, Trouble::Away, told))
            }
        }
    }

    /// Tells the sink of the last frame that was reported, at an orderly stop: a copy of the folder from before is
    /// found out then. What fails is told by the next start's look at the reports that it meets.
    pub(super) fn tell(&self) {
        let (is_held, last) = {
            let mut state = self.state();
            let is_new = state.last > state.told;
            if is_new {
                // Else the last look would do.
                state.held = None;
            }
            (is_new && state.was_held, state.last)
        };
        if is_held && let Err(error) = self.settle(last, START_WAITS) {
            warn!(%error, "the reject sink was not told of the last frames that it has");
        }
    }

    /// The last frame of the log when it was opened.
    pub(super) const fn ended(&self) -> Lsn {
        self.ended
    }

    /// That the sink has a rejection of frame `lsn`, which this log has only just given.
    pub(super) fn ahead(&self, lsn: Lsn) -> ObjectError {
        taken(&self.store, Taken::Ahead { reported: lsn, ended: self.ended })
    }

    /// Refuses a sink that knows frames which the log has not given.
    fn check_given(&self, store: &Store, reported: Lsn) -> Result<(), ObjectError> {
        if reported <= self.ended {
            return Ok(());
        }
        Err(taken(store, Taken::Ahead { reported, ended: self.ended }))
    }

    /// Makes the sink this gateway's, whoever has it, behind whose frames its log begins after `begun`.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]: it may be this gateway's already.
    pub fn take(&self, begun: Lsn) -> Result<(), ObjectError> {
        self.store.put(OWNER, json(&self.owner(begun, begun)))
    }

    fn owner(&self, reported: Lsn, reserved: Lsn) -> Owner {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Owner {
            gateway: self.gateway.clone(),
            host: host.trim().to_owned(),
            since: Moment(self.clock.wall_ns()).to_string(),
            reported: Some(reported),
            reserved,
        }
    }
}

impl Failure {
    fn of(error: &ObjectError) -> Self {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        Self { told: cause.unwrap_or_else(|| error.to_string()), trouble: error.trouble() }
    }
}

/// Says whose a sink is.
///
/// # Errors
///
/// [`ObjectError`] when it is away.
pub fn look(store: &Store) -> Result<Found, ObjectError> {
    let bytes = match store.get_small(OWNER, OWNER_BYTES_MAX) {
        Err(error) if error.trouble() == Trouble::NotFound => return Ok(Found::Nobody),
        read => read?,
    };
    let Some(bytes) = bytes else {
        return Ok(Found::Unreadable(format!("it has more than {OWNER_BYTES_MAX} bytes")));
    };
    let read = serde_json::from_slice::<Owner>(&bytes);
    Ok(match read {
        Ok(owner) if owner.gateway.trim().is_empty() => {
            Found::Unreadable("it names nobody".to_owned())
        }
        Ok(owner) => Found::Owner(owner),
        Err(error) => Found::Unreadable(error.to_string()),
    })
}

/// Where a log begins that takes over a sink of which frames up to `known` may be written: in a block of its own,
/// with as much between as the gateway before it can have reserved meanwhile.
pub fn behind(known: Lsn) -> Lsn {
    ahead_of(ahead_of(known))
}

/// Up to which frame numbers are reserved for a report of `lsn`: to the end of a block.
fn ahead_of(lsn: Lsn) -> Lsn {
    const { assert!(RESERVED_AHEAD.is_multiple_of(BLOCK_FRAMES), "whole blocks") };
    Block::of(Lsn(lsn.0.saturating_add(RESERVED_AHEAD).min(Lsn::LIMIT.0 - BLOCK_FRAMES))).last()
}

fn taken(store: &Store, why: Taken) -> ObjectError {
    ObjectError::told(store.place(), OWNER, Trouble::Taken, why)
}

fn json(owner: &Owner) -> Vec<u8> {
    serde_json::to_vec(owner).expect("texts and numbers always serialise")
}

#[cfg(test)]
mod tests;
