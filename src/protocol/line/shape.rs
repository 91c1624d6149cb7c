//! The keys that a line probably has, and whether they are all different.
//!
//! Clients send thousands of lines with the same keys in the same order. So the keys of the last line
//! of a measurement are a **guess** at those of its next: one compare of sixteen bytes confirms a key,
//! and what follows it is read without waiting for a search to tell where it ends. A line whose keys
//! were all guessed right needs no search for repeated ones either, since those of the guess differ.
//!
//! Other lines are searched by sorting, never by comparing each key with each: a client chooses the
//! keys, and must not choose quadratic work.

use super::raw::Field;
use super::scan::NAME_STOPS;
use crate::record::Dimension;

/// How many bytes of a key one compare confirms.
const WINDOW_BYTES: usize = 16;

/// How many measurements can have a guess of their own at a time.
const SHAPES: usize = 16;

/// The bits of a signature that choose one of them.
const SHAPES_MASK: u64 = 15;

const _: () = assert!(SHAPES_MASK + 1 == SHAPES as u64 && SHAPES.is_power_of_two());

/// The guesses for one body.
#[derive(Debug, Default)]
pub(super) struct Shapes<'a> {
    /// Each for the measurements whose signatures lead to its place.
    guesses: [Shape<'a>; SHAPES],
    /// The one for the measurement at hand.
    current: usize,
    /// Kept for its allocation.
    signatures: Vec<u64>,
}

/// The keys of the last line of a measurement.
#[derive(Debug, Default)]
pub(super) struct Shape<'a> {
    pub(super) tags: Keys<'a>,
    pub(super) fields: Keys<'a>,
}

/// Keys in the order of their line, all different, without escapes.
#[derive(Debug, Default)]
pub(super) struct Keys<'a>(Vec<Key<'a>>);

/// Whether a line holds keys that were not guessed and may become a guess.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missed {
    pub(super) tags: bool,
    pub(super) fields: bool,
}

#[derive(Debug, Clone, Copy)]
struct Key<'a> {
    text: &'a str,
    /// The first bytes of the key and its `=`.
    window: u128,
    /// The bits of `window` that count.
    mask: u128,
}

impl<'a> Shapes<'a> {
    /// Turns to the guess for `measurement`.
    #[inline]
    pub(super) fn select(&mut self, measurement: &str) {
        let signature = signature(measurement);
        let mixed = signature ^ (signature >> 32) ^ (signature >> 48);
        self.current = usize::try_from(mixed & SHAPES_MASK).unwrap_or_default();
    }

    /// The guess for the measurement at hand.
    #[inline]
    pub(super) fn current(&self) -> Option<&Shape<'a>> {
        self.guesses.get(self.current)
    }

    /// Whether `keys` are all different; `false` may be wrong, so ask [`first_repeated`] then.
    pub(super) fn are_different<'k>(&mut self, keys: impl Iterator<Item = &'k str>) -> bool {
        self.signatures.clear();
        self.signatures.extend(keys.map(signature));
        self.signatures.sort_unstable();
        self.signatures.windows(2).all(|pair| pair.first() != pair.last())
    }

    /// Makes the keys of these tags, which are different, the guess for the measurement at hand.
    pub(super) fn learn_tags(&mut self, tags: &[Dimension<'a>]) {
        if let Some(shape) = self.guesses.get_mut(self.current) {
            shape.tags.learn(tags.iter().map(|tag| tag.name));
        }
    }

    /// The same for fields.
    pub(super) fn learn_fields(&mut self, fields: &[Field<'a>]) {
        if let Some(shape) = self.guesses.get_mut(self.current) {
            shape.fields.learn(fields.iter().map(|field| field.key));
        }
    }
}

impl<'a> Keys<'a> {
    /// The key `number` and what follows it and its `=`, if `input` starts with them.
    #[inline]
    pub(super) fn guess(&self, number: usize, input: &'a str) -> Option<(&'a str, &'a str)> {
        let key = self.0.get(number)?;
        let window = u128::from_le_bytes(*input.as_bytes().first_chunk::<WINDOW_BYTES>()?);
        if (window ^ key.window) & key.mask != 0 {
            return None;
        }
        let rest = if key.text.len() < WINDOW_BYTES {
            input.get(key.text.len().wrapping_add(1)..)?
        } else {
            input.strip_prefix(key.text)?.strip_prefix('=')?
        };
        Some((rest, key.text))
    }

    /// Keeps `keys` up to the first that had escapes: without them it would be no key.
    fn learn(&mut self, keys: impl Iterator<Item = &'a str>) {
        let is_plain = |key: &&str| NAME_STOPS.find(key.as_bytes()) == key.len();
        self.0.clear();
        self.0.extend(keys.take_while(is_plain).map(Key::new));
    }
}

impl<'a> Key<'a> {
    fn new(text: &'a str) -> Self {
        let mut window = [0; WINDOW_BYTES];
        let mut mask = [0; WINDOW_BYTES];
        let bytes = text.as_bytes().iter().chain(b"=");
        for ((byte, window), mask) in bytes.zip(&mut window).zip(&mut mask) {
            *window = *byte;
            *mask = u8::MAX;
        }
        Self { text, window: u128::from_le_bytes(window), mask: u128::from_le_bytes(mask) }
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

/// A number by which keys can be told apart most of the time: a function of the key, so that keys with
/// different ones are different. Not a hash: keys that differ only in the middle of a long name
/// collide, which costs a sort and nothing else.
#[inline]
fn signature(key: &str) -> u64 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes = key.as_bytes();
    let (head, tail) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => (bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte)), 0),
    };
    head.wrapping_mul(SPREAD) ^ tail.rotate_left(29) ^ bytes.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: [&'static str; 3]) -> Keys<'static> {
        let mut keys = Keys::default();
        keys.learn(texts.into_iter());
        keys
    }

    /// Goal: a guess is confirmed by the whole key and its `=`, be it shorter or longer than one compare.
    #[test]
    fn a_guess_is_a_whole_key() {
        let keys = keys(["host", "fifteen_bytes_x", "twenty_bytes_of_key_"]);
        let table = [
            (0, "host=web,region=eu f=1", Some(("web,region=eu f=1", "host"))),
            (0, "hosts=web,region=eu f=1", None),
            (0, "hos=web,region=eu f=1", None),
            (0, "host,=web,region=eu f=1", None),
            (0, "host=short", None),
            (1, "fifteen_bytes_x=1", Some(("1", "fifteen_bytes_x"))),
            (1, "fifteen_bytes_xy=1", None),
            (2, "twenty_bytes_of_key_=1", Some(("1", "twenty_bytes_of_key_"))),
            (2, "twenty_bytes_of_key_x=1", None),
            (2, "twenty_bytes_of_kex_=1", None),
            (3, "host=web,region=eu f=1", None),
        ];
        for (number, input, guessed) in table {
            assert_eq!(keys.guess(number, input), guessed, "{number} {input}");
        }
    }

    #[test]
    fn a_key_with_escapes_is_no_guess() {
        let keys = keys(["a", "b c", "d"]);
        assert!(keys.guess(0, "a=0123456789abcdef").is_some());
        assert_eq!(keys.guess(1, "b c=0123456789abcdef"), None);
        assert_eq!(keys.guess(2, "d=0123456789abcdef"), None);
    }

    #[test]
    fn the_first_repeated_key_is_found() {
        assert_eq!(first_repeated(["a", "b", "c"].into_iter()), None);
        assert_eq!(first_repeated(["a", "b", "b", "a"].into_iter()), Some(2));
        assert_eq!(first_repeated(["", "a", ""].into_iter()), Some(2));
    }
}
