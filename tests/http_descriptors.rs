//! The promise: running out of file descriptors stops nobody for longer than it lasts. In a process of
//! its own, since the limit is the process's.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::panic, reason = "helpers of tests")]

#[expect(dead_code, reason = "shared with other tests")]
mod http_support;

use std::io::Write as _;
use std::net::TcpStream;

use http_support::{read_reply, start};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are left. Odd: each connection takes two, so the last one is the client's, and the
/// server is asked to accept what it has no descriptor for.
const LEFT: u64 = 11;

#[test]
fn a_server_without_descriptors_serves_again_when_there_are_some() {
    let server = start(|_| {});
    let mut known = server.connect();
    let ping = b"GET /ping HTTP/1.1\r\nHost: t\r\n\r\n";
    known.write_all(ping).unwrap();
    assert_eq!(read_reply(&mut known).status, 204);
    // One of them was the directory itself.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + LEFT), ..before }).unwrap();
    // Client and server share the process, so these take what the server would need to accept them.
    let mut crowd = Vec::new();
    while let Ok(stream) = TcpStream::connect(server.addr()) {
        crowd.push(stream);
    }
    assert!(!crowd.is_empty());
    known.write_all(ping).unwrap();
    assert_eq!(read_reply(&mut known).status, 204, "a connection that is open is served");
    drop(crowd);
    assert_eq!(server.get("/ping").status, 204);
    setrlimit(Resource::Nofile, before).unwrap();
}
