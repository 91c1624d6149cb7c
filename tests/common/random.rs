//! Random numbers that a seed repeats.

use std::ops::Range;

use tidegate::base::clock::{Clock, SystemClock};

/// A generator; the same seed gives the same numbers. Source: S. Vigna, "splitmix64".
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The seed in the environment variable `name`, or a new one, which the caller has to print.
    pub(crate) fn seed_from(name: &str) -> u64 {
        let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
        given.unwrap_or_else(|| SystemClock::new().wall_ns().unsigned_abs() & 0xffff_ffff)
    }

    /// A generator of its own for part `number` of the work.
    pub(crate) fn part(&self, number: u64) -> Self {
        let mut part = Self::new(self.state ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        part.next();
        part
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `range`, which is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "an empty range has no number");
        range.start + self.next() % (range.end - range.start)
    }

    /// An index below `count`, which is not 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.within(0..count as u64)).expect("below a usize")
    }

    /// True `of_100` times in a hundred.
    pub(crate) fn is_one_of(&mut self, of_100: u64) -> bool {
        self.within(0..100) < of_100
    }

    /// One of `choices`, which are not none.
    pub(crate) fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }
}
