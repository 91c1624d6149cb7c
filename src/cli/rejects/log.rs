//! How far a log on this machine got with a frame, as far as its files tell it.

use std::path::Path;

use crate::api::rejects::executed::Reach;
use crate::base::lsn::Lsn;
use crate::wal::WalError;
use crate::wal::inspect::{self, Checkpoint};

/// How far a frame got; `None` where there is no log that says so.
pub(super) fn reach(dir: &Path, lsn: Lsn) -> Option<Reach> {
    // Whoever asks for rejections is not kept from them by a log that cannot be read.
    ends(dir).ok().map(|(stored, last)| match Reach::of(lsn, (last, stored)) {
        // Only a running server knows how far it is beyond the checkpoint.
        Reach::InLog => Reach::Unknown,
        reach => reach,
    })
}

/// The last frame that is stored outside the log, and the last that it has.
fn ends(dir: &Path) -> Result<(Lsn, Lsn), WalError> {
    let overview = inspect::overview(dir)?;
    let stored = match overview.checkpoint {
        Checkpoint::Sound { checkpoint, .. } => checkpoint,
        Checkpoint::Missing | Checkpoint::Damaged => Lsn::ZERO,
    };
    let mut last = stored;
    for segment in overview.segments.iter().filter(|segment| segment.first() > Lsn::ZERO) {
        last = last.max(match segment.until() {
            Some(until) => until,
            // Where the next one does not say where this one ends, it is read.
            None => inspect::walk(dir, &overview, segment, &mut |_, _| Ok(()))?.last,
        });
    }
    Ok((stored, last))
}
