//! Whether the keys of a line are all different, at next to no cost for lines of one shape.
//!
//! Clients send thousands of lines with the same keys. So each key is reduced to a **signature**, a
//! function of its bytes; keys whose signatures differ are different. A line with the signatures of
//! the line before, which were all different, needs no further look. Others are sorted, never
//! compared each with each: a client chooses the keys, and must not choose quadratic work.

/// The signatures of the keys of the last line that had a new shape.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// In the order of the line; all different.
    known: Vec<u64>,
    /// Those of the line at hand; kept for its allocation.
    current: Vec<u64>,
}

impl Shape {
    /// Whether all keys are different; `false` may be wrong, so ask [`first_repeated`] then.
    #[inline]
    pub(super) fn are_different<'k>(
        &mut self,
        keys: impl ExactSizeIterator<Item = &'k str>,
    ) -> bool {
        self.current.clear();
        self.current.extend(keys.map(signature));
        self.current == self.known || self.is_new_shape()
    }

    fn is_new_shape(&mut self) -> bool {
        std::mem::swap(&mut self.current, &mut self.known);
        self.current.clone_from(&self.known);
        self.current.sort_unstable();
        let different = self.current.windows(2).all(|pair| pair.first() != pair.last());
        if !different {
            self.known.clear();
        }
        different
    }
}

/// The place of the first key that stands among those before it.
#[cold]
pub(super) fn first_repeated<'k>(keys: impl Iterator<Item = &'k str>) -> Option<usize> {
    let mut sorted: Vec<(&str, usize)> =
        keys.enumerate().map(|(place, key)| (key, place)).collect();
    sorted.sort_unstable();
    sorted
        .windows(2)
        .filter_map(|pair| match pair {
            [(first, _), (second, place)] if first == second => Some(*place),
            _ => None,
        })
        .min()
}

/// A number by which keys can be told apart most of the time. Not a hash: keys that differ only in
/// the middle of a long name collide, which costs a sort and nothing else.
#[inline]
fn signature(key: &str) -> u64 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes = key.as_bytes();
    let (head, tail) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => short_signature(bytes),
    };
    head.wrapping_mul(SPREAD) ^ tail.rotate_left(29) ^ bytes.len() as u64
}

/// The same for keys of fewer than eight bytes, all of which it holds.
#[inline]
fn short_signature(bytes: &[u8]) -> (u64, u64) {
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(head), Some(tail)) => {
            (u32::from_le_bytes(*head).into(), u32::from_le_bytes(*tail).into())
        }
        _ => (bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte)), 0),
    }
}
