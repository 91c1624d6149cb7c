//! Where a token ends: byte classes, searched sixteen bytes at a time.
//!
//! A token of telemetry is about eight bytes long, so that a call into `memchr` costs more than it
//! saves. The loops here run over arrays of known length and compile to vector compares on every
//! target, without `unsafe`. Long texts (strings, comments) do go through `memchr`.

/// How many bytes one step looks at.
const WINDOW_BYTES: usize = 16;

/// Whether a control character, which no name may hold. Source: line-protocol v2, `nonPrintable`.
#[inline]
const fn is_control(byte: u8) -> bool {
    (byte < b' ') | (byte == 0x7f)
}

/// Whether a measurement ends here, or something needs a closer look: an escape, a control character.
#[inline]
pub(super) const fn ends_measurement(byte: u8) -> bool {
    is_control(byte) | (byte == b' ') | (byte == b',') | (byte == b'\\')
}

/// Whether a key or tag value ends here, or something needs a closer look.
#[inline]
pub(super) const fn ends_name(byte: u8) -> bool {
    ends_measurement(byte) | (byte == b'=')
}

/// Whether a string ends here, or something needs a closer look: an escape, a line's end.
#[inline]
pub(super) const fn ends_string(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte == b'\n')
}

/// The place of the first byte that `is_stop`, or the length if there is none.
#[inline]
pub(super) fn find(bytes: &[u8], is_stop: impl Fn(u8) -> bool + Copy) -> usize {
    let mut rest = bytes;
    while let Some((window, after)) = rest.split_first_chunk::<WINDOW_BYTES>() {
        let place = find_in_window(window, is_stop);
        if place < WINDOW_BYTES {
            return bytes.len().wrapping_sub(rest.len()).wrapping_add(place);
        }
        rest = after;
    }
    find_in_tail(bytes, rest, is_stop)
}

#[inline]
fn find_in_window(window: &[u8; WINDOW_BYTES], is_stop: impl Fn(u8) -> bool + Copy) -> usize {
    let mut flags = [0_u8; WINDOW_BYTES];
    for (flag, byte) in flags.iter_mut().zip(window) {
        *flag = u8::from(is_stop(*byte));
    }
    // The first byte is the lowest: the number of zero bits tells its place, eight a byte.
    (u128::from_le_bytes(flags).trailing_zeros() / u8::BITS) as usize
}

/// The last bytes of a body, fewer than a window.
#[cold]
fn find_in_tail(bytes: &[u8], tail: &[u8], is_stop: impl Fn(u8) -> bool + Copy) -> usize {
    let place = tail.iter().position(|byte| is_stop(*byte)).unwrap_or(tail.len());
    bytes.len().wrapping_sub(tail.len()).wrapping_add(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the vector search finds what a byte-by-byte one finds, at every place and length.
    #[test]
    fn the_first_stop_is_found_wherever_it_stands() {
        for length in 0..70 {
            for place in 0..=length {
                let mut bytes = vec![b'a'; length];
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = b'=';
                }
                assert_eq!(find(&bytes, ends_name), place, "length {length}");
            }
        }
    }

    #[test]
    fn the_classes_hold_the_bytes_that_they_should() {
        for byte in 0..=u8::MAX {
            let control = byte < 0x20 || byte == 0x7f;
            let measurement = control || b" ,\\".contains(&byte);
            assert_eq!(ends_measurement(byte), measurement, "{byte:#04x}");
            assert_eq!(ends_name(byte), measurement || byte == b'=', "{byte:#04x}");
            assert_eq!(ends_string(byte), b"\"\\\n".contains(&byte), "{byte:#04x}");
        }
    }
}
