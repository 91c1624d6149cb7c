//! One frame: a header and the payload that the caller gave.
//!
//! A frame begins at a multiple of 8 bytes and lies in one segment.
//!
//! | offset | bytes | field | content |
//! |---:|---:|---|---|
//! | 0 | 4 | check | CRC-32 of the segment's number and generation, 8 bytes each, and of bytes 4 to 32 |
//! | 4 | 4 | length | bytes of the payload, at most [`PAYLOAD_BYTES_MAX`] |
//! | 8 | 8 | lsn | the frame's number; in a mark, the number that the next frame will have |
//! | 16 | 8 | durable | the last frame known to be synced when this one was written |
//! | 24 | 4 | payload check | CRC-32 of the payload and its padding |
//! | 28 | 4 | kind | 1 frame, 2 mark |
//! | 32 | length | payload | |
//! | 32 + length | 0 to 7 | padding | zeros, up to a multiple of 8 |
//!
//! A frame is valid if and only if its check and its payload check hold, its length is at most
//! [`PAYLOAD_BYTES_MAX`] and ends within the segment, `durable < lsn < 2^63`, and `lsn` is the one
//! expected at that place: the segment's first, or that of the frame before it plus one.
//!
//! Two checks instead of one: the length is believed, and the payload read, only once the header has
//! proved that it was written by this log into this segment under this generation. So bytes inside a
//! payload that look like a header, put there by a client, cannot be taken for one, and a search
//! behind a torn frame costs 28 bytes a try. The payload's check needs no seed: it is part of the
//! header that has one.
//!
//! A **mark** is a header without a payload, written behind the last frame when the log has nothing
//! to do, and overwritten by the next frame. It says nothing but `durable`: with it, damage to the
//! last frames before a pause is told from a torn tail, also when no frame followed.

use crate::base::lsn::Lsn;

/// Most bytes of a payload. The codec of records has the same figure.
pub const PAYLOAD_BYTES_MAX: usize = 48 << 20;

/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 32;

/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;

/// A frame's header as it lies in the file.
pub(super) type HeaderBytes = [u8; HEADER_BYTES];

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN));
const _: () = assert!(PAYLOAD_BYTES_MAX < u32::MAX as usize);

/// Bytes that a frame with a payload of `payload_bytes` takes in the segment.
pub(super) const fn frame_bytes(payload_bytes: usize) -> usize {
    HEADER_BYTES + payload_bytes.next_multiple_of(ALIGN)
}

/// What makes the checks of one segment's frames fail in every other segment, and in the same file
/// before it was recycled: equal bytes under different seeds never have equal checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    /// The seed of the segment `number` in its `generation`.
    pub(super) fn new(number: u64, generation: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&number.to_le_bytes());
        hasher.update(&generation.to_le_bytes());
        Self(hasher.finalize())
    }

    fn check(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// What a header heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A payload.
    Frame,
    /// Nothing.
    Mark,
}

/// A header whose check held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of the payload, at most [`PAYLOAD_BYTES_MAX`].
    pub(super) length: u32,
    pub(super) lsn: Lsn,
    /// Less than `lsn`.
    pub(super) durable: Lsn,
    pub(super) payload_check: u32,
}

impl Header {
    /// The header of a frame that holds `payload`, without its number yet.
    pub(super) fn of_payload(payload: &[u8]) -> Self {
        let length =
            u32::try_from(payload.len()).expect("a payload is bounded before it gets here");
        let payload_check = payload_check(payload);
        Self { kind: Kind::Frame, length, lsn: Lsn::ZERO, durable: Lsn::ZERO, payload_check }
    }

    /// The same header with its number.
    pub(super) fn numbered(self, lsn: Lsn) -> Self {
        Self { lsn, ..self }
    }

    /// The mark behind `durable`, the last frame.
    pub(super) fn mark(durable: Lsn) -> Self {
        let payload_check = payload_check(&[]);
        Self { kind: Kind::Mark, length: 0, lsn: durable.next(), durable, payload_check }
    }

    /// The header as it lies in the file.
    pub(super) fn encode(&self, seed: Seed) -> HeaderBytes {
        let mut bytes = self.encode_open();
        seal(&mut bytes, seed, self.durable);
        bytes
    }

