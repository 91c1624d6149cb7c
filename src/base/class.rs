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

/// An error with everything that caused it, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
