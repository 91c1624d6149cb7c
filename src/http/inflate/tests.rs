//! Bodies of every encoding, whole, cut, damaged and endless.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;

/// Memory that counts what it gave, up to a limit.
struct Counted {
    given: usize,
    max: usize,
}

impl Reserve for Counted {
    type Error = &'static str;

    fn reserve(&mut self, bytes: usize) -> Result<(), &'static str> {
        if self.given + bytes > self.max {
            return Err("none left");
        }
        self.given += bytes;
        Ok(())
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

fn inflate(
    encoding: Encoding,
    body: &[u8],
    step: usize,
    bytes_max: usize,
) -> Result<Vec<u8>, InflateError<&'static str>> {
    let mut memory = Counted { given: 0, max: usize::MAX };
    let mut inflate = Inflate::new(encoding, bytes_max).unwrap();
    for part in body.chunks(step) {
        inflate.push(part, &mut memory)?;
    }
    let out = inflate.finish()?;
    // The one byte by which a body ends that is just as long as it may be.
    let asked = out.capacity().min(bytes_max);
    assert!(memory.given >= asked, "memory is asked for before it is used");
    assert!(memory.given <= bytes_max && out.capacity() <= bytes_max + 1);
    Ok(out)
}

fn text() -> Vec<u8> {
    (0..40_000)
        .flat_map(|n: u32| format!("cpu,host=h{} v={n}i {n}\n", n % 97).into_bytes())
        .collect()
}

#[test]
fn every_encoding_comes_back_however_it_is_cut_into_frames() {
    let text = text();
    for (encoding, body) in [
        (Encoding::Gzip, gzip(&text)),
        (Encoding::Deflate, zlib(&text)),
        (Encoding::Deflate, raw(&text)),
        (Encoding::Zstd, zstd(&text)),
    ] {
        for step in [1, 7, 4096, usize::MAX] {
            let step = step.min(body.len());
            let out = inflate(encoding, &body, step, 64 << 20).unwrap();
            assert!(out == text, "{encoding:?} by {step}");
        }
    }
}

#[test]
fn several_members_and_empty_ones_follow_one_another() {
    for (encoding, pack) in [(Encoding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Encoding::Zstd, zstd)]
    {
        let body = [pack(b"a 1\n"), pack(b""), pack(b"b 2\n")].concat();
        for step in [1, 5, body.len()] {
            assert_eq!(inflate(encoding, &body, step, 100).unwrap(), b"a 1\nb 2\n", "{encoding:?}");
        }
        assert_eq!(inflate(encoding, b"", 1, 100).unwrap(), b"");
        assert_eq!(inflate(encoding, &pack(b""), 100, 100).unwrap(), b"");
    }
    assert_eq!(inflate(Encoding::Deflate, b"", 1, 100).unwrap(), b"");
}

#[test]
fn a_body_that_is_cut_off_anywhere_is_never_taken() {
    let text = &text()[..2000];
    for (encoding, body) in [
        (Encoding::Gzip, gzip(text)),
        (Encoding::Deflate, zlib(text)),
        (Encoding::Deflate, raw(text)),
        (Encoding::Zstd, zstd(text)),
    ] {
        for end in 1..body.len() {
            let error = inflate(encoding, &body[..end], 64, 1 << 20).unwrap_err();
            assert_eq!(error, InflateError::CutOff { name: encoding.name() }, "{end}");
        }
    }
}

#[test]
fn plain_text_under_an_encodings_name_is_refused() {
    for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
        let error = inflate(encoding, b"weather,site=a t=1 1\nweather t=2 2", 64, 100).unwrap_err();
        assert!(matches!(error, InflateError::Malformed { .. }), "{encoding:?}: {error}");
    }
    let damaged = {
        let mut body = gzip(&text());
        let last = body.len() - 5;
        body[last] ^= 1;
        body
    };
    let error = inflate(Encoding::Gzip, &damaged, 4096, 64 << 20).unwrap_err();
    assert!(matches!(error, InflateError::Malformed { name: "gzip", .. }), "a wrong checksum");
    let longer = [zlib(b"a"), b"rest".to_vec()].concat();
    assert!(inflate(Encoding::Deflate, &longer, 64, 100).is_err());
}

#[test]
fn output_ends_at_its_limit_and_never_takes_more_memory_than_that() {
    let zeros = vec![b'0'; 1 << 20];
    for (encoding, body) in [
        (Encoding::Gzip, gzip(&zeros)),
        (Encoding::Deflate, zlib(&zeros)),
        (Encoding::Zstd, zstd(&zeros)),
    ] {
        assert_eq!(inflate(encoding, &body, 512, zeros.len()).unwrap().len(), zeros.len());
        let bytes_max = zeros.len() - 1;
        let error = inflate(encoding, &body, 512, bytes_max).unwrap_err();
        assert_eq!(error, InflateError::TooLarge { bytes_max });
        let mut memory = Counted { given: 0, max: 256 << 10 };
        let mut inflate = Inflate::new(encoding, 64 << 20).unwrap();
        let refused = body.chunks(512).try_for_each(|part| inflate.push(part, &mut memory));
        assert_eq!(refused.unwrap_err(), InflateError::Refused("none left"));
        assert!(inflate.out.capacity() <= memory.max);
    }
}

#[test]
fn a_zstd_body_cannot_ask_for_a_large_window() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(&vec![b'0'; 1 << 20]).unwrap();
    let body = encoder.finish().unwrap();
    assert!(inflate(Encoding::Zstd, &body, 4096, 64 << 20).is_err());
}
