//! What goes wrong on the simulated disk, and by what chance.

use std::io;

/// Numbers from a seed (`SplitMix64`).
#[derive(Debug, Clone)]
pub(in crate::wal) struct Random(u64);

impl Random {
    pub(in crate::wal) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::wal) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(in crate::wal) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True `percent` times of a hundred.
    pub(in crate::wal) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What happens at the operation that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wal) enum Fault {
    /// It fails with this error; later ones succeed.
    Once(io::ErrorKind),
    /// It and all later ones fail.
    Forever(io::ErrorKind),
    /// There is no space for it, if it needs new space; later ones find some.
    FullOnce,
    /// There is no space from then on for what needs new space.
    FullForever,
    /// The power goes: it may or may not have happened, and nothing happens any more.
    PowerCut,
}

/// A bug of the disk, to show that a test would see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wal) enum Lie {
    /// [`DiskFile::sync`] returns at once.
    Sync,
    /// The directory is never synced.
    Names,
    /// [`DiskFile::forget_cached`] forgets nothing.
    Cache,
}

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::wal) enum Kind {
    List,
    Create,
    Open,
    Allocate,
    Write,
    Sync,
    Rename,
    SyncNames,
    Remove,
    Read,
    Length,
    ForgetCached,
    Map,
}

impl Kind {
    /// Whether it cannot do without new space on a disk that keeps what it allocated.
    pub(super) fn needs_space(self) -> bool {
        matches!(self, Self::Create | Self::Allocate)
    }
}
