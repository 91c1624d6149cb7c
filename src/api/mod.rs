//! Floor 6: what each endpoint does, apart from sockets.
//!
//! `http` authenticates a request, asks an endpoint's `plan` whether it may be taken at all, reads the
//! body, and runs it; an endpoint answers with a [`reply::Reply`] or a [`fault::Fault`], which is
//! shown in the shape that the asked protocol family's clients read.
//!
//! | file | endpoints |
//! |---|---|
//! | [`influx`] | the line-protocol writes of `InfluxDB` 1, 2 and 3, `/query` ([`influxql`]) |
//! | [`native`] | `/api/v1/write`, JSON or line protocol |
//! | [`write`](mod@write) | what all writes share: from a plan and a body to a receipt |
//! | [`keyed`] | writes with an `Idempotency-Key` |
//! | [`answers`] | the answers that repeated writes get again |
//! | [`partial`] | the receipt as a reply, in each family's words |
//! | [`timestream`] | the Timestream Write API |
//! | [`datazone`] | `DataZone`'s time series data points |
//! | [`export`] | `/api/v1/export` |
//! | [`rejects`] | `/api/v1/rejects` |
//! | [`ops`] | ping, health, ready, metrics, the index page |
//! | [`status`] | `/api/v1/status` |
//! | [`page`] | the status page at `/`, for browsers |

pub mod params;
pub mod call;
pub mod reply;
pub mod fault;
pub mod partial;
pub mod answers;
pub mod write;
pub mod keyed;
pub mod influx;
pub mod influxql;
pub mod native;
pub mod export;
pub mod rejects;
pub mod timestream;
pub mod datazone;
pub mod ops;
pub mod status;
pub mod page;

use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::base::clock::SharedClock;
use crate::engine::TableEngine;
use crate::engine::catalog::Catalog;
use crate::ingest::{Ingest, Receipt};
use crate::load::Loads;
use crate::metrics::Metrics;
use crate::record::TableId;

use answers::Answers;
use fault::Fault;

/// Most exports that run at once. Each holds a thread and a few chunks of
/// [`export::CHUNK_BYTES`]; the next one is told to come back.
pub const EXPORTS_MAX: usize = 8;

/// The version that `InfluxDB` clients are told: a number that they can compare, then who it is.
pub const INFLUXDB_VERSION: &str = concat!("2.7.0-tidegate-", env!("CARGO_PKG_VERSION"));

/// What the endpoints stand on, shared by all connections.
#[derive(Debug)]
pub struct App {
    /// The way in.
    pub ingest: Ingest,
    /// What exports read.
    pub engine: Arc<dyn TableEngine>,
    /// The databases and tables, for whoever changes them.
    pub catalog: Arc<Catalog>,
    /// The databases and tables by name.
    pub tables: Arc<dyn Tables>,
    /// The state of the server, for probes.
    pub status: Arc<dyn Status>,
    /// Every metric.
    pub metrics: Metrics,
    /// How texts become records.
    pub mapping: Mapping,
    /// For durations.
    pub clock: SharedClock,
    /// The answers to the last changes of Timestream's clients.
    pub answers: Arc<Answers<timestream::once::Outcome>>,
    /// The answers to the last writes with an `Idempotency-Key`.
    pub keyed: Arc<Answers<Receipt>>,
    /// The answers to the last changes of Timestream's clients with an `Idempotency-Key`.
    pub keyed_changes: Arc<Answers<timestream::once::Outcome>>,
    /// What `DataZone`'s API remembers.
    pub datazone: Arc<datazone::DataZone>,
    /// A permit an export; see [`EXPORTS_MAX`].
    pub exports: Arc<Semaphore>,
    /// The batch loads.
    pub loads: Arc<Loads>,
    /// What was refused.
    pub rejects: rejects::Desk,
}

/// What a text leaves open and the settings decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The measure name of every record; `None` takes the measurement.
    pub measure_name: Option<String>,
    /// The name and value of the dimension that a record without any gets; `None` refuses it.
    pub default_dimension: Option<(String, String)>,
    /// The field of line protocol that holds the version; `None` where there is none.
    pub version_field: Option<String>,
}

/// The databases and tables by name.
pub trait Tables: Debug + Send + Sync {
    /// The table's number, if it exists.
    fn find(&self, database: &str, table: &str) -> Option<TableId>;

    /// The names of all databases, sorted.
    fn databases(&self) -> Vec<String>;

    /// The names of a database's tables, sorted; none where there is no such database.
    fn tables_in(&self, database: &str) -> Vec<String>;

    /// Makes a database, unless it exists. It is durable on return.
    ///
    /// # Errors
    ///
    /// [`Fault`] 400 where the settings forbid it or the name is no name, 500 where it cannot be
    /// written.
    fn create_database(&self, database: &str) -> Result<(), Fault>;

    /// Deletes a database and, before it, its tables; one that there is not is no error.
    ///
    /// # Errors
    ///
    /// [`Fault`] 500 where it cannot be written: some of its tables may be deleted.
    fn drop_database(&self, database: &str) -> Result<(), Fault>;

    /// Deletes a table; one that there is not is no error.
    ///
    /// # Errors
    ///
    /// [`Fault`] 400 where there is no such database, 500 where it cannot be written.
    fn drop_table(&self, database: &str, table: &str) -> Result<(), Fault>;
}

/// The state of the server, for probes and metrics.
pub trait Status: Debug + Send + Sync {
    /// Whether writes can be taken now.
    fn readiness(&self) -> Readiness;

    /// Each part that can fail, and how it is.
    fn components(&self) -> Vec<Component>;

    /// Sets the gauges that nobody sets as they change. Called before metrics are printed.
    fn refresh_metrics(&self);
}

/// Whether writes can be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// They can.
    Ready,
    /// They cannot, for this reason: replaying, stopping, poisoned.
    NotReady {
        /// In words.
        why: String,
    },
}

/// One part of the server, and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its name: `wal`, `engine`, `rejects`.
    pub name: &'static str,
    /// How it is.
    pub health: Health,
    /// What there is to say; without secrets, since anybody may read it.
    pub message: String,
}

/// How a part of the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Well.
    Pass,
    /// An operator must act, but writes are taken, nothing is lost, and a restart would not help.
    Warn,
    /// An operator must act: the server cannot do its work.
    Fail,
}
