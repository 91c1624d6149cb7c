//! The files of the log, as `src/wal` writes them and as its tables describe them.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tidegate::base::clock::SystemClock;
use tidegate::base::lsn::Lsn;
use tidegate::base::poison::Poison;
use tidegate::base::units::Bytes;
use tidegate::wal::{Durability, Options, PAYLOAD_BYTES_MAX, Unobserved, Wal};

use super::tables::{Field, constant, hold, length, module_comment, numbers_in, table};
use super::wire::crc32;

const SEGMENT: &str = include_str!("../../src/wal/segment.rs");
const FRAME: &str = include_str!("../../src/wal/frame.rs");
const CHECKPOINT: &str = include_str!("../../src/wal/checkpoint.rs");

const HEADS: [&str; 4] = ["offset", "bytes", "field", "content"];
const PAGE_BYTES: usize = 4096;
const SEGMENT_BYTES: u64 = 16 << 10;

/// Frames of the log: payloads of 0 to 8 bytes, so that every length of padding occurs.
const FRAMES: u64 = 9;

/// What the log is told to have stored elsewhere, once the frame after it is durable.
const STORED: u64 = 4;

fn fields(source: &str) -> Vec<Field> {
    table(&module_comment(source), &HEADS).unwrap().fields("field")
}

fn content<'f>(fields: &'f [Field], name: &str) -> &'f str {
    &fields.iter().find(|field| field.name == name).expect("the field is in the table").content
}

/// The bytes of field `name`.
fn bytes_of<'b>(fields: &[Field], name: &str, bytes: &'b [u8]) -> &'b [u8] {
    let field = fields.iter().find(|field| field.name == name).expect("the field is in the table");
    &bytes[field.offset..field.offset + field.bytes]
}

fn long(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Writes the log in `dir`: each frame is synced before the next, so its `durable` is known.
fn write_log(dir: &Path) {
    let options = Options {
        dir: dir.to_owned(),
        segment_bytes: Bytes(SEGMENT_BYTES),
        bytes_max: Bytes(16 * SEGMENT_BYTES),
        ..Options::default()
    };
    let observer = Arc::new(Unobserved);
    let wal = Wal::open(&options, SystemClock::shared(), Poison::new(), observer).unwrap();
    for n in 1..=FRAMES {
        let (sender, answer) = mpsc::channel();
        let done = Box::new(move |result| sender.send(result).unwrap());
        assert_eq!(wal.append(&payload(n), Durability::Sync, done).unwrap(), Lsn(n));
        assert_eq!(answer.recv_timeout(Duration::from_secs(30)).unwrap(), Ok(Lsn(n)));
        if n == STORED + 1 {
            wal.checkpoint(Lsn(STORED)).unwrap();
        }
    }
    // Writes a record more, which says how far the log is durable.
    wal.close();
}

fn payload(n: u64) -> Vec<u8> {
    (1..n).map(|at| u8::try_from(16 * n + at).unwrap()).collect()
}

/// Goal: a segment's header is where and what the table says, twice, and nothing else is in its page.
#[test]
fn a_segment_header_is_as_its_table_says() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path());
    let file = std::fs::read(dir.path().join("00000000000000000001.wal")).unwrap();
    assert_eq!(file.len() as u64, SEGMENT_BYTES);
    let fields = fields(SEGMENT);
    let header_bytes = length(&fields).unwrap();
    assert_eq!(header_bytes, constant(SEGMENT, "HEADER_BYTES"));
    assert_eq!(constant(SEGMENT, "PAGE_BYTES"), PAGE_BYTES);
    let comment = module_comment(SEGMENT).replace('\n', " ");
    assert!(
        comment.contains("Its first 4096 bytes hold the header twice, at offset 0 and at 2048")
    );
    assert!(comment.contains("Frames begin at 4096"));

    let mut page = file[..PAGE_BYTES].to_vec();
    for at in [0, 2048] {
        let copy = page[at..at + header_bytes].to_vec();
        let known = [
            ("magic", content(&fields, "magic").trim_matches('`').as_bytes().to_vec()),
            ("version", content(&fields, "version").parse::<u32>().unwrap().to_le_bytes().to_vec()),
            ("check", other_bytes_check(&fields, &copy)),
            ("number", 1_u64.to_le_bytes().to_vec()),
            // Random; that it is the one that the frames are seeded with is seen by their checks.
            ("generation", bytes_of(&fields, "generation", &copy).to_vec()),
            ("first", 1_u64.to_le_bytes().to_vec()),
            ("bytes", SEGMENT_BYTES.to_le_bytes().to_vec()),
        ];
        hold(&fields, &copy, &known).unwrap();
        page[at..at + header_bytes].fill(0);
    }
    assert!(page.iter().all(|byte| *byte == 0), "the rest of the page is zero");
}

/// The check of a record that covers all of it but the check.
fn other_bytes_check(fields: &[Field], record: &[u8]) -> Vec<u8> {
    let check = fields.iter().find(|field| field.name == "check").expect("in the table");
    let end = check.offset + check.bytes;
    let documented = numbers_in(check.content.trim_start_matches("CRC-32"));
    assert_eq!(documented, [length(fields).unwrap() - check.bytes], "{}", check.content);
    crc32(&[&record[..check.offset], &record[end..]]).to_le_bytes().to_vec()
}

