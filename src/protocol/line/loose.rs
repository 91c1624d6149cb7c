//! A line in its parts, whether they are right or not, for whoever mends one that was refused. Only what
//! separates the parts is looked at; the decoder has the last word on what comes of them.

use std::borrow::Cow;

use super::text::Kind;

/// A part of a line as it stands there, with its escapes and quotes.
pub type Part<'a> = Cow<'a, [u8]>;

/// The parts of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The measurement.
    pub measurement: Part<'a>,
    /// Keys and values of the tags.
    pub tags: Vec<(Part<'a>, Part<'a>)>,
    /// Keys and values of the fields; none is an error, which may be mended.
    pub fields: Vec<(Part<'a>, Part<'a>)>,
    /// All that stands behind the fields.
    pub timestamp: Part<'a>,
}

impl<'a> Parts<'a> {
    /// The parts of `line`; `None` where a key has no `=`, or a string no end.
    pub fn split(line: &'a [u8]) -> Option<Self> {
        let line = line.trim_ascii();
        let (measurement, mut rest) = until(line, Kind::Measurement, b", ");
        let mut tags = Vec::new();
        while let Some(tag) = rest.strip_prefix(b",") {
            let (key, value) = key_of(tag)?;
            let (value, after) = until(value, Kind::Name, b", ");
            tags.push((key.into(), value.into()));
            rest = after;
        }
        rest = rest.trim_ascii_start();
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let (key, value) = key_of(rest)?;
            let (value, after) = field_value(value)?;
            fields.push((key.into(), value.into()));
            rest = after;
            let Some(next) = rest.strip_prefix(b",") else { break };
            rest = next;
        }
        let timestamp = rest.trim_ascii_start().into();
        Some(Self { measurement: measurement.into(), tags, fields, timestamp })
    }

    /// The line that they make.
    pub fn join(&self) -> Vec<u8> {
        let mut line = self.measurement.to_vec();
        for (key, value) in &self.tags {
            line.extend([b",", &**key, b"=", value].concat());
        }
        let mut separator: &[u8] = b" ";
        for (key, value) in &self.fields {
            line.extend([separator, key, b"=", value].concat());
            separator = b",";
        }
        if !self.timestamp.is_empty() {
            line.extend([b" ", &*self.timestamp].concat());
        }
        line
    }
}

/// The text that a key stands for; what is not UTF-8 replaced.
pub fn key_text(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    let lossy = String::from_utf8_lossy(key);
    let mut chars = lossy.chars().peekable();
    while let Some(char) = chars.next() {
        let escaped = chars.next_if(|next| char == '\\' && matches!(next, ',' | '=' | ' '));
        text.push(escaped.unwrap_or(char));
    }
    text
}

/// The key that stands for `text`.
pub fn key(text: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if Kind::Name.escapes(byte) {
            key.push(b'\\');
        }
        key.push(byte);
    }
    key
}

/// What stands before the first of `ends` that is not escaped, and the rest from there.
fn until<'a>(bytes: &'a [u8], kind: Kind, ends: &[u8]) -> (&'a [u8], &'a [u8]) {
    let mut at = 0;
    while let Some(rest @ [byte, ..]) = bytes.get(at..) {
        if ends.contains(byte) {
            break;
        }
        let is_escape = *byte == b'\\' && rest.get(1).is_some_and(|next| kind.escapes(*next));
        at = at.saturating_add(if is_escape { 2 } else { 1 });
    }
    bytes.split_at_checked(at).unwrap_or((bytes, b""))
}

/// A key, and what follows its `=`.
fn key_of(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, rest) = until(bytes, Kind::Name, b"=, ");
    rest.strip_prefix(b"=").map(|value| (key, value))
}

/// The value of a field, and the rest.
fn field_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut string = 0;
    if let Some(inner) = bytes.strip_prefix(b"\"") {
        let (text, _) = until(inner, Kind::String, b"\"");
        // Both quotes, of which the second must be there.
        string = text.len().saturating_add(2);
    }
    let behind = bytes.get(string..)?;
    let (more, rest) = until(behind, Kind::Name, b", ");
    Some((bytes.get(..string.saturating_add(more.len()))?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_sum_of_its_parts() {
        for line in [
            "m f=1",
            "m,a=b f=1 17",
            r#"m\ x,a\,b=c\ d,e=f x\=y="a, \"b\" c",z=abc 17 18"#,
            "m,a=b",
            "m,a= f=,g=1",
            "m f=\"\" 1",
        ] {
            let parts = Parts::split(line.as_bytes()).expect(line);
            assert_eq!(String::from_utf8(parts.join()).unwrap(), line);
        }
    }

    #[test]
    fn parts_are_told_apart_by_what_separates_them() {
        let line = r#"m\ x,a\,b=c\ d x\=y="a, \"b\" c",z=abc 17 18"#;
        let parts = Parts::split(line.as_bytes()).unwrap();
        assert_eq!(&*parts.measurement, br"m\ x");
        assert_eq!(key_text(&parts.tags[0].0), "a,b");
        assert_eq!(key_text(&parts.fields[0].0), "x=y");
        assert_eq!(&*parts.fields[0].1, br#""a, \"b\" c""#);
        assert_eq!((&*parts.fields[1].1, &*parts.timestamp), (&b"abc"[..], &b"17 18"[..]));
        assert_eq!(key("a,b c=d"), br"a\,b\ c\=d");
        let spoiled = Parts::split(b"m,a=b f=\"\xff\" 1").unwrap();
        assert_eq!(spoiled.join(), b"m,a=b f=\"\xff\" 1", "bytes that are no text stay");
        for broken in ["m,a f=1", "m f", "m f=\"open", "m f=1,g"] {
            assert_eq!(Parts::split(broken.as_bytes()), None, "{broken}");
        }
    }
}
