//! Bodies and headers that are not what they seem.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use tidegate::base::clock::{Clock as _, SystemClock};

use super::common::gateway::{Gateway, Place};
use super::common::random::Random;
use super::common::tell;
use super::wire::{blurt, exchange, statuses};

const MIB: u64 = 1 << 20;

/// What each bomb becomes.
const BOMB_BYTES: usize = 512 << 20;

/// Bombs at once.
const BOMBS: usize = 24;

/// Most memory that bombs may take: what is set for requests, as much again while it grows, and what the
/// allocator keeps for each thread.
const BOMB_MEMORY_BYTES: u64 = 2 * 64 * MIB + 128 * MIB;

fn zeros(mut encoder: impl std::io::Write) {
    let block = vec![b'#'; 1 << 20];
    for _ in 0..BOMB_BYTES >> 20 {
        encoder.write_all(&block).expect("memory takes all");
    }
}

fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    zeros(&mut gzip);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zeros(&mut zlib);
    let mut zstd = zstd::stream::Encoder::new(Vec::new(), 1).expect("a small window");
    zeros(&mut zstd);
    vec![
        ("gzip", gzip.finish().expect("memory takes all")),
        ("deflate", zlib.finish().expect("memory takes all")),
        ("zstd", zstd.finish().expect("memory takes all")),
    ]
}

fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn decompression_bombs_end_at_the_bound_with_bounded_memory() {
    let place = Place::new(
        "[server]\ninflated_bytes_max = \"32 MiB\"\n[ingest]\nmemory_bytes_max = \"64 MiB\"",
    );
    let server = place.start();
    let before = server.private_bytes();
    let mut most = before;
    for (encoding, bomb) in bombs() {
        let headers = format!("Content-Encoding: {encoding}\r\n");
        let request = post("/write?db=d", &headers, &bomb);
        assert_eq!(statuses(&exchange(server.address, &request)), [413], "{encoding}");
        let seen: Vec<u16> = std::thread::scope(|scope| {
            let one = || exchange(server.address, &request);
            let all: Vec<_> = (0..BOMBS).map(|_| scope.spawn(one)).collect();
            while !all.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                most = most.max(server.private_bytes());
                SystemClock::new().sleep(Duration::from_millis(5));
            }
            let answers = all.into_iter().map(|one| one.join().expect("nobody panicked"));
            answers.flat_map(|answer| statuses(&answer)).collect()
        });
        assert!(
            seen.len() == BOMBS && seen.iter().all(|code| matches!(code, 413 | 503)),
            "{seen:?}"
        );
        // One within the other: what the outer one holds is no line.
        let nested = {
            let mut outer = GzEncoder::new(Vec::new(), Compression::fast());
            outer.write_all(&bomb).expect("memory takes all");
            outer.finish().expect("memory takes all")
        };
        let once = post("/write?db=d", "Content-Encoding: gzip\r\n", &nested);
        assert_eq!(statuses(&exchange(server.address, &once)), [400], "{encoding}");
        let twice =
            post("/write?db=d", &format!("Content-Encoding: {encoding}, gzip\r\n"), &nested);
        assert_eq!(statuses(&exchange(server.address, &twice)), [415], "{encoding}");
        tell(format!("bombs, {encoding}: {} bytes for {BOMB_BYTES}", bomb.len()));
    }
    let more = most.saturating_sub(before);
    tell(format!("bombs: {} MiB idle, {} MiB more at most", before / MIB, more / MIB));
    assert!(more < BOMB_MEMORY_BYTES, "{more} bytes");
    assert!(server.metric("tidegate_ingest_in_flight_bytes") < 1.0);
    server.write("d", "m,s=a v=1i 1");
    server.stop();
}

#[test]
fn headers_and_bodies_beyond_their_limits_are_refused_by_name() {
    let place = Place::new("[server]\nbody_bytes_max = \"64 KiB\"");
    let server = place.start();
    let many = (0..120).fold(String::new(), |mut text, n| {
        write!(text, "X-{n}: a\r\n").expect("a string takes all");
        text
    });
    let long = format!("X-Long: {}\r\n", "a".repeat(40_000));
    for headers in [many, long] {
        let answer = exchange(server.address, &post("/write?db=d", &headers, b"m,s=a v=1 1"));
        assert_eq!(statuses(&answer), [431], "{answer}");
    }
    let target = format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "a".repeat(70_000));
    let answer = exchange(server.address, target.as_bytes());
    assert!(matches!(statuses(&answer)[..], [414 | 431]), "{answer}");
    let body = vec![b'#'; 70_000];
    assert_eq!(statuses(&exchange(server.address, &post("/write?db=d", "", &body))), [413]);
    let mut chunked =
        b"POST /write?db=d HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..70 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b'#'; 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(statuses(&exchange(server.address, &chunked)), [413]);
    let claimed =
        "POST /write?db=d HTTP/1.1\r\nHost: t\r\nContent-Length: 18446744073709551615\r\n\r\n";
    let answer = exchange(server.address, claimed.as_bytes());
    assert!(matches!(statuses(&answer)[..], [400 | 413 | 431]), "{answer}");
    server.stop();
}

