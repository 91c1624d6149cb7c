//! How long a request waits for the engine: not in silence while the engine itself says that it does not serve, and
//! never until nobody waits for the answer any more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::App;
use crate::base::clock::SharedClock;
use crate::engine::TableEngine;
use crate::ingest::{Ingest, IngestError, UnderWay};

/// How long an engine that says that it does not serve is waited for. Longer than the pause after which it is tried
/// again ([`crate::shard::retry`]): one that has come back is not called away.
const AWAY_MAX: Duration = Duration::from_secs(3);

/// How long writes that were acknowledged before may take to be executed, so that what stands can be told.
const SETTLED_MAX: Duration = Duration::from_secs(5);

/// How often the engine is asked whether it serves.
const LOOK: Duration = Duration::from_millis(250);

/// The patience of one request.
#[derive(Debug)]
pub(super) struct Patience {
    clock: SharedClock,
    engine: Arc<dyn TableEngine>,
    /// All that it has, by the clock.
    until: Duration,
    longest: Duration,
    /// Since when it has found the engine away, and what is wrong.
    away: Mutex<Option<(Duration, String)>>,
}

impl Patience {
    /// That of a request which is answered within `longest`: with time left to say what became of it.
    pub(super) fn new(app: &App, longest: Duration) -> Self {
        let longest = longest / 4 * 3;
        Self {
            clock: Arc::clone(&app.clock),
            engine: Arc::clone(&app.engine),
            until: app.clock.monotonic() + longest,
            longest,
            away: Mutex::default(),
        }
    }

    /// How much of it is left.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_sub(self.clock.monotonic())
    }

    /// Why nothing more is waited for.
    pub(super) fn over(&self) -> String {
        format!("the engine has not answered within {} s", self.longest.as_secs_f64())
    }

    /// Notes what is wrong with the engine now: since when something is, and what.
    fn set_away(&self, what: Option<String>) -> Option<(Duration, String)> {
        // A panic elsewhere leaves an old text at worst.
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let since = away.as_ref().map_or_else(|| self.clock.monotonic(), |(since, _)| *since);
        *away = what.map(|what| (since, what));
        away.clone()
    }

    /// What is wrong with the engine, if it has been for so long that nothing more is waited for.
    fn is_given_up(&self) -> Option<String> {
        let away = self.set_away(self.engine.state().fault);
        let is_long = |since: Duration| self.clock.monotonic().saturating_sub(since) >= AWAY_MAX;
        away.filter(|(since, _)| is_long(*since)).map(|(_, what)| not_serving(&what))
    }

    /// Waits until all that is in the log is executed, so that the engine can be asked what stands: whether it is.
    pub(super) async fn settled(&self, ingest: &Ingest) -> bool {
        let (appended, begun) = (ingest.appended(), self.clock.monotonic());
        loop {
            if ingest.settled(appended, LOOK.min(self.left())).await {
                return true;
            }
            let waited = self.clock.monotonic().saturating_sub(begun);
            if waited >= SETTLED_MAX || self.left().is_zero() || self.is_given_up().is_some() {
                return false;
            }
        }
    }

    /// Waits until a frame is executed: why it was waited for no longer, or nothing where it is executed.
    ///
    /// # Errors
    ///
    /// [`IngestError::Busy`] when the server stops before.
    pub(super) async fn executed(
        &self,
        under_way: &mut UnderWay,
        asker: &oneshot::Sender<()>,
    ) -> Result<Option<String>, IngestError> {
        loop {
            if under_way.is_executed(LOOK.min(self.left())).await? {
                return Ok(None);
            }
            let given_up = self.is_given_up();
            if given_up.is_some() {
                return Ok(given_up);
            }
            if asker.is_closed() {
                return Ok(Some("who asked has gone".to_owned()));
            }
            if self.left().is_zero() {
                return Ok(Some(self.over()));
            }
        }
    }
}

/// That an engine does not serve, for people.
pub(super) fn not_serving(fault: &str) -> String {
    format!("the engine does not serve: {fault}")
}
