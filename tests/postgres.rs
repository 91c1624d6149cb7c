//! Promise: PostgreSQL as the engine does what the embedded one does, record by record, and a record is
//! there exactly once whatever breaks between the two: the connection, a COMMIT, the server, the gateway.
//!
//! The server is a real one, from the system's packages, in a folder of the test's own.
//! `TIDEGATE_PG_CYCLES` sets the number of crashes, `TIDEGATE_PG_SEED` repeats the choices of a run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "common/mod.rs"]
mod common;
mod engine_support;
#[path = "kill/ledger.rs"]
mod ledger;
#[path = "postgres/proxy.rs"]
mod proxy;
#[path = "postgres/server.rs"]
mod server;
#[path = "kill/traffic.rs"]
mod traffic;

#[path = "postgres/breaks.rs"]
mod breaks;
#[path = "postgres/rows.rs"]
mod same;
#[path = "postgres/gateways.rs"]
mod gateways;
#[path = "postgres/others.rs"]
mod others;
#[path = "postgres/retention.rs"]
mod retention;
