//! The promise: a log written by any earlier version still opens, with exactly the frames and records
//! that were written. `tests/data/wal-v*` hold what each version of the format wrote; they are never
//! written again.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tidegate::base::clock::SystemClock;
use tidegate::base::lsn::Lsn;
use tidegate::base::poison::Poison;
use tidegate::base::units::Bytes;
use tidegate::record::codec::Payload;
use tidegate::record::{MeasureKind, Value};
use tidegate::wal::{Durability, Options, Unobserved, Wal, WalError, scan};

#[path = "format_versions/write.rs"]
mod write;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

/// The fixture of the version that the code writes.
const CURRENT: &str = "wal-v2";

/// The log in a fixture.
const LOG: &str = "log";

/// What its frames hold, as [`described`] says it.
const LISTING: &str = "frames.txt";

const SEGMENT_BYTES: u64 = 8 << 10;

/// Longer than a synced append takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn open(dir: &Path) -> Wal {
    try_open(dir).unwrap()
}

fn try_open(dir: &Path) -> Result<Wal, WalError> {
    let options = Options {
        dir: dir.to_owned(),
        segment_bytes: Bytes(SEGMENT_BYTES),
        bytes_max: Bytes(16 * SEGMENT_BYTES),
        ..Options::default()
    };
    let observer = Arc::new(Unobserved);
    Wal::open(&options, SystemClock::shared(), Poison::new(), observer)
}

fn append(wal: &Wal, payload: &[u8]) -> Lsn {
    let (sender, answer) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    let lsn = wal.append(payload, Durability::Sync, done).unwrap();
    assert_eq!(answer.recv_timeout(PATIENCE).unwrap(), Ok(lsn));
    lsn
}

/// All frames from `from` on.
fn frames(wal: &Wal, from: Lsn) -> Vec<(Lsn, Vec<u8>)> {
    let mut reader = wal.reader(from);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next(Duration::ZERO).unwrap() {
        frames.push((frame.lsn(), frame.payload().to_vec()));
    }
    frames
}

/// Frames, their bytes, and all that is in them, a line each; for people as well.
fn described(frames: &[(Lsn, Vec<u8>)]) -> String {
    let mut out = String::new();
    for (lsn, payload) in frames {
        let check = crc32fast::hash(payload);
        writeln!(out, "frame {lsn}: {} bytes, CRC-32 {check:08x}", payload.len()).unwrap();
        describe_payload(payload, &mut out);
    }
    out
}

fn describe_payload(bytes: &[u8], out: &mut String) {
    let payload = Payload::open(bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    writeln!(out, "  received {}", payload.received_ns()).unwrap();
    for at in 0..payload.sections() {
        for view in payload.section(at, &families, &layouts) {
            let view = view.unwrap();
            let dimensions: Vec<_> = view.dimensions().collect();
            let names = view.layout.entries().map(|(_, name)| name);
            let values = view.values().map(|value| value_text(&value.unwrap()));
            let values: Vec<String> =
                names.zip(values).map(|(name, value)| format!("{name:?} {value}")).collect();
            let (kind, values) = (kind_name(view.layout.kind), values.join(", "));
            let (table, measure) = (view.family.table, view.family.measure_name);
            writeln!(
                out,
                "  section {at} record {}: table {table} {measure:?} series {:016x} {dimensions:?} \
                 {kind} [{values}] time {} version {}",
                view.number, view.series_hash, view.time_ns, view.version,
            )
            .unwrap();
        }
    }
    for line in payload.refused_lines() {
        let line = line.unwrap();
        let text = line.text.escape_ascii();
        let (number, reason, database) = (line.number, line.reason.code(), line.database);
        write!(out, "  refused {number}: {reason} {database:?} {:?} \"{text}\"", line.message)
            .unwrap();
        let reading = line.reading;
        writeln!(out, "{}{reading}", if reading.is_empty() { "" } else { " as " }).unwrap();
    }
}

fn kind_name(kind: MeasureKind) -> &'static str {
    match kind {
        MeasureKind::Scalar => "scalar",
        MeasureKind::Multi => "multi",
    }
}

/// Type and value; floats by their bits, which no rounding of a printer can hide.
fn value_text(value: &Value<'_>) -> String {
    let name = value.value_type().name();
    match value {
        Value::Double(value) => format!("{name} {:016x}", value.to_bits()),
        Value::Bigint(value) | Value::Timestamp(value) => format!("{name} {value}"),
        Value::Boolean(value) => format!("{name} {value}"),
        Value::Varchar(value) => format!("{name} {value:?}"),
    }
}

