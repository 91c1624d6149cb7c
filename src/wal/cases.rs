//! The table of cases: every state in which a part of a log's directory can be found, what a start
//! makes of it, what it is called, and what an operator does about it. How each is told from the others
//! stands in [`super::recovery`].

/// One state of a part of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Case {
    /// No file of a log.
    New,
    /// A file that was being made.
    Leftover,
    /// A segment below the checkpoint's.
    Reclaimed,
    /// A segment or frames below the checkpoint that are damaged: all in them is stored elsewhere.
    StoredDamaged,
    /// A segment without frames, made ahead of need.
    Spare,
    /// The last segment ends with a valid frame; nothing later was begun.
    CleanEnd,
    /// The last segment ends with a frame written in part, or with later frames behind a gap, none
    /// of which was known to be synced.
    TornTail,
    /// The checkpoint file is not there, but segments are.
    CheckpointMissing,
    /// Both records of the checkpoint file are invalid.
    CheckpointDamaged,
    /// A segment that is needed is not there.
    SegmentMissing,
    /// A segment's header is invalid.
    HeaderDamaged,
    /// A segment is shorter or longer than its header says.
    LengthWrong,
    /// Segments whose headers contradict each other.
    OrderWrong,
    /// A frame that is known to be synced is not valid.
    FrameDamaged,
}

/// What becomes of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Resume,
    /// It ends, and nothing is changed.
    Refuse,
}

/// The table: which cases a start survives.
pub const fn decide(case: Case) -> Decision {
    match case {
        Case::New
        | Case::Leftover
        | Case::Reclaimed
        | Case::StoredDamaged
        | Case::Spare
        | Case::CleanEnd
        | Case::TornTail
        | Case::CheckpointMissing => Decision::Resume,
        Case::CheckpointDamaged
        | Case::SegmentMissing
        | Case::HeaderDamaged
        | Case::LengthWrong
        | Case::OrderWrong
        | Case::FrameDamaged => Decision::Refuse,
    }
}

impl Case {
    /// What it is called in messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::New => "no log",
            Self::Leftover => "a leftover",
            Self::Reclaimed => "a reclaimed segment",
            Self::StoredDamaged => "damage below the checkpoint",
            Self::Spare => "a spare segment",
            Self::CleanEnd => "a clean end",
            Self::TornTail => "a torn tail",
            Self::CheckpointMissing => "the checkpoint is missing",
            Self::CheckpointDamaged => "the checkpoint is damaged",
            Self::SegmentMissing => "a segment is missing",
            Self::HeaderDamaged => "a segment's header is damaged",
            Self::LengthWrong => "a segment has the wrong length",
            Self::OrderWrong => "the segments contradict each other",
            Self::FrameDamaged => "a synced frame is damaged",
        }
    }

    /// What an operator does about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::SegmentMissing => {
                "restore the file; or run `tidegate wal verify` to see what is lost, and `tidegate wal \
                 salvage --to DIR` to start with the rest"
            }
            Self::OrderWrong => {
                "restore the files from one copy, and run `tidegate wal verify` to see what is readable"
            }
            Self::CheckpointDamaged
            | Self::HeaderDamaged
            | Self::LengthWrong
            | Self::FrameDamaged => {
                "restore the file from a copy, or run `tidegate wal verify` to see what is damaged, and \
                 `tidegate wal salvage --to DIR` to start with the rest"
            }
            Self::New
            | Self::Leftover
            | Self::Reclaimed
            | Self::StoredDamaged
            | Self::Spare
            | Self::CleanEnd
            | Self::TornTail
            | Self::CheckpointMissing => "nothing is to be done",
        }
    }
}
