//! What is tried with any bytes at all: nothing may panic, and what is read must make sense. Each
//! target is a function of the bytes, for the loop in `tests/fuzz_formats.rs` and for libFuzzer.

use tidegate::protocol::{json, line};
use tidegate::record::codec::{CodecError, Payload, PayloadBuilder};
use tidegate::record::{Dimension, Record, RecordSink, Refusal, TableId};
use tidegate::wal::bytes::{sound, walk};

/// Where frames begin.
const FRAMES_AT: usize = 4096;

const FRAME_HEADER_BYTES: usize = 32;

/// Largest segment that is tried: a search behind a gap costs a check every eight bytes.
const SEGMENT_BYTES_MAX: usize = 64 << 10;

/// A sound segment header without its check: number 1, generation 2, first frame 1.
fn header(bytes: usize) -> Vec<u8> {
    let mut header = b"TGATEWAL\x01\0\0\0\0\0\0\0".to_vec();
    for value in [1, 2, 1, bytes as u64] {
        header.extend_from_slice(&value.to_le_bytes());
    }
    header
}

/// A segment of these bytes, as they are. Random bytes hardly ever have a valid check, so that this
/// tries the first look only.
pub(crate) fn segment_as_it_is(bytes: &[u8]) {
    if bytes.len() <= SEGMENT_BYTES_MAX {
        let walked = walk(bytes, 1);
        assert_eq!(sound(bytes, 1).is_some(), walked.is_some(), "one header, one verdict");
    }
}

/// A segment whose frames are the bytes, with checks put right, so that what stands behind the checks
/// is tried as well. The top bit of a frame's kind says that its checks stay as they are.
pub(crate) fn segment_with_checks(bytes: &[u8]) {
    if bytes.len() > SEGMENT_BYTES_MAX {
        return;
    }
    let mut segment = header(FRAMES_AT + bytes.len());
    let check = crc32fast::hash(&[&segment[..12], &segment[16..]].concat());
    segment[12..16].copy_from_slice(&check.to_le_bytes());
    segment.resize(FRAMES_AT, 0);
    segment.extend_from_slice(bytes);
    mend(&mut segment);
    let Some(walked) = walk(&segment, 1) else {
        assert!(bytes.is_empty(), "the header is sound");
        return;
    };
    let (mut offset, mut lsn) = (FRAMES_AT, 1);
    for (number, payload) in &walked.frames {
        assert_eq!(number.0, lsn, "numbers are dense");
        let start = offset + FRAME_HEADER_BYTES;
        assert_eq!(
            &segment[start..start + payload.len()],
            payload,
            "a payload is what stands there"
        );
        offset = start + payload.len().next_multiple_of(8);
        lsn += 1;
    }
    assert_eq!(walked.end, offset as u64, "frames stand one behind the other");
    assert!(walked.end <= segment.len() as u64, "and in their segment");
    let sound = sound(&segment, 1).expect("the header is sound");
    let (before, behind) = sound.split_at(walked.frames.len());
    assert_eq!(before, walked.frames, "what is walked over is sound");
    assert!(
        behind.len() as u64 <= walked.frames_behind,
        "what is sound behind it has a valid header"
    );
}

/// Puts the checks of frames right, as long as their lengths lead from one to the next.
fn mend(segment: &mut [u8]) {
    let mut seed = crc32fast::Hasher::new();
    seed.update(&1_u64.to_le_bytes());
    seed.update(&2_u64.to_le_bytes());
    let mut offset = FRAMES_AT;
    while let Some(frame) = segment.get_mut(offset..).filter(|f| f.len() >= FRAME_HEADER_BYTES) {
        let length = u32::from_le_bytes(frame[4..8].try_into().expect("four bytes")) as usize;
        let end = FRAME_HEADER_BYTES + length.next_multiple_of(8);
        let stays = frame[31] & 0x80 != 0;
        frame[31] &= 0x7f;
        if !stays {
            if let Some(body) = frame.get(FRAME_HEADER_BYTES..end) {
                let check = crc32fast::hash(body);
                frame[24..28].copy_from_slice(&check.to_le_bytes());
            }
            let mut hasher = seed.clone();
            hasher.update(&frame[4..FRAME_HEADER_BYTES]);
            let check = hasher.finalize();
            frame[..4].copy_from_slice(&check.to_le_bytes());
        }
        offset += end;
    }
}

/// A payload: everything that a reader may ask of it.
pub(crate) fn payload(bytes: &[u8]) {
    // What is wrong with it is not the question.
    drop(read_payload(bytes));
}

/// Records and refused lines of a payload.
fn read_payload(bytes: &[u8]) -> Result<(u64, u64), CodecError> {
    let payload = Payload::open(bytes)?;
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts)?;
    let mut records = 0;
    for at in 0..payload.sections() {
        for view in payload.section(at, &families, &layouts) {
            let view = view?;
            records += 1;
            let dimensions = view.dimensions().count();
            assert_eq!(dimensions, view.family.dimensions, "no dimension goes missing");
            let mut values = 0;
            for value in view.values() {
                value?;
                values += 1;
            }
            assert_eq!(values, view.layout.entries().count(), "no attribute goes missing");
        }
    }
    assert_eq!(records, payload.records(), "a record is read or is an error");
    let mut refused = 0;
    for line in payload.refused_lines() {
        line?;
        refused += 1;
    }
    assert_eq!(refused, u64::from(payload.refused_count()), "so is a refused line");
    Ok((records, refused))
}

/// Packs what a decoder finds.
struct Packer(PayloadBuilder);

impl RecordSink for Packer {
    fn record(&mut self, record: &Record<'_>) {
        let (family, _) = self.0.family(TableId(1), record);
        let (layout, _) = self.0.layout(record);
        let (time_ns, version) = (record.time_ns.unwrap_or(0), record.version.unwrap_or(1));
        self.0.push((family, layout), record, time_ns, version);
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        self.0.push_refused(("db", ""), &refusal);
    }
}

/// Decodes, packs and reads back: what a client sends never makes a payload that is not one.
fn pack(decode: impl FnOnce(&mut Packer)) {
    let mut packer = Packer(PayloadBuilder::new(2));
    packer.0.start(1);
    decode(&mut packer);
    let mut bytes = Vec::new();
    packer.0.finish(&mut bytes);
    let expected = (u64::from(packer.0.records()), u64::from(packer.0.refused()));
    assert_eq!(read_payload(&bytes), Ok(expected));
}

/// A body of line protocol.
pub(crate) fn line_protocol(bytes: &[u8]) {
    let mut options = line::Options::new("db", 1);
    options.default_dimension = Some(Dimension { name: "d", value: "v" });
    options.version = line::VersionField::Field("version");
    pack(|packer| line::decode(bytes, &options, packer));
}

/// A body of JSON, in either form.
pub(crate) fn json_body(bytes: &[u8]) {
    for form in [json::Form::Document, json::Form::Lines] {
        let options = json::Options {
            database: Some("db"),
            form,
            default_dimension: Some(("d", "v")),
            ..json::Options::default()
        };
        pack(|packer| json::decode(bytes, &options, packer));
    }
}
