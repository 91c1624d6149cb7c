//! Texts and their escapes.
//!
//! | where | escapes | any other `\x` |
//! |---|---|---|
//! | measurement | `\,` `\ ` | both characters stay |
//! | tag key, tag value, field key | `\,` `\=` `\ ` | both characters stay |
//! | string | `\"` `\\` | both characters stay |
//!
//! Outside strings a backslash never escapes a backslash: `a\\,b` is a backslash and an escaped comma.

use bumpalo::Bump;
use bumpalo::collections::String;

/// Which kind of text, hence which escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Measurement,
    Name,
    String,
}

impl Kind {
    /// Whether a text ends before `byte`, unless it is escaped.
    #[inline]
    pub(super) const fn is_ended_by(self, byte: u8) -> bool {
        match self {
            Self::Measurement => byte.is_ascii_control() || matches!(byte, b',' | b' '),
            Self::Name => byte.is_ascii_control() || matches!(byte, b',' | b' ' | b'='),
            Self::String => byte == b'"',
        }
    }

    /// Whether a backslash before `byte` is an escape.
    #[inline]
    pub(super) const fn escapes(self, byte: u8) -> bool {
        match self {
            Self::Measurement => matches!(byte, b',' | b' '),
            Self::Name => matches!(byte, b',' | b'=' | b' '),
            Self::String => matches!(byte, b'"' | b'\\'),
        }
    }
}

/// A text as it stands in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// The text, escapes and all, without quotes.
    pub(super) raw: &'a str,
    /// Whether `raw` holds escapes.
    pub(super) escaped: bool,
    /// Whether `raw` holds newlines.
    pub(super) multi_line: bool,
}

impl<'a> Token<'a> {
    /// The text without its escapes: `raw` itself if it has none, else a copy in `arena`.
    #[inline]
    pub(super) fn text(self, kind: Kind, arena: &'a Bump) -> &'a str {
        if self.escaped { unescape(self.raw, kind, arena) } else { self.raw }
    }
}

#[cold]
fn unescape<'a>(raw: &str, kind: Kind, arena: &'a Bump) -> &'a str {
    let mut text = String::with_capacity_in(raw.len(), arena);
    let mut chars = raw.chars().peekable();
    while let Some(char) = chars.next() {
        let escaped = chars.next_if(|next| {
            char == '\\' && u8::try_from(*next).is_ok_and(|next| kind.escapes(next))
        });
        text.push(escaped.unwrap_or(char));
    }
    text.into_bump_str()
}