    /// The header without what only the commit thread knows; [`seal`] completes it.
    pub(super) fn encode_open(&self) -> HeaderBytes {
        let kind: u32 = match self.kind {
            Kind::Frame => 1,
            Kind::Mark => 2,
        };
        let mut bytes = [0; HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload_check.to_le_bytes());
        bytes[28..32].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    /// Reads a header that may be anything; `None` unless it is valid.
    pub(super) fn decode(bytes: &HeaderBytes, seed: Seed) -> Option<Self> {
        // Cheapest first: a search tries this at every eighth byte of a segment.
        let kind = match word(bytes, 28) {
            1 => Kind::Frame,
            2 => Kind::Mark,
            _ => return None,
        };
        let length = word(bytes, 4);
        let longest = if kind == Kind::Mark { 0 } else { PAYLOAD_BYTES_MAX };
        if length as usize > longest || seed.check(&bytes[4..]) != word(bytes, 0) {
            return None;
        }
        let (lsn, durable) = (Lsn(long(bytes, 8)), Lsn(long(bytes, 16)));
        let header = Self { kind, length, lsn, durable, payload_check: word(bytes, 24) };
        (durable < lsn && lsn < Lsn::LIMIT).then_some(header)
    }

    /// Bytes from the frame's begin to the next one's.
    pub(super) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.length as usize) as u64
    }

    /// Bytes of the payload and its padding.
    pub(super) fn body_bytes(&self) -> usize {
        frame_bytes(self.length as usize) - HEADER_BYTES
    }

    /// Whether `body`, a payload with its padding, is what the header heads.
    pub(super) fn heads(&self, body: &[u8]) -> bool {
        body.len() == self.body_bytes() && crc32fast::hash(body) == self.payload_check
    }
}

/// Completes a header of [`Header::encode_open`], once its segment and the durable mark are known.
pub(super) fn seal(header: &mut HeaderBytes, seed: Seed, durable: Lsn) {
    assert!(durable.0 < long(header, 8), "a frame cannot be durable before it is written");
    header[16..24].copy_from_slice(&durable.0.to_le_bytes());
    let check = seed.check(&header[4..]);
    header[..4].copy_from_slice(&check.to_le_bytes());
}

/// The payload's length in a header of [`Header::encode_open`].
pub(super) fn length_of(header: &HeaderBytes) -> usize {
    word(header, 4) as usize
}

fn payload_check(payload: &[u8]) -> u32 {
    let padding = payload.len().next_multiple_of(ALIGN) - payload.len();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(payload);
    hasher.update(&[0; ALIGN][..padding]);
    hasher.finalize()
}

fn word(bytes: &HeaderBytes, at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &HeaderBytes, at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> Seed {
        Seed::new(7, 0x1234_5678_9abc_def0)
    }

    #[test]
    fn a_header_reads_back_under_its_own_seed_only() {
        let mut bytes = Header::of_payload(b"payload").numbered(Lsn(9)).encode(seed());
        seal(&mut bytes, seed(), Lsn(5));
        let header = Header::decode(&bytes, seed()).unwrap();
        assert_eq!((header.lsn, header.durable, header.length), (Lsn(9), Lsn(5), 7));
        assert_eq!(header.frame_bytes(), 40);
        assert!(header.heads(b"payload\0"));
        assert!(!header.heads(b"payload\x01"));
        assert_eq!(Header::decode(&bytes, Seed::new(8, 0x1234_5678_9abc_def0)), None);
        assert_eq!(Header::decode(&bytes, Seed::new(7, 1)), None);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let good = Header::of_payload(b"payload").numbered(Lsn(9)).encode(seed());
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes, seed()), None, "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_no_header() {
        assert_eq!(Header::decode(&[0; HEADER_BYTES], seed()), None);
    }

    #[test]
    fn a_mark_has_no_payload() {
        let mark = Header::mark(Lsn(4));
        let read = Header::decode(&mark.encode(seed()), seed()).unwrap();
        assert_eq!((read.kind, read.lsn, read.durable), (Kind::Mark, Lsn(5), Lsn(4)));
        assert!(read.heads(&[]));
    }
}
