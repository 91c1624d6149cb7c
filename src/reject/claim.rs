//! Whose sink it is.
//!
//! Reports, marks and rejections are named by the numbers of one log's frames. Another log counts from 1 as well,
//! and would write over them: so a sink belongs to one gateway, which says so in an object at the top of it:
//!
//! ```text
//! .owner.json
//! {"gateway":"0b7c..","host":"edge-7","since":"2026-11-23T10:00:00Z"}
//! ```
//!
//! No report's key begins with a dot ([`crate::object::encode`]). Whoever finds no such object makes one that was not
//! there before, reads it back, and goes on if the name in it is its own. A start that finds another's is
//! refused. A sink that was away at the start is looked at before the first write; where it turns out to be
//! another's, nothing is written, and the log holds what was refused, as for a sink that is away. The owner is
//! looked up again every minute, so that a gateway whose sink was taken over notices.
//!
//! A lost data folder takes its gateway's name with it. `tidegate wal begin --take-rejects` makes the sink the new
//! gateway's, whose log then begins behind the last frame that the sink knows.
//!
//! | who asks | when it is another's |
//! |---|---|
//! | a start | is refused |
//! | a report, a mark | waits in the log, as for a sink that is away |
//! | the removal of old days | removes nothing |
//! | a look through the server | is answered 503, with these words |
//! | a look at the sink itself (`rejects ls --config ..`) | reads it |

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::Moment;
use crate::base::clock::SharedClock;
use crate::object::{ObjectError, Store, Trouble};

/// The key of the object that says whose it is.
pub const OWNER: &str = ".owner.json";

/// How long a look at the owner holds good.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Longest time that a start waits for a sink that does not answer.
const START_WAITS: Duration = Duration::from_secs(3);

/// Who has a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The gateway's name, as its data folder has it.
    pub gateway: String,
    /// The machine that it ran on when it began; empty where that is unknown.
    #[serde(default)]
    pub host: String,
    /// Since when.
    pub since: Moment,
}

/// Why a sink cannot be used.
#[derive(Debug, thiserror::Error)]
enum Taken {
    #[error(
        "it is the reject sink of gateway {}{} since {}, and reports are named by the numbers of one log: \
         give rejects.url a prefix of its own; where that gateway is gone for good, \
         `tidegate wal begin --take-rejects` begins a log that goes on with its sink",
        .0.gateway, on(&.0.host), .0.since
    )]
    Another(Owner),
    #[error(
        "it says whose reject sink it is, and is not what a gateway writes there, {{\"gateway\":..}}: {0}; put it \
         right, or give rejects.url a prefix of its own"
    )]
    Unreadable(String),
}

/// The machine, where it is known.
fn on(host: &str) -> String {
    if host.is_empty() { String::new() } else { format!(" on {host}") }
}

/// A gateway's claim to a sink.
#[derive(Debug)]
pub struct Claim {
    store: Arc<Store>,
    gateway: String,
    clock: SharedClock,
    /// When it was last seen to hold, by the monotonic clock.
    seen: Mutex<Option<Duration>>,
}

impl Claim {
    /// The claim of `gateway` to the sink in `store`; nobody is asked yet.
    pub fn new(store: Arc<Store>, gateway: String, clock: SharedClock) -> Self {
        Self { store, gateway, clock, seen: Mutex::default() }
    }

    /// Sees at a start whether the sink is this gateway's. One that is away passes, and is asked again before
    /// anything is written.
    ///
    /// # Errors
    ///
    /// [`Trouble::Taken`] where it is another's.
    pub fn check(&self) -> Result<(), ObjectError> {
        self.settle(&self.store.within(START_WAITS)).or_else(but_taken)
    }

    /// Sees that it is not another's, for whoever only reads.
    ///
    /// # Errors
    ///
    /// [`Trouble::Taken`] where it is.
    pub fn check_read(&self) -> Result<(), ObjectError> {
        self.hold().or_else(but_taken)
    }

    /// Sees that the sink is this gateway's, and makes it so where it is nobody's.
    ///
    /// # Errors
    ///
    /// [`Trouble::Taken`] where it is another's, and any error of a sink that is away. Nothing may be written
    /// then.
    pub fn hold(&self) -> Result<(), ObjectError> {
        self.settle(&self.store)
    }