/// The request that must not be heard, behind one whose end is in dispute.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n";

fn smuggled(server: &Gateway) -> f64 {
    let text = server.client().get("/metrics").expect("it is answered").text();
    let counted = text.lines().filter(|line| line.contains("endpoint=\"none\""));
    counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn a_request_whose_end_is_in_dispute_is_refused_and_hides_nothing() {
    let place = Place::new("");
    let server = place.start();
    // Where it is heard as a request of its own, it is counted.
    exchange(server.address, SMUGGLED.as_bytes());
    assert!((smuggled(&server) - 1.0).abs() < 0.5);
    let length = SMUGGLED.len() + 5;
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked".to_owned(),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
        format!("Content-Length: 5\r\nContent-Length: {length}"),
        format!("Content-Length: 5, {length}"),
        "Content-Length: 5\r\n Content-Length: 50".to_owned(),
        "Transfer-Encoding: chunked, identity".to_owned(),
        "Transfer-Encoding: identity".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Transfer-Encoding:\u{b}chunked".to_owned(),
        "Content-Length: -5".to_owned(),
        "Content-Length: 0x5".to_owned(),
        "Content-Length: 5 5".to_owned(),
        "Content-Length: 99999999999999999999999".to_owned(),
    ] {
        let head = format!("POST /write?db=d HTTP/1.1\r\nHost: t\r\n{headers}\r\n\r\n");
        let answer = exchange(server.address, format!("{head}0\r\n\r\n{SMUGGLED}").as_bytes());
        assert!(statuses(&answer).len() <= 1, "{headers}: {answer}");
        assert!(!answer.contains("not found"), "{headers}: {answer}");
    }
    for size in ["-1", "0x5", "FFFFFFFFFFFFFFFFF", "g", "", "5 5", "5\u{b}", "+5", "5\n"] {
        let chunks = format!("{size}\r\n#aaaa\r\n0\r\n\r\n{SMUGGLED}");
        let head = "POST /write?db=d HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = exchange(server.address, format!("{head}{chunks}").as_bytes());
        assert!(statuses(&answer).len() <= 1, "{size:?}: {answer}");
    }
    // Extensions of a chunk are allowed, and say nothing.
    let head = "POST /write?db=d HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = exchange(server.address, format!("{head}5;a=b\r\n#aaaa\r\n0\r\n\r\n").as_bytes());
    assert_eq!(statuses(&answer), [204]);
    assert!((smuggled(&server) - 1.0).abs() < 0.5, "one of them was heard");
    server.stop();
}

#[test]
fn pipelined_requests_are_answered_in_turn_and_garbage_behind_them_ends_the_connection() {
    let place = Place::new("");
    let server = place.start();
    let ping = "GET /ping HTTP/1.1\r\nHost: t\r\n\r\n";
    let answers = exchange(server.address, ping.repeat(1000).as_bytes());
    assert_eq!(statuses(&answers), vec![204; 1000]);
    let seed = Random::seed_from("TIDEGATE_SECURITY_SEED");
    tell(format!("pipelined garbage: TIDEGATE_SECURITY_SEED={seed}"));
    let mut random = Random::new(seed);
    for _ in 0..300 {
        let mut bytes = ping.repeat(3).into_bytes();
        // No letter: what follows is no method.
        let garbage = 1 + random.below(2000);
        bytes.extend((0..garbage).map(|_| 128 + (random.next() & 127) as u8));
        let answers = statuses(&exchange(server.address, &bytes));
        assert!(matches!(answers[..], [204, 204, 204] | [204, 204, 204, 400 | 431]), "{answers:?}");
        // A request that was bent anywhere is answered or not, and ends nobody else's.
        let mut bent = post("/write?db=d", "X-A: b\r\n", b"m,s=a v=1 1");
        let at = random.below(bent.len());
        bent[at] = (random.next() & 255) as u8;
        let answers = statuses(&blurt(server.address, &bent));
        assert!(answers.iter().all(|code| *code < 500), "{answers:?} to {bent:?}");
    }
    server.write("sound", "m,s=a v=1i 1");
    server.stop();
}
