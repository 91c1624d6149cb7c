//! The rows of a series that stand.
//!
//! A series of a large fleet gets a few rows until its store is flushed. So many have their place in the
//! series itself, which is one line of the processor's cache: neither a row that comes nor a flush
//! waits for other memory, and no series takes a piece from the allocator.

use super::column::RowId;

/// Rows that are kept in the series itself.
const FEW: usize = 7;

/// Rows of a series.
#[derive(Debug)]
pub(super) enum Standing {
    /// In order of time.
    Few {
        /// How many there are.
        count: u32,
        /// The first `count` of these.
        rows: [RowId; FEW],
    },
    /// More than fit, or late ones.
    Many(Box<Many>),
}

/// Rows of a series that has many.
#[derive(Debug, Default)]
pub(super) struct Many {
    /// In order of time.
    pub(super) rows: Vec<RowId>,
    /// Such as came late, in order of time, not in `rows` yet.
    pub(super) late: Vec<RowId>,
}

impl Standing {
    pub(super) const NONE: Self = Self::Few { count: 0, rows: [RowId(0); FEW] };

    /// In order of time, but for the late ones.
    #[inline]
    pub(super) fn rows(&self) -> &[RowId] {
        match self {
            Self::Few { count, rows } => &rows[..*count as usize],
            Self::Many(many) => &many.rows,
        }
    }

    /// Those that came late, in order of time.
    #[inline]
    pub(super) fn late(&self) -> &[RowId] {
        match self {
            Self::Few { .. } => &[],
            Self::Many(many) => &many.late,
        }
    }

    pub(super) fn rows_mut(&mut self) -> &mut [RowId] {
        match self {
            Self::Few { count, rows } => &mut rows[..*count as usize],
            Self::Many(many) => &mut many.rows,
        }
    }

    /// Appends a row that is later than all others. Returns the bytes of memory that it takes more than
    /// before.
    #[inline]
    pub(super) fn push(&mut self, row: RowId) -> usize {
        match self {
            Self::Few { count, rows } if (*count as usize) < FEW => {
                rows[*count as usize] = row;
                *count += 1;
                0
            }
            _ => self.push_to_many(row),
        }
    }

    fn push_to_many(&mut self, row: RowId) -> usize {
        let before = self.bytes();
        self.many().rows.push(row);
        self.bytes() - before
    }

    /// For rows that do not stand in order.
    pub(super) fn many(&mut self) -> &mut Many {
        if let Self::Few { .. } = self {
            // A power of two: from fourteen, lists of 500 rows grew to 896.
            let mut rows = Vec::with_capacity(2 * (FEW + 1));
            rows.extend_from_slice(self.rows());
            *self = Self::Many(Box::new(Many { rows, late: Vec::new() }));
        }
        match self {
            Self::Many(many) => many,
            Self::Few { .. } => unreachable!("made many"),
        }
    }

    /// Bytes of memory that it takes beside itself.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Many(many) => {
                let rows = many.rows.capacity() + many.late.capacity();
                size_of::<Many>() + rows * size_of::<RowId>()
            }
        }
    }
}
