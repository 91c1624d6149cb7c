//! The floors of the project that read bytes from outside, under the project's own name.

#[path = "../src/base/mod.rs"]
pub mod base;
#[path = "../src/record/mod.rs"]
pub mod record;
#[path = "../src/protocol/mod.rs"]
pub mod protocol;
#[path = "../src/wal/mod.rs"]
pub mod wal;
