//! Integers of variable length, as payloads and stores keep them: seven bits a byte, the lowest
//! first, the top bit set on all but the last (LEB128). Signed ones are folded first so that small
//! magnitudes of either sign are short (zigzag).

/// Longest encoding of a 64-bit integer.
pub const VARINT_BYTES_MAX: usize = 10;

/// Appends `value`.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low seven bits are what is meant"
        )]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 128 after the loop")]
    out.push(value as u8);
}

/// Appends `value`, folded.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, fold(value));
}

/// Appends the length of `bytes` and the bytes.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a value at the front of `bytes` and moves past it; `None` where the bytes end too early or
/// the value is wider than 64 bits.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    take_long(bytes)
}

fn take_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if at == VARINT_BYTES_MAX - 1 && byte > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte < 0x80 {
            *bytes = bytes.get(at + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Reads a folded value; see [`take`].
#[inline]
pub fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    take(bytes).map(unfold)
}

/// Reads a length and that many bytes; see [`take`].
#[inline]
pub fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(bytes)?).ok()?;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

#[inline]
const fn fold(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
const fn unfold(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_comes_back() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put(&mut out, value);
                assert!(out.len() <= VARINT_BYTES_MAX);
                let mut rest = &out[..];
                assert_eq!(take(&mut rest), Some(value));
                assert!(rest.is_empty());
                let signed = value.cast_signed();
                out.clear();
                put_signed(&mut out, signed);
                assert_eq!(take_signed(&mut &out[..]), Some(signed));
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_too_wide_is_refused() {
        assert_eq!(take(&mut &[][..]), None);
        assert_eq!(take(&mut &[0x80][..]), None);
        assert_eq!(take(&mut &[0xff; 11][..]), None);
        let mut wide = vec![0xff; 9];
        wide.push(2);
        assert_eq!(take(&mut &wide[..]), None);
        assert_eq!(take_bytes(&mut &[5, 1, 2][..]), None);
    }
}
