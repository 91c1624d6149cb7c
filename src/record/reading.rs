//! How a text was to be read, as far as it does not say so itself: what a request says beside its body.
//! A text that was refused is kept with it, since without it a timestamp is a number.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// How a text was to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading<'a> {
    /// `line` or `json`.
    pub format: Cow<'a, str>,
    /// The unit of timestamps that name none, as the endpoints call it; `auto` tells it from the size.
    pub precision: Cow<'a, str>,
    /// The table of records that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Cow<'a, str>>,
    /// What stood around the record: see [`within`](super::Origin::within).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Cow<'a, str>>,
}

/// What `format` says of line protocol and of JSON.
pub const LINE: &str = "line";
/// See [`LINE`].
pub const JSON: &str = "json";

impl<'a> Reading<'a> {
    /// Timestamps in this unit, and nothing else.
    pub const fn new(format: &'static str, precision: &'a str) -> Self {
        let (format, precision) = (Cow::Borrowed(format), Cow::Borrowed(precision));
        Self { format, precision, table: None, within: None }
    }

    /// The same of a record that stood `within` others; as JSON.
    pub fn to_json(&self, within: &str) -> String {
        let within = (!within.is_empty()).then_some(Cow::Borrowed(within));
        let of_record = Reading { within, ..self.clone() };
        serde_json::to_string(&of_record).expect("texts always serialise")
    }

    /// Whether it is one of JSON.
    pub fn is_json(&self) -> bool {
        self.format == JSON
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_says_what_its_request_said_and_no_more() {
        let line = Reading::new(LINE, "ms");
        assert_eq!(line.to_json(""), r#"{"format":"line","precision":"ms"}"#);
        let json = Reading { table: Some("t".into()), ..Reading::new(JSON, "s") };
        let text = json.to_json(r#"{"TableName":"x"}"#);
        let read: Reading<'static> = serde_json::from_str(&text).unwrap();
        assert_eq!(read.within.as_deref(), Some(r#"{"TableName":"x"}"#));
        assert_eq!((read.is_json(), read.table.as_deref()), (true, Some("t")));
    }
}