/// Goal: every frame and the mark behind the last are where and what the table says. Method: walks
/// the segment with nothing but the table.
#[test]
fn frames_and_the_mark_are_as_their_table_says() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path());
    let file = std::fs::read(dir.path().join("00000000000000000001.wal")).unwrap();
    let fields = fields(FRAME);
    let header_bytes = length(&fields).unwrap();
    assert_eq!(header_bytes, constant(FRAME, "HEADER_BYTES"));
    let table = table(&module_comment(FRAME), &HEADS).unwrap();
    let rows = table.columns(["offset", "bytes", "field"]);
    let behind: Vec<_> = rows[fields.len()..].to_vec();
    let rest = [["32", "length", "payload"], ["32 + length", "0 to 7", "padding"]];
    assert_eq!(behind, rest, "what follows the header");
    assert_eq!(numbers_in(rest[0][0]), [header_bytes]);
    assert_eq!(constant(FRAME, "PAYLOAD_BYTES_MAX"), PAYLOAD_BYTES_MAX);

    let mut offset = PAGE_BYTES;
    for n in 1..=FRAMES + 1 {
        let payload = if n <= FRAMES { payload(n) } else { Vec::new() };
        let mut body = payload.clone();
        body.resize(payload.len().next_multiple_of(constant(FRAME, "ALIGN")), 0);
        let end = offset + header_bytes + body.len();
        let known = known_frame(&fields, &file, offset, (n, &payload));
        hold(&fields, &file[offset..], &known).unwrap();
        assert_eq!(file[offset + header_bytes..end], body, "frame {n}");
        offset = end;
    }
}

/// Frame `n` at `offset`, and behind the last frame the mark.
fn known_frame(
    fields: &[Field],
    file: &[u8],
    offset: usize,
    (n, payload): (u64, &[u8]),
) -> [(&'static str, Vec<u8>); 6] {
    let kinds = content(fields, "kind");
    assert_eq!(kinds, "1 frame, 2 mark");
    let kind: u32 = if n <= FRAMES { 1 } else { 2 };
    let padding = payload.len().next_multiple_of(8) - payload.len();
    let seed = bytes_of(&self::fields(SEGMENT), "generation", file).to_vec();
    let check = content(fields, "check");
    assert_eq!(
        check,
        "CRC-32 of the segment's number and generation, 8 bytes each, and of bytes 4 to 32"
    );
    let covered = &file[offset + 4..offset + 32];
    [
        ("check", crc32(&[&1_u64.to_le_bytes(), &seed, covered]).to_le_bytes().to_vec()),
        ("length", u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec()),
        ("lsn", n.to_le_bytes().to_vec()),
        ("durable", (n - 1).to_le_bytes().to_vec()),
        ("payload check", crc32(&[payload, &[0; 7][..padding]]).to_le_bytes().to_vec()),
        ("kind", kind.to_le_bytes().to_vec()),
    ]
}

/// Goal: both records of the checkpoint file are where and what the table says.
#[test]
fn the_checkpoint_file_is_as_its_table_says() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path());
    let mut file = std::fs::read(dir.path().join("checkpoint")).unwrap();
    let fields = fields(CHECKPOINT);
    let record_bytes = length(&fields).unwrap();
    assert_eq!(record_bytes, constant(CHECKPOINT, "RECORD_BYTES"));
    let comment = module_comment(CHECKPOINT).replace('\n', " ");
    assert!(comment.contains("8192 bytes, made once. A record stands at offset 0 or at 4096"));
    assert_eq!(file.len(), 8192);

    let place_bytes = constant(CHECKPOINT, "PLACE_BYTES");
    let turn_at = |at: usize| long(bytes_of(&fields, "turn", &file[at..at + record_bytes]));
    let turns = [turn_at(0), turn_at(place_bytes)];
    let last = turns[0].max(turns[1]);
    assert_eq!(turns.map(|turn| turn % 2), [0, 1], "an odd one stands at 4096");
    assert_eq!(turns[0].abs_diff(turns[1]), 1, "each replaces the older of the two");
    assert_eq!(last, 2, "the file was made with record 0, and two were written since");
    for (turn, durable) in [(last - 1, STORED + 1), (last, FRAMES)] {
        let at = usize::try_from(turn % 2).unwrap() * place_bytes;
        let record = file[at..at + record_bytes].to_vec();
        let known = [
            ("magic", content(&fields, "magic").trim_matches('`').as_bytes().to_vec()),
            ("version", content(&fields, "version").parse::<u32>().unwrap().to_le_bytes().to_vec()),
            ("check", other_bytes_check(&fields, &record)),
            ("turn", turn.to_le_bytes().to_vec()),
            ("checkpoint", STORED.to_le_bytes().to_vec()),
            ("segment", 1_u64.to_le_bytes().to_vec()),
            ("durable", durable.to_le_bytes().to_vec()),
        ];
        hold(&fields, &record, &known).unwrap();
        file[at..at + record_bytes].fill(0);
    }
    assert!(file.iter().all(|byte| *byte == 0), "the rest of the file is zero");
}
