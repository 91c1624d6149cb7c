//! What an endpoint answers, before it becomes bytes.

use std::fmt;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use tokio::sync::mpsc;

/// The content type of every JSON reply. Source: `InfluxDB` 2.9, `kit/transport/http`.
pub const JSON: &str = "application/json; charset=utf-8";

/// The content type of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// A reply.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Headers beyond those that every reply has.
    pub headers: HeaderMap,
    /// The body.
    pub content: Content,
}

/// A reply's body.
#[derive(Debug)]
pub enum Content {
    /// None.
    Empty,
    /// These bytes.
    Full(Bytes),
    /// What the other end sends, until it hangs up; an error breaks the reply off so that the client
    /// notices that something is missing.
    Stream(mpsc::Receiver<Result<Bytes, Broken>>),
}

/// A streamed reply could not be finished; the cause was logged where it occurred.
#[derive(Debug, Clone, Copy)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply could not be finished")
    }
}

impl std::error::Error for Broken {}

impl Reply {
    /// A reply without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), content: Content::Empty }
    }

    /// A reply with a body of `content_type`.
    pub fn full(status: StatusCode, content_type: &'static str, content: impl Into<Bytes>) -> Self {
        Self::empty(status)
            .with(CONTENT_TYPE, HeaderValue::from_static(content_type))
            .content(Content::Full(content.into()))
    }

    /// A reply with a JSON body.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let text = serde_json::to_vec(body).expect("replies have text keys and no failing parts");
        Self::full(status, JSON, text)
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }
}

/// `text` as a header's value: one line of visible ASCII, at most `bytes_max` bytes.
pub fn header_text(text: &str, bytes_max: usize) -> HeaderValue {
    let visible: String = text
        .chars()
        .take(bytes_max)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { ' ' })
        .collect();
    HeaderValue::from_str(visible.trim()).expect("only visible ASCII is left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_bounded_line() {
        assert_eq!(header_text("a\r\nb: ä\t", 100), "a  b:");
        assert_eq!(header_text("abcdef", 3), "abc");
    }
}
