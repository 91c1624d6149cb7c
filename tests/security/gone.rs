//! Clients that vanish while they are answered: what they hold is free at once.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use tidegate::base::clock::{Clock as _, SystemClock};

use super::common::gateway::{Gateway, Place};
use super::common::{tell, wait_for};

const CLIENTS: usize = 200;

const LONG: Duration = Duration::from_mins(2);

/// How soon what they held must be free, on a busy machine too. A request may take thirty here.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of a body.
const BODY_BYTES: usize = 20_000;

const IN_FLIGHT: &str = "tidegate_http_requests_in_flight";
const MEMORY: &str = "tidegate_ingest_in_flight_bytes";

/// A client whose write waits until a database executes it that never will. What came before stays unread,
/// so that the system resets the connection when it is closed. Source: RFC 2525, 2.17.
fn waiting(server: &Gateway, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.set_read_timeout(Some(LONG)).expect("it is a socket");
    stream.write_all(b"GET /ping HTTP/1.1\r\nHost: t\r\n\r\n").expect("it is open");
    assert!(stream.peek(&mut [0]).expect("it is answered") > 0);
    let body = format!("m,s=a v={number}i 1\n# {}", "x".repeat(BODY_BYTES));
    let head = format!(
        "POST /write?db=d HTTP/1.1\r\nHost: t\r\nX-Tidegate-Durability: applied\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("it is open");
    stream
}

/// The requests that are being answered, beside the one that asks.
fn others(server: &Gateway) -> f64 {
    server.metric(IN_FLIGHT) - 1.0
}

/// Goal: a client that is gone holds nothing, and one that has closed its half alone is answered. Method:
/// of all that wait some are reset, which is seen by what they held; some end their half and stay.
#[test]
fn what_clients_held_that_are_reset_is_free_at_once() {
    // Nobody listens there any more, so the database never executes anything.
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = gone.expect("a free port").port();
    let place = Place::new(&format!(
        "[server]\nrequest_timeout = \"30s\"\n[engine]\nkind = \"postgres\"\n[engine.postgres]\nport = {port}\n"
    ));
    let server = place.start();
    let halves: Vec<TcpStream> = (0..3).map(|number| waiting(&server, number)).collect();
    for half in &halves {
        half.shutdown(Shutdown::Write).expect("it is open");
    }
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|number| waiting(&server, number)).collect();
    let [all, left] = [CLIENTS + halves.len(), halves.len()]
        .map(|count| f64::from(u32::try_from(count).expect("few")));
    wait_for("all to wait", LONG, || (others(&server) >= all).then_some(()));
    let held = server.metric(MEMORY);
    let clock = SystemClock::new();
    drop(clients);
    wait_for("them to be gone", LONG, || (others(&server) <= left).then_some(()));
    let took = clock.monotonic();
    let holds = server.metric(MEMORY);
    tell(format!(
        "reset clients: {CLIENTS} held {held} bytes, all free but {holds} after {took:?}; {left} that closed \
         their half still wait"
    ));
    assert!(took < FREE_WITHIN, "{took:?}");
    assert!(holds <= held * 2.0 * left / all, "{holds} of {held} bytes");
    assert!(others(&server) >= left, "who has closed its half waits for its answer");
    // And gets one, though it is that it took too long.
    for mut half in halves {
        let mut said = String::new();
        half.read_to_string(&mut said).expect("an end, not an error");
        assert!(said.contains("HTTP/1.1 503") && said.contains("not answered within"), "{said}");
    }
    server.kill();
}