    fn settle(&self, store: &Store) -> Result<(), ObjectError> {
        // Held meanwhile: one look serves all shards. What is in it is whole after a panic too.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        if seen.is_some_and(|at| now.saturating_sub(at) < LOOK_AGAIN) {
            return Ok(());
        }
        *seen = None;
        if owner(store)?.is_none() {
            self.make(store)?;
        }
        match owner(store)? {
            Some(owner) if owner.gateway == self.gateway => {
                *seen = Some(now);
                Ok(())
            }
            Some(owner) => Err(ObjectError::taken(store.place(), OWNER, Taken::Another(owner))),
            // Removed this moment.
            None => self.make(store),
        }
    }

    /// Writes the claim where there is none.
    fn make(&self, store: &Store) -> Result<(), ObjectError> {
        let json = self.json();
        // Somebody may have been faster, or the service does not know how to create only: a look tells.
        match store.put_new(OWNER, json.clone()) {
            Err(_refused) if owner(store)?.is_none() => store.put(OWNER, json),
            _ => Ok(()),
        }
    }

    /// Makes the sink this gateway's, whoever had it, and says who that was.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]: it may be this gateway's already.
    pub fn take(&self) -> Result<Option<Owner>, ObjectError> {
        let before = owner(&self.store)?;
        if before.as_ref().is_none_or(|owner| owner.gateway != self.gateway) {
            self.store.put(OWNER, self.json())?;
        }
        Ok(before)
    }

    fn json(&self) -> Vec<u8> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let owner = Owner {
            gateway: self.gateway.clone(),
            host: host.trim().to_owned(),
            since: Moment(self.clock.wall_ns()),
        };
        serde_json::to_vec(&owner).expect("texts always serialise")
    }
}

/// Who has a sink; `None` where nobody has it yet.
///
/// # Errors
///
/// [`ObjectError`] when it is away; [`Trouble::Taken`] where what says so cannot be read.
pub fn owner(store: &Store) -> Result<Option<Owner>, ObjectError> {
    let bytes = match store.get(OWNER) {
        Err(error) if error.trouble() == Trouble::NotFound => return Ok(None),
        read => read?,
    };
    let unreadable = |error: serde_json::Error| {
        ObjectError::taken(store.place(), OWNER, Taken::Unreadable(error.to_string()))
    };
    serde_json::from_slice(&bytes).map(Some).map_err(unreadable)
}

/// Passes over every error but that it is another's.
fn but_taken(error: ObjectError) -> Result<(), ObjectError> {
    if error.trouble() == Trouble::Taken { Err(error) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;
    use crate::base::fs::publish;

    struct Sink {
        dir: tempfile::TempDir,
        store: Arc<Store>,
        clock: Arc<ManualClock>,
    }

    fn sink() -> Sink {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::in_directory(dir.path()).unwrap());
        Sink { dir, store, clock: ManualClock::at(0) }
    }

    impl Sink {
        fn claim(&self, gateway: &str) -> Claim {
            let clock = Arc::clone(&self.clock) as SharedClock;
            Claim::new(Arc::clone(&self.store), gateway.to_owned(), clock)
        }
    }

    fn trouble(result: Result<(), ObjectError>) -> Option<Trouble> {
        result.err().map(|error| error.trouble())
    }

    #[test]
    fn the_first_has_it_and_another_is_told_whose_it_is() {
        let sink = sink();
        sink.claim("one").hold().unwrap();
        sink.claim("one").check().unwrap();
        let other = sink.claim("other");
        assert_eq!(trouble(other.check()), Some(Trouble::Taken));
        assert_eq!(trouble(other.check_read()), Some(Trouble::Taken));
        let error = other.hold().unwrap_err();
        for part in ["the reject sink of gateway one on ", "since 1970-01-01T00:00:00Z", "prefix"] {
            assert!(error.plain().contains(part), "{}", error.plain());
        }
    }

    #[test]
    fn of_many_at_once_one_gets_it() {
        let sink = sink();
        let claims: Vec<Claim> = (0..8).map(|n| sink.claim(&n.to_string())).collect();
        let held = std::thread::scope(|scope| {
            let threads: Vec<_> =
                claims.iter().map(|claim| scope.spawn(|| claim.hold().is_ok())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|held| *held).count()
        });
        assert_eq!(held, 1);
    }

    #[test]
    fn a_gateway_whose_sink_was_taken_over_notices_within_a_minute() {
        let sink = sink();
        let (one, other) = (sink.claim("one"), sink.claim("other"));
        one.hold().unwrap();
        assert_eq!(other.take().unwrap().unwrap().gateway, "one");
        other.hold().unwrap();
        sink.clock.advance(LOOK_AGAIN.saturating_sub(Duration::from_nanos(1)));
        one.hold().expect("a look holds good for a minute");
        sink.clock.advance(Duration::from_nanos(1));
        assert_eq!(trouble(one.hold()), Some(Trouble::Taken));
        assert_eq!(trouble(one.hold()), Some(Trouble::Taken), "a refusal is not forgotten");
    }

    #[test]
    fn a_sink_that_is_away_passes_a_start_and_takes_no_report() {
        let sink = sink();
        let claim = sink.claim("one");
        let away = sink.dir.path().with_extension("away");
        publish(sink.dir.path(), &away).unwrap();
        claim.check().unwrap();
        claim.check_read().unwrap();
        assert_eq!(trouble(claim.hold()), Some(Trouble::Away));
        publish(&away, sink.dir.path()).unwrap();
        claim.hold().unwrap();
    }

    #[test]
    fn what_is_no_owner_is_not_written_over() {
        let sink = sink();
        std::fs::write(sink.dir.path().join(OWNER), "mine").unwrap();
        let error = sink.claim("one").check().unwrap_err();
        assert!(error.plain().contains("not what a gateway writes there"), "{}", error.plain());
        assert_eq!(std::fs::read(sink.dir.path().join(OWNER)).unwrap(), b"mine");
    }
}
