//! Floor 7: bytes off the socket, bytes back.
//!
//! | file | does |
//! |---|---|
//! | [`listener`] | accepts connections, at most so many, and drains them at the end |
//! | [`tls`] | certificate and key, and what handshakes use |
//! | [`guard`] [`crowd`] | ends connections that stand still, and idle ones where there is no room |
//! | [`linger`] | lets a client that is still sending hear its answer |
//! | [`socket`] | hears that a client is gone while nobody reads |
//! | [`hush`] | keeps back what hyper says to itself |
//! | [`current`] | the service as the settings stand now |
//! | [`service`] | one request: route, authenticate, plan, read, run, reply |
//! | [`route`] | the table of paths |
//! | [`auth`] | who sent it, by token, password or signature |
//! | [`body`] [`inflate`] | the body, bounded in bytes and in time, decompressed |
//! | [`reply`] | the headers that every reply has |
//! | [`options`] | the limits |

pub mod options;
pub mod tls;
pub mod auth;
pub mod route;
pub mod inflate;
pub mod body;
pub mod reply;
pub mod service;
pub mod hush;
pub mod current;
pub mod crowd;
pub mod guard;
mod socket;
mod linger;
pub mod listener;

pub use current::Current;
pub use listener::{Drained, serve};
pub use options::Options;
