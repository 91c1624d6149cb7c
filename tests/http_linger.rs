//! The promise: whoever sends a body that is not read hears why. The answer says that the connection ends with
//! it, and what the client still sends is dropped for a while: closed at once, the connection would be reset, and
//! the answer lost with it. That while is bounded in bytes, in time and in connections.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::panic, reason = "helpers of tests")]

#[expect(dead_code, reason = "shared with other tests")]
mod http_support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use tidegate::base::clock::{Clock as _, SystemClock};
use tidegate::base::units::Bytes;

use http_support::{Running, read_reply, start};

const MIB: usize = 1 << 20;

/// Nothing here takes longer, however busy the machine.
const LONG: Duration = Duration::from_secs(40);

/// A server that knows one token, which may write to `mine`.
fn guarded() -> Running {
    start(|config| {
        config.auth =
            toml::from_str("[[tokens]]\nname = \"r\"\ntoken = \"t\"\nwrite = [\"mine\"]").unwrap();
        config.server.body_bytes_max = Bytes::mib(1);
        config.server.inflated_bytes_max = Bytes::mib(1);
    })
}

fn head(path: &str, headers: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: t\r\n{headers}Content-Length: {length}\r\n\r\n")
}

/// What is not read, by the status that it gets.
const REFUSED: [(u16, &str, &str); 7] = [
    (401, "/write?db=mine", ""),
    (401, "/api/v2/write?bucket=mine", "Authorization: Token wrong\r\n"),
    (403, "/write?db=theirs", "Authorization: Token t\r\n"),
    (404, "/nowhere", "Authorization: Token t\r\n"),
    (400, "/write", "Authorization: Token t\r\n"),
    (405, "/ping", "Authorization: Token t\r\n"),
    (415, "/write?db=mine", "Authorization: Token t\r\nContent-Encoding: br\r\n"),
];

/// Goal: the clients of Go, Node and Python see the status, and never a broken pipe. Method: as they do it, all
/// is written before anything is read.
#[test]
fn who_writes_all_before_reading_hears_the_status_and_an_end() {
    let server = guarded();
    for size in [100_000, MIB, 5 * MIB, 20 * MIB] {
        let body = vec![b'#'; size];
        for (status, path, headers) in REFUSED {
            let mut stream = server.connect();
            stream.write_all(head(path, headers, size).as_bytes()).unwrap();
            let sent = stream.write_all(&body);
            assert!(sent.is_ok(), "{path} {size}: {sent:?}");
            let reply = read_reply(&mut stream);
            assert_eq!(reply.status, status, "{path} {size}: {}", reply.text());
            assert_eq!(reply.header("connection"), Some("close"), "{path} {size}");
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{path} {size}: an end, not a reset");
        }
    }
}

/// Goal: a client that sends small bodies keeps its connection. Method: a second request on it.
#[test]
fn a_small_body_that_is_refused_leaves_the_connection_usable_and_says_nothing_else() {
    let server = guarded();
    for size in [0, 1, 1000, 60_000] {
        for (status, path, headers) in REFUSED {
            let mut stream = server.connect();
            let mut bytes = head(path, headers, size).into_bytes();
            bytes.extend(vec![b'#'; size]);
            stream.write_all(&bytes).unwrap();
            let reply = read_reply(&mut stream);
            assert_eq!(reply.status, status, "{path} {size}");
            assert_eq!(reply.header("connection"), None, "{path} {size}");
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
            assert_eq!(read_reply(&mut stream).status, 200, "{path} {size}");
        }
    }
}

/// Who has not begun to send and is refused need not begin: it is told at once.
#[test]
fn who_waits_for_leave_to_send_is_refused_at_once_and_told_that_it_ends() {
    let server = guarded();
    for (status, path, headers) in REFUSED {
        let mut stream = server.connect();
        let headers = format!("{headers}Expect: 100-continue\r\n");
        stream.write_all(head(path, &headers, 1000).as_bytes()).unwrap();
        let reply = read_reply(&mut stream);
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{path}");
    }
}

fn gauge(server: &Running, name: &str) -> f64 {
    let text = server.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

/// How long a stream stays open that `drip` sends to, a piece each tenth of a second.
fn open_for(stream: &mut TcpStream, drip: &[u8]) -> Duration {
    let clock = SystemClock::new();
    while stream.write_all(drip).is_ok() {
        assert!(clock.monotonic() < LONG, "it stays open");
        clock.sleep(Duration::from_millis(100));
    }
    clock.monotonic()
}

#[test]
fn what_is_dropped_is_bounded_in_time_and_bytes() {
    let server = guarded();
    let refused = |length: usize| {
        let mut stream = server.connect();
        stream.write_all(head("/write?db=mine", "", length).as_bytes()).unwrap();
        assert_eq!(read_reply(&mut stream).status, 401);
        stream
    };
    // One that goes on without end: the buffers of both sockets hold some MiB beside what is read.
    let mut endless = refused(usize::MAX >> 1);
    let piece = vec![b'#'; MIB];
    let taken = (0..256).take_while(|_| endless.write_all(&piece).is_ok()).count();
    assert!((20..64).contains(&taken), "{taken} MiB");
    // One that sends a little all the time.
    let lasted = open_for(&mut refused(MIB), b"#");
    assert!((8..25).contains(&lasted.as_secs()), "{lasted:?}");
    // One that sends nothing: nobody sees it end but the server.
    let silent = refused(MIB);
    let clock = SystemClock::new();
    while gauge(&server, "tidegate_http_connections ") > 1.5 {
        assert!(clock.monotonic() < Duration::from_secs(8), "it stays open");
        clock.sleep(Duration::from_millis(100));
    }
    drop(silent);
}

/// Goal: strangers without a token cost next to nothing. Method: more of them than may linger, each with a body
/// that it does not send.
#[test]
fn no_more_than_so_many_linger_and_none_takes_memory_for_requests() {
    let server = guarded();
    let refused: Vec<TcpStream> = (0..600)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(head("/write?db=mine", "", MIB).as_bytes()).unwrap();
            assert_eq!(read_reply(&mut stream).status, 401);
            stream
        })
        .collect();
    assert!(gauge(&server, "tidegate_http_connections ") < 300.0);
    assert!(gauge(&server, "tidegate_ingest_in_flight_bytes ") < 1.0);
    let token = [("Authorization", "Token t")];
    assert_eq!(server.send("POST", "/write?db=mine", &token, b"m,s=a v=1i 1").status, 204);
    drop(refused);
}
