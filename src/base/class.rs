//! Who must act on an error. Every error of the project answers `class()`, and the HTTP floor turns
//! the class into a status without knowing the error.

use std::fmt;

/// Who must act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The client: its data or its request is wrong, and sending it again changes nothing. 4xx.
    Refused,
    /// Nobody: we cannot take more now; the same request succeeds later. 503 with `Retry-After`.
    Busy,
    /// The operator: a fault of ours or of the machine. 500, logged once, counted.
    Fault,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Fault => "fault",
        })
    }
}