/// Every fixture, oldest first.
fn fixtures() -> Vec<PathBuf> {
    let entries = fs::read_dir(DATA).unwrap().map(|entry| entry.unwrap().path());
    let is_fixture = |path: &PathBuf| path.join(LISTING).is_file();
    let mut fixtures: Vec<PathBuf> = entries.filter(is_fixture).collect();
    fixtures.sort();
    assert!(fixtures.iter().any(|path| path.ends_with(CURRENT)), "the fixtures were not found");
    fixtures
}

/// A copy of a fixture's log, which a test may write to.
fn copy(fixture: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture.join(LOG)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// The checkpoint and the last frame of each fixture.
const MARKS: [(&str, Lsn, Lsn); 2] = [
    ("wal-v1", Lsn(write::STORED), Lsn(write::FRAMES)),
    ("wal-v2", Lsn(write::STORED), Lsn(write::FRAMES)),
];

/// Goal: the log of every version opens, serves exactly what was written, takes new frames behind
/// it, and serves both after another start.
#[test]
fn a_log_written_by_any_earlier_version_still_opens() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), MARKS.len(), "each fixture has its marks");
    for (fixture, (name, checkpoint, last)) in fixtures.iter().zip(MARKS) {
        assert!(fixture.ends_with(name), "{}", fixture.display());
        let listing = fs::read_to_string(fixture.join(LISTING)).unwrap();
        let copy = copy(fixture);
        let wal = open(copy.path());
        assert_eq!((wal.marks().checkpoint, wal.marks().durable), (checkpoint, last));
        let found = frames(&wal, checkpoint.next());
        assert_eq!(described(&found), listing, "{name}");
        let next = append(&wal, &found[0].1);
        assert_eq!(next, last.next());
        wal.close();
        drop(wal);

        let again = frames(&open(copy.path()), checkpoint.next());
        let (new, old) = again.split_last().unwrap();
        assert_eq!(described(old), listing, "{name}");
        assert_eq!(*new, (next, found[0].1.clone()));
    }
}

/// Goal: tools that read beside a server read the logs of every version as well.
#[test]
fn the_log_of_any_earlier_version_is_read_without_being_opened() {
    for (fixture, (name, checkpoint, last)) in fixtures().iter().zip(MARKS) {
        let all = scan::read_only(&fixture.join(LOG)).unwrap();
        let all: Vec<_> = all.map(Result::unwrap).collect();
        assert_eq!(all.last().map(|(lsn, _)| *lsn), Some(last));
        let listed: Vec<_> = all.into_iter().filter(|(lsn, _)| *lsn > checkpoint).collect();
        let listing = fs::read_to_string(fixture.join(LISTING)).unwrap();
        assert_eq!(described(&listed), listing, "{name}");
    }
}

/// Goal: the listings are judged by somebody other than the code that wrote them. Method: what
/// `write.rs` put into the log by hand is looked for in the listing of the current version.
#[test]
fn the_listing_has_what_was_written() {
    let listing = fs::read_to_string(Path::new(DATA).join(CURRENT).join(LISTING)).unwrap();
    let listed = listing.lines().filter(|line| line.starts_with("frame ")).count() as u64;
    assert_eq!(listed, write::FRAMES - write::STORED);
    for expected in write::EXPECTED {
        assert!(listing.contains(expected), "{expected} is not in the listing");
    }
}

/// Goal: a fixture that lost or changed something would be noticed. Method: each byte of a synced
/// payload of its log is changed, and a segment is taken away.
#[test]
fn a_changed_fixture_does_not_pass() {
    let fixture = Path::new(DATA).join(CURRENT);
    let copy = copy(&fixture);
    let segment = copy.path().join("00000000000000000003.wal");
    let sound = fs::read(&segment).unwrap();
    let text = "münchen".as_bytes();
    let at = sound.windows(text.len()).position(|window| window == text).unwrap();
    for byte in at..at + text.len() {
        let mut changed = sound.clone();
        changed[byte] ^= 1;
        fs::write(&segment, changed).unwrap();
        let read: Result<Vec<_>, _> = scan::read_only(copy.path()).unwrap().collect();
        assert!(matches!(read, Err(WalError::Corrupt { segment: 3, .. })), "byte {byte}: {read:?}");
    }
    assert!(matches!(try_open(copy.path()), Err(WalError::Damaged { .. })));
    fs::remove_file(&segment).unwrap();
    assert!(matches!(try_open(copy.path()), Err(WalError::Damaged { .. })));
}
