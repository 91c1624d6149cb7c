//! What can go wrong in the log, as data.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::recovery::Case;
use crate::base::class::Class;
use crate::base::lsn::Lsn;

/// Why the log did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// No room for another frame now; nothing was appended, and it succeeds later.
    #[error("the log is full: {cause}")]
    Full {
        /// What there is no room in.
        cause: FullCause,
    },
    /// The payload is larger than any frame may be.
    #[error("payload of {found} bytes, at most {max} fit a frame")]
    TooLarge {
        /// Its bytes.
        found: usize,
        /// The most: [`super::PAYLOAD_BYTES_MAX`].
        max: usize,
    },
    /// Every number that a frame can have was given; only a log begun anew has more.
    #[error(
        "frame {last} is the last that a log can number: this one was begun with a wrong --after"
    )]
    Exhausted {
        /// The last frame's number.
        last: Lsn,
    },
    /// A write or a sync failed, now or before; the log takes nothing more until it is opened anew.
    #[error("the log is poisoned: {reason}")]
    Poisoned {
        /// What failed first.
        reason: String,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Another process has the directory.
    #[error("{} is in use by {holder}: stop it, or give this server a directory of its own", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What it says of its holder, `process 123` where that can be read.
        holder: String,
    },
    /// The directory lies on a file system that cannot keep the log's promises.
    #[error(
        "{} lies on {found}: a log needs ext4 or XFS (tmpfs for tests); put wal.dir on one of them",
        path.display()
    )]
    FileSystem {
        /// The directory.
        path: PathBuf,
        /// The file system's name, or its magic number.
        found: String,
    },
    /// Recovery refuses to start: going on could lose frames that were acknowledged.
    #[error("{}: {}, {detail}; nothing was changed; {}", path.display(), case.label(), case.advice())]
    Damaged {
        /// Which of the known cases.
        case: Case,
        /// The damaged or missing file.
        path: PathBuf,
        /// Segment, offset and LSN, as far as they are known.
        detail: String,
    },
    /// A frame read back is not what was written.
    #[error("segment {segment} at byte {offset}: frame {lsn} fails its checksum")]
    Corrupt {
        /// The segment's number.
        segment: u64,
        /// Where the frame begins.
        offset: u64,
        /// The frame that should be there.
        lsn: Lsn,
    },
    /// A reader asked for a frame that was reclaimed.
    #[error("frame {lsn} was reclaimed, the oldest kept is {oldest}")]
    Reclaimed {
        /// The frame asked for.
        lsn: Lsn,
        /// The oldest there is.
        oldest: Lsn,
    },
    /// A checkpoint beyond the last durable frame: what stores the records knows frames that this
    /// log has not, so the two do not belong together.
    #[error("checkpoint {lsn} is beyond the last durable frame {durable}")]
    Ahead {
        /// The checkpoint asked for.
        lsn: Lsn,
        /// The last durable frame.
        durable: Lsn,
    },
    /// The system refused a file operation.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        error: Arc<io::Error>,
    },
}

impl WalError {
    /// A failed file operation.
    pub(super) fn io(what: &'static str, path: PathBuf, error: io::Error) -> Self {
        Self::Io { what, path, error: Arc::new(error) }
    }

    /// Who must act.
    pub const fn class(&self) -> Class {
        match self {
            Self::Full { .. } | Self::Closed => Class::Busy,
            Self::TooLarge { .. } => Class::Refused,
            Self::Exhausted { .. }
            | Self::Poisoned { .. }
            | Self::Locked { .. }
            | Self::FileSystem { .. }
            | Self::Damaged { .. }
            | Self::Corrupt { .. }
            | Self::Reclaimed { .. }
            | Self::Ahead { .. }
            | Self::Io { .. } => Class::Fault,
        }
    }
}

/// What the log has no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FullCause {
    /// Frames wait for the commit thread faster than it writes them.
    #[error("too much waits to be written")]
    Pending,
    /// The segments hold as much as they may; frames must be applied and checkpointed first.
    #[error("wal.bytes_max is reached")]
    BytesMax,
    /// The disk has no room for another segment.
    #[error("no space on the disk for another segment")]
    Disk,
    /// The next segment is about to be made.
    #[error("the next segment is not ready yet")]
    Preparing,
}

/// Why a frame that was appended is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A write or sync failed, now or before. Whether the frame reached the device is unknown; it
    /// was not acknowledged, and replay may or may not find it.
    #[error("the log is poisoned: {reason}; whether the frame is stored is unknown")]
    Poisoned {
        /// What failed first.
        reason: String,
    },
}

impl CommitError {
    /// Who must act.
    pub const fn class(&self) -> Class {
        match self {
            Self::Poisoned { .. } => Class::Fault,
        }
    }
}
