//! Floor 4: the way in. One function, [`Ingest::accept`]:
//!
//! admit -> encode -> append -> wait for commit -> receipt.
//!
//! [`Ingest::admit`] reserves memory before a body is read, so that overload ends in a "busy" and
//! never in growth. `accept` then runs the caller's decoder with a sink that resolves tables,
//! validates and packs records into one payload, appends it to the log, and waits until it is as
//! durable as was asked. From there on the request is no longer needed: the shards read the frame out
//! of the log.

use std::time::Duration;

use crate::base::class::Class;
use crate::base::lsn::Lsn;
use crate::record::{Reason, RecordSink};

/// How durable a write is when it is acknowledged.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the log's file: survives the end of the process, not a power cut.
    Memory,
    /// The same, and synced at the latest `wal.sync_interval` later.
    Interval,
    /// Synced: survives a power cut.
    Sync,
    /// Synced, and executed by the engine: readable.
    Applied,
}

/// Which API a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Line protocol.
    Line,
    /// JSON.
    Json,
    /// Timestream's write API.
    Timestream,
}

/// What becomes of a request of which something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// The good records are taken.
    Accept,
    /// Nothing is taken.
    Refuse,
}

/// What the caller of [`Ingest::accept`] wants.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Which API it came by.
    pub protocol: Protocol,
    /// The database of the request; records may name others.
    pub database: &'a str,
    /// When it was received, ns; [`Ingest::received_ns`].
    pub received_ns: i64,
    /// Bytes of the inflated body.
    pub body_bytes: usize,
    /// How durable it must be; `None` is the server's setting.
    pub durability: Option<Durability>,
    /// What becomes of it when something was refused.
    pub partial: Partial,
}

/// What was done with a request.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The frame that holds it; `None` when there was nothing to store.
    pub lsn: Option<Lsn>,
    /// How durable it is.
    pub durability: Durability,
    /// Records taken.
    pub accepted: u64,
    /// Lines or records refused.
    pub refused: u64,
    /// The first of them, at most [`crate::record::limits::REFUSALS_NAMED_MAX`].
    pub named: Vec<NamedRefusal>,
}

/// One refused line or record, as a reply names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRefusal {
    /// Line number from 1, or index from 0.
    pub number: u64,
    /// Column from 1 in bytes; 0 where none is to blame.
    pub column: u64,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// The beginning of the line, at most
    /// [`crate::record::limits::REFUSED_TEXT_QUOTED_BYTES_MAX`] bytes, what is not UTF-8 replaced.
    pub text: String,
}

/// Why a request as a whole was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IngestError {
    /// Memory for requests, or the log, is full; or the server starts or stops.
    #[error("busy: {cause}; try again in {} s", retry_after.as_secs())]
    Busy {
        /// What is full, one of [`crate::metrics::catalog::BUSY_CAUSES`].
        cause: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The request is larger than one frame of the log.
    #[error("request takes {found} bytes in the log, at most {max} fit: send fewer records a request")]
    TooLarge {
        /// Its bytes as a payload.
        found: usize,
        /// Most that fit.
        max: usize,
    },
    /// The database does not exist and must not be made.
    #[error("database not found: {database:?}")]
    DatabaseNotFound {
        /// The name asked for.
        database: String,
    },
    /// The log failed; whether the request is stored is unknown.
    #[error("the log failed: {reason}; whether the request is stored is unknown")]
    Poisoned {
        /// What failed first.
        reason: String,
    },
}

impl IngestError {
    /// Who must act.
    pub const fn class(&self) -> Class {
        match self {
            Self::Busy { .. } => Class::Busy,
            Self::TooLarge { .. } | Self::DatabaseNotFound { .. } => Class::Refused,
            Self::Poisoned { .. } => Class::Fault,
        }
    }
}

/// Memory reserved for one request's body. Dropping it gives the memory back.
#[derive(Debug)]
pub struct Admission {}

impl Admission {
    /// Reserves `bytes` more, as the body arrives or inflates.
    ///
    /// # Errors
    ///
    /// [`IngestError::Busy`] when the memory for requests is used up; what was reserved stays until
    /// this is dropped.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IngestError> {
        let _ = bytes;
        unimplemented!()
    }
}

/// The way in, shared by all connections.
#[derive(Debug, Clone)]
pub struct Ingest {}

impl Ingest {
    /// Reserves memory for a body of `bytes`, waiting shortly where there is none.
    ///
    /// # Errors
    ///
    /// [`IngestError::Busy`] when there still is none; nothing is reserved.
    pub async fn admit(&self, bytes: usize) -> Result<Admission, IngestError> {
        let _ = bytes;
        unimplemented!()
    }

    /// The time of receipt for a request that arrives now, ns.
    pub fn received_ns(&self) -> i64 {
        unimplemented!()
    }

    /// Takes one request: runs `decode`, appends what it shows, waits until that is durable.
    ///
    /// # Errors
    ///
    /// [`IngestError`]: nothing was taken, except after [`IngestError::Poisoned`], where it is
    /// unknown.
    pub async fn accept<D>(&self, ask: &Ask<'_>, decode: D) -> Result<Receipt, IngestError>
    where
        D: FnOnce(&mut dyn RecordSink) + Send,
    {
        let _ = (ask, decode);
        unimplemented!()
    }
}
