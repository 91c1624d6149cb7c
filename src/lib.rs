//! # Tidegate
//!
//! A durable ingestion gateway for telemetry. Producers send line protocol, JSON or Timestream
//! writes over HTTP; what was acknowledged is never lost; what cannot be stored is kept, with the
//! reason, where an operator can see it, mend it and send it again.
//!
//! # The way of a record
//!
//! A request enters on the top floor and falls. A module uses floors below its own, never a
//! neighbour on the same floor, never one above; `tests/tidy.rs` holds the code to this table.
//!
//! | floor | modules | what happens there |
//! |---|---|---|
//! | 10 | [`cli`] | the commands |
//! | 9 | [`server`] | start and stop |
//! | 8 | [`config`] | settings: each section is the `Options` of the module it configures |
//! | 7 | [`http`] | bytes off the socket, bytes back |
//! | 6 | [`api`] | what each endpoint does |
//! | 5 | [`load`] | batch loads: objects to records, for [`ingest`] |
//! | 4 | [`ingest`] | **the way in**: [`ingest::Ingest::accept`] |
//! | 3 | [`shard`] | **the way out**: [`shard::worker::run`] |
//! | 2 | [`protocol`] [`wal`] [`batch`] [`engine`] [`reject`] | five neighbours that do not know each other |
//! | 1 | [`record`] [`object`] [`metrics`] | the typed record; the object store; every metric |
//! | 0 | [`base`] | units, clock, files, threads, poison: nothing of ours below |
//!
//! ```text
//!  socket                                                                   Parquet, /export
//!    |                                                                            ^
//!  http::body ---> protocol::* ---> ingest::accept                          engine::write ---> reject
//!  (inflate)       (text->Record)      |                                          ^          (refused)
//!                                record::codec                              batch (<= 100)
//!                                (Record->payload)                                ^
//!                                      |                                    shard::worker (1 thread each)
//!                                 wal::append --> committer --> durable --> shard::feeder
//!                                                 (one sync     (wakes      (reads frames back from
//!                                                  a group)      waiters)    the log, in LSN order)
//! ```
//!
//! A decoder turns text into [`record::Record`]s, the codec packs them into one self-contained
//! **payload**, and the log stores the payload as the content of one **frame** with one **LSN**.
//! The request is acknowledged when that frame is as durable as it asked for. From there on nothing
//! depends on the request: the feeder reads the frame out of the mapped log and hands it to the
//! shards. A frame read after a crash takes the same road, so replay is not a special case.
//!
//! `tokio` appears in [`server`], [`http`], [`api`] and [`ingest`] only, and hidden behind blocking calls in
//! [`object`] and the session of [`engine::postgres`]. Below it: named threads,
//! bounded queues and blocking calls.

pub mod base;
pub mod record;
pub mod metrics;
pub mod object;
pub mod protocol;
pub mod wal;
pub mod batch;
pub mod engine;
pub mod reject;
pub mod shard;
pub mod ingest;
pub mod load;
pub mod api;
pub mod http;
pub mod config;
pub mod server;
pub mod cli;
