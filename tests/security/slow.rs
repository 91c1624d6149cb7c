//! Clients that take their time: each is ended by the limit that is for it, and others are served.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use tidegate::base::clock::{Clock as _, SystemClock};

use super::common::gateway::{Gateway, Place};
use super::common::{tell, wait_for};
use super::wire::connect;

const LONG: Duration = Duration::from_secs(40);

/// Whether the server has ended the connection. Reads away what it said.
fn is_ended(stream: &mut TcpStream, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(read) => said.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_broken) => return true,
        }
    }
}

/// Sends a byte of `drip` on each connection every tenth of a second until the server has ended all of
/// them; what it said on each, and when the first and the last ended.
fn drip(server: &Gateway, count: usize, start: &[u8], drip: &[u8]) -> (Vec<String>, [Duration; 2]) {
    let clock = SystemClock::new();
    let mut open: Vec<(TcpStream, Vec<u8>)> = (0..count)
        .map(|_| {
            let mut stream = connect(server.address);
            stream.write_all(start).expect("it is open");
            stream.set_nonblocking(true).expect("it is a socket");
            (stream, Vec::new())
        })
        .collect();
    let mut said = Vec::new();
    let mut ends = Vec::new();
    for byte in drip.iter().cycle() {
        open.retain_mut(|(stream, heard)| {
            // One that was ended may take a byte more before it says so.
            drop(stream.write(&[*byte]));
            if !is_ended(stream, heard) {
                return true;
            }
            ends.push(clock.monotonic());
            said.push(String::from_utf8_lossy(heard).into_owned());
            false
        });
        if open.is_empty() {
            break;
        }
        assert!(clock.monotonic() < LONG, "{} connections are open still", open.len());
        // Others are served meanwhile.
        server.write("live", "m,s=a v=1i 1");
        clock.sleep(Duration::from_millis(100));
    }
    (said, [ends[0], *ends.last().expect("all have ended")])
}

#[test]
fn headers_that_come_a_byte_at_a_time_are_ended_by_their_limit() {
    let server = Place::new("[server]\nheader_timeout = \"2s\"");
    let server = server.start();
    let (said, [first, last]) = drip(&server, 200, b"GET /ping HTTP/1.1\r\nX-Slow: ", b"a");
    tell(format!("slow headers: 200 connections ended between {first:?} and {last:?}"));
    assert!(said.iter().all(String::is_empty), "{said:?}");
    assert!(first >= Duration::from_secs(2) && last < Duration::from_secs(8));
    server.stop();
}

#[test]
fn bodies_that_come_a_byte_at_a_time_are_answered_408() {
    let server = Place::new("[server]\nbody_grace = \"1s\"");
    let server = server.start();
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let head = format!("POST /write?db=d HTTP/1.1\r\nHost: t\r\n{framing}\r\n\r\n");
        let (said, [first, last]) = drip(&server, 100, head.as_bytes(), b"1");
        tell(format!("slow bodies, {framing}: 100 ended between {first:?} and {last:?}"));
        // A chunk's size of a hundred ones is no size, which is found sooner than it is slow.
        let expected = ["HTTP/1.1 408", "HTTP/1.1 400"];
        let is_expected = |text: &String| expected.iter().any(|line| text.starts_with(line));
        assert!(said.iter().all(is_expected), "{:?}", said[0]);
        assert!(last < Duration::from_secs(8), "{last:?}");
    }
    assert!(server.metric("tidegate_ingest_in_flight_bytes") < 1.0, "their memory is free");
    server.stop();
}

#[test]
fn connections_that_say_nothing_are_ended_by_the_idle_limit() {
    let server = Place::new("[server]\nidle_timeout = \"2s\"");
    let server = server.start();
    let clock = SystemClock::new();
    let mut fresh = connect(server.address);
    let mut used = connect(server.address);
    used.write_all(b"GET /ping HTTP/1.1\r\nHost: t\r\n\r\n").expect("it is open");
    let mut said = Vec::new();
    fresh.read_to_end(&mut said).expect("an end, not an error");
    assert!(said.is_empty());
    used.read_to_end(&mut said).expect("an end, not an error");
    assert!(said.starts_with(b"HTTP/1.1 204"));
    let took = clock.monotonic();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    server.stop();
}

/// Goal: an export is held by nobody who does not read it, not even by one who reads a little all the
/// time. Method: two readers under the pace that is asked for.
#[test]
fn readers_that_do_not_keep_up_are_broken_off_and_their_exports_end() {
    let settings = "[server]\nidle_timeout = \"1s\"\nbody_bytes_per_second_min = \"4 MiB\"\n\
                    body_grace = \"1min\"";
    let place = Place::new(settings);
    let server = place.start();
    let text = "x".repeat(60_000);
    for part in 0..12 {
        let times = part * 50..(part + 1) * 50;
        let lines: Vec<String> = times.map(|n| format!("big,s=a t=\"{text}\" {n}\n")).collect();
        server.write("d", &lines.concat());
    }
    server.settle();
    let ask = || {
        let mut stream = connect(server.address);
        let request = b"GET /api/v1/export?db=d&table=big HTTP/1.1\r\nHost: t\r\n\r\n";
        stream.write_all(request).expect("it is open");
        stream
    };
    let clock = SystemClock::new();
    let (stalled, mut slow) = (ask(), ask());
    let mut read = 0;
    let mut buffer = vec![0; 64 << 10];
    // Some 640 KiB a second, of 36 MB in all.
    let ended = loop {
        assert!(clock.monotonic() < LONG, "{read} bytes were read, and it goes on");
        match slow.read(&mut buffer) {
            Ok(0) => break "an end",
            Ok(some) => read += some,
            Err(_broken) => break "an error",
        }
        clock.sleep(Duration::from_millis(100));
    };
    tell(format!(
        "slow reader: broken off by {ended} after {:?} and {read} bytes",
        clock.monotonic()
    ));
    assert!(read < 36_000_000, "it was not whole");
    wait_for("the exports to end", LONG, || {
        (server.metric("tidegate_http_requests_in_flight") < 2.0).then_some(())
    });
    drop(stalled);
    assert_eq!(server.export("d", "big").len(), 600, "who reads gets it whole");
    server.stop();
}
