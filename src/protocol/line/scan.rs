//! Where a name ends: sets of bytes, searched eight at a time.
//!
//! A name of telemetry is about eight bytes long, so that a call into `memchr` costs more than it
//! saves, and it has five bytes to look for where `memchr` takes three. Texts that may be long, strings
//! and comments, do go through `memchr`.

/// How many bytes one step looks at.
const WINDOW_BYTES: usize = 8;

/// A set of bytes at which a text outside strings ends or needs a closer look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stops<const OTHERS: usize>([u8; OTHERS]);

/// Up to this every byte is a stop. That takes in control characters, space and comma by one compare,
/// and some marks that are rare in names and cost a closer look.
const LOW_STOPS_END: u8 = b',' + 1;

/// Where a measurement stops.
pub(super) const MEASUREMENT_STOPS: Stops<2> = Stops([b'\\', 0x7f]);

/// Where a key or a tag value stops.
pub(super) const NAME_STOPS: Stops<3> = Stops([b'=', b'\\', 0x7f]);

impl<const OTHERS: usize> Stops<OTHERS> {
    /// The place of the first byte of `bytes` that is in the set, or the length if there is none.
    #[inline]
    pub(super) fn find(self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Some((window, after)) = rest.split_first_chunk::<WINDOW_BYTES>() {
            let flags = self.flags(u64::from_le_bytes(*window));
            if flags != 0 {
                let place = (flags.trailing_zeros() / u8::BITS) as usize;
                return bytes.len().wrapping_sub(rest.len()).wrapping_add(place);
            }
            rest = after;
        }
        self.find_in_tail(bytes, rest)
    }

    /// A high bit in each byte that is in the set; above the first of them, there may be false ones.
    /// Source: Anderson, "Bit Twiddling Hacks", "Determine if a word has a byte less than n".
    #[inline]
    fn flags(self, word: u64) -> u64 {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
        let each = |byte: u8| ONES.wrapping_mul(u64::from(byte));
        let mut found = word.wrapping_sub(each(LOW_STOPS_END));
        for other in self.0 {
            found |= (word ^ each(other)).wrapping_sub(ONES);
        }
        // The others are ASCII, so that their high bits are those of the word itself.
        found & !word & HIGH_BITS
    }

    /// The last bytes of a body, fewer than a window.
    #[cold]
    fn find_in_tail(self, bytes: &[u8], tail: &[u8]) -> usize {
        let place = tail.iter().position(|byte| self.contains(*byte)).unwrap_or(tail.len());
        bytes.len().wrapping_sub(tail.len()).wrapping_add(place)
    }

    fn contains(self, byte: u8) -> bool {
        byte < LOW_STOPS_END || self.0.contains(&byte)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test that indexes in vain fails, as it should")]
mod tests {
    use super::super::text::Kind;
    use super::*;

    /// Goal: the search by windows finds what one by bytes finds, for every byte at every place.
    #[test]
    fn the_first_stop_is_found_wherever_it_stands() {
        for length in 0..40 {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    let expected = if NAME_STOPS.contains(byte) { place } else { length };
                    assert_eq!(NAME_STOPS.find(&bytes), expected, "{byte:#04x} in {length}");
                }
            }
        }
    }

    /// Goal: false flags above the first stop do no harm. Method: every pair of neighbours.
    #[test]
    fn the_first_of_two_stops_wins() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let bytes = [b'a', first, second, b'a', b'a', b'a', b'a', b'a'];
                let expected = bytes.iter().position(|byte| NAME_STOPS.contains(*byte));
                let expected = expected.unwrap_or(bytes.len());
                assert_eq!(NAME_STOPS.find(&bytes), expected, "{first:#04x} {second:#04x}");
            }
        }
    }

    /// Goal: nothing that ends a text, and no escape, is passed over.
    #[test]
    fn every_end_of_a_text_is_a_stop() {
        for byte in 0..=u8::MAX {
            if Kind::Name.is_ended_by(byte) || byte == b'\\' {
                assert!(NAME_STOPS.contains(byte), "{byte:#04x}");
            }
            if Kind::Measurement.is_ended_by(byte) || byte == b'\\' {
                assert!(MEASUREMENT_STOPS.contains(byte), "{byte:#04x}");
            }
        }
    }
}
