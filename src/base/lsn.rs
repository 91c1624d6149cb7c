//! The number of a frame in the log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Log sequence number: the number of a frame, dense, from 1. The default, 0, stands before the
/// first frame, so a mark of 0 says that nothing holds yet.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first frame.
    pub const ZERO: Self = Self(0);

    /// No frame has this number or a larger one: 2^63 frames at a million a second take three hundred
    /// thousand years. What a file says beyond it was not written by a log, and is not counted on
    /// from: [`Lsn::next`] of what is less never overflows.
    pub const LIMIT: Self = Self(1 << 63);

    /// The number of the frame that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number of the frame before; [`Lsn::ZERO`] has none and stays.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
