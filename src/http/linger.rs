//! The end of a connection whose client is still sending what nobody reads.
//!
//! Where a socket is closed with bytes in it that were not read, or more of them come, the system resets the
//! connection, and a client that is still sending finds a broken pipe in place of the answer: it does not learn
//! that its password is wrong, and tries again. So after the answer this side says that nothing more comes, and
//! what the client sends is dropped for a while. RFC 9112, 9.6, asks for it; nginx does it (`lingering_close`),
//! Go's server waits half a second.
//!
//! Whoever is not known can make us do this. So it is bounded, in bytes, in time and, by
//! [`super::crowd::LINGERING_MAX`], in connections; what is dropped is neither kept nor counted as memory for
//! requests, nor decrypted; and the connection counts as idle, which gives way to newcomers.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::socket::Watch;

/// Most bytes that are dropped of one connection: as many as a body has at most, unless the settings allow more.
const BYTES_MAX: usize = 32 << 20;

/// How long a client may send nothing.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// How long it may send.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Lets the client of a connection that was answered, and is not read any more, finish sending.
pub(super) async fn linger(watch: Watch) {
    let Some(rest) = watch.into_rest().await else { return };
    let last = Instant::now() + TIME_MAX;
    let mut dropped = 0;
    while dropped < BYTES_MAX {
        let quiet = Instant::now() + QUIET_MAX;
        match timeout_at(quiet.min(last), rest.drop_some()).await {
            Ok(Ok(bytes)) if bytes > 0 => dropped += bytes,
            // The client has ended it, or takes too long.
            _ => break,
        }
    }
}
