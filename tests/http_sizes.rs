//! The promise: on a server that does nothing else, a body is taken up to its limit, however it is framed or
//! compressed, and one beyond it is told which limit that was. It is never told to come back for ever.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::panic, reason = "helpers of tests")]

#[expect(dead_code, reason = "shared with other tests")]
mod http_support;

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use tidegate::base::units::Bytes;

use http_support::{Running, read_reply, start};

/// The limits of the servers here. No power of two, so that no buffer that doubles ends there by chance.
const LIMIT: usize = (2 << 20) + 12_345;

/// Comments, which are taken and stored nowhere, of `bytes` in all.
fn comments(bytes: usize) -> Vec<u8> {
    let line = format!("#{}\n", "x".repeat(98));
    line.bytes().cycle().take(bytes).collect()
}

fn encoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    let fast = Compression::fast();
    match encoding {
        "identity" => body.to_vec(),
        "gzip" => {
            let mut gzip = GzEncoder::new(Vec::new(), fast);
            gzip.write_all(body).unwrap();
            gzip.finish().unwrap()
        }
        "deflate" => {
            let mut zlib = ZlibEncoder::new(Vec::new(), fast);
            zlib.write_all(body).unwrap();
            zlib.finish().unwrap()
        }
        "raw" => {
            let mut raw = DeflateEncoder::new(Vec::new(), fast);
            raw.write_all(body).unwrap();
            raw.finish().unwrap()
        }
        "zstd" => zstd::stream::encode_all(body, 1).unwrap(),
        other => panic!("no encoding {other}"),
    }
}

/// Status and text of the answer to a body in a framing.
fn sent(server: &Running, encoding: &str, framing: &str, body: &[u8]) -> (u16, String) {
    let name = if encoding == "raw" { "deflate" } else { encoding };
    let head =
        format!("POST /api/v2/write?bucket=d HTTP/1.1\r\nHost: t\r\nContent-Encoding: {name}\r\n");
    let mut bytes = head.into_bytes();
    if framing == "chunked" {
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(10_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    } else {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
    }
    let mut stream = server.connect();
    stream.write_all(&bytes).unwrap();
    let reply = read_reply(&mut stream);
    (reply.status, reply.text())
}

/// Goal: nothing that fits is refused, nothing that does not fit is told to try again. Method: sizes around
/// the limits and around the halves at which a buffer grows, where the memory for requests is as small as the
/// settings allow.
#[test]
fn a_body_up_to_the_limit_is_taken_by_an_idle_server_and_one_beyond_it_is_413() {
    let server = start(|config| {
        config.server.body_bytes_max = Bytes(LIMIT as u64);
        config.server.inflated_bytes_max = Bytes(LIMIT as u64);
        config.ingest.memory_bytes_max = Bytes(LIMIT as u64);
    });
    let mut wrong = Vec::new();
    for (size, status) in [
        (1, 204),
        (64 << 10, 204),
        ((64 << 10) + 1, 204),
        (LIMIT / 2 - 1, 204),
        (LIMIT / 2 + 1, 204),
        (1 << 20, 204),
        ((1 << 20) + 1, 204),
        (2 << 20, 204),
        ((2 << 20) + 1, 204),
        (LIMIT - 1025, 204),
        (LIMIT - 1, 204),
        (LIMIT, 204),
        (LIMIT + 1, 413),
        (LIMIT + 70_000, 413),
        (2 * LIMIT, 413),
    ] {
        let body = comments(size);
        for encoding in ["identity", "gzip", "deflate", "raw", "zstd"] {
            for framing in ["length", "chunked"] {
                let (found, text) = sent(&server, encoding, framing, &encoded(encoding, &body));
                let setting = match encoding {
                    "identity" => "server.body_bytes_max",
                    _ => "server.inflated_bytes_max",
                };
                let is_named = text.contains(setting) && text.contains(&LIMIT.to_string());
                if found != status || (status == 413 && !is_named) {
                    wrong.push(format!("{size} {encoding} {framing}: {found} {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_body_that_says_how_large_it_is_is_told_so_beside_the_limit() {
    let server = start(|config| config.server.body_bytes_max = Bytes(4096));
    let (status, text) = sent(&server, "identity", "length", &comments(5000));
    assert_eq!(status, 413);
    assert!(text.contains("5000") && text.contains("4096"), "{text}");
}
