//! Listings of a cloud, by any beginning of keys and with every key.
//!
//! The `object_store` crate lists whole folders, and parses every key that it is shown: one that has an
//! empty part, `.`, `..` or a control character in it makes an error of the whole page, and a `/` at an end
//! of a key is dropped, so that the object seems to be another. So listings are asked for page by page,
//! with the prefix as it was given, and an answer is rewritten before the crate reads it ([`readable`]): a
//! key that it would refuse or change becomes [`MARK`] and the key's bytes in hexadecimal, which is a key
//! of one part; so does a key that begins with the mark. [`plain`] undoes that.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectMeta;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Key;

use super::Object;

/// What a key begins with that stands for another one.
const MARK: &str = "=odd-key=";

/// What the key of an object stands between: in the answers of S3 and Google, and in those of Azure.
const KEY: Element = Element { open: "<Key>", close: "</Key>" };
const NAME: Element = Element { open: "<Name>", close: "</Name>" };

/// What a name of Azure's stands behind if it is a folder's.
const FOLDER: &str = "<BlobPrefix>";

/// What stands before and behind each key of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    open: &'static str,
    close: &'static str,
}

/// Where the keys are in the answer to a request with this query, if it asks for a listing.
pub(super) fn element(query: &str) -> Option<Element> {
    let asks = |what: &str| query.split('&').any(|pair| pair == what);
    if asks("list-type=2") {
        return Some(KEY);
    }
    asks("comp=list").then_some(NAME)
}

/// The listing with no key that the crate would refuse or change.
pub(super) fn readable(listing: Bytes, element: Element) -> Bytes {
    // What is no text is for the crate to refuse.
    let Ok(text) = std::str::from_utf8(&listing) else { return listing };
    let Element { open, close } = element;
    let mut changed = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(begin) = text[at..].find(open).map(|found| at + found + open.len()) {
        let Some(end) = text[begin..].find(close).map(|found| begin + found) else { break };
        // A folder's name ends with `/`, and is no key.
        let is_key = !text[..begin - open.len()].trim_ascii_end().ends_with(FOLDER);
        if let Some(key) = unescaped(&text[begin..end]).filter(|key| is_key && is_odd(key)) {
            changed.push_str(&text[copied..begin]);
            changed.push_str(&marked(&key));
            copied = end;
        }
        at = end;
    }
    if copied == 0 {
        return listing;
    }
    changed.push_str(&text[copied..]);
    changed.into()
}

/// Whether the crate would refuse the key, or make another of it.
pub(super) fn is_odd(key: &str) -> bool {
    key.starts_with(MARK) || Key::parse(key).map_or(true, |parsed| parsed.as_ref() != key)
}

fn marked(key: &str) -> String {
    let mut marked = MARK.to_owned();
    for byte in key.bytes() {
        // Writing to a string cannot fail.
        write!(marked, "{byte:02x}").expect("a string takes everything");
    }
    marked
}

/// The key that a location in a listing of a cloud stands for.
pub(super) fn plain(location: &str) -> String {
    let bytes = location.strip_prefix(MARK).and_then(|digits| {
        let pairs = digits.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        pairs.map(byte).collect::<Option<Vec<u8>>>()
    });
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| location.to_owned())
}

/// The text that a text of XML stands for; `None` where it is more than a text.
fn unescaped(text: &str) -> Option<String> {
    if text.contains('<') {
        return None;
    }
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        let (name, behind) = after.split_once(';')?;
        whole.push_str(before);
        whole.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            number => character(number)?,
        });
        rest = behind;
    }
    whole.push_str(rest);
    Some(whole)
}

/// A character by its number: `#10`, `#xA`.
fn character(number: &str) -> Option<char> {
    let digits = number.strip_prefix('#')?;
    let code = match digits.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
        None => digits.parse(),
    };
    char::from_u32(code.ok()?)
}

/// The prefix that a client of the crate is to be given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// The whole.
    Whole,
    /// All but its last character: Azure's leaves out the object whose key is the prefix.
    Short,
}

impl Asked {
    fn of(self, prefix: &str) -> Option<&str> {
        let mut characters = prefix.chars();
        if matches!(self, Self::Short) {
            characters.next_back();
        }
        Some(characters.as_str()).filter(|asked| !asked.is_empty())
    }
}

/// The objects of a cloud, page by page.
#[derive(Clone)]
pub(super) struct Pages {
    inner: Arc<dyn PaginatedListStore>,
    asked: Asked,
    /// What every key of the store begins with in its bucket, with a `/` at its end, or nothing.
    folder: String,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Pages {
    /// The objects of the bucket that are in `folder`, which may be the whole bucket.
    pub(super) fn new(inner: Arc<dyn PaginatedListStore>, asked: Asked, folder: &Key) -> Self {
        let end = if folder.as_ref().is_empty() { "" } else { "/" };
        Self { inner, asked, folder: format!("{folder}{end}") }
    }

    /// See [`super::Store::objects`].
    pub(super) async fn objects(
        &self,
        prefix: &str,
        most: usize,
    ) -> object_store::Result<Vec<Object>> {
        let whole = format!("{}{prefix}", self.folder);
        let asked = self.asked.of(&whole);
        let mut found = Vec::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
            let page = self.inner.list_paginated(asked, options).await?;
            found.extend(page.result.objects.into_iter().filter_map(|meta| self.own(meta, &whole)));
            page_token = page.page_token;
            if found.len() > most || page_token.is_none() {
                break;
            }
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        found.truncate(most.saturating_add(1));
        Ok(found)
    }

    /// The object by its key in the store, if it is one that was asked for.
    fn own(&self, meta: ObjectMeta, asked: &str) -> Option<Object> {
        let object = Object::in_cloud(meta);
        let is_asked = object.key.starts_with(asked);
        let key = object.key.strip_prefix(&self.folder).filter(|_| is_asked)?.to_owned();
        Some(Object { key, ..object })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::super::{Buckets, Options, Store, Trouble};
    use super::*;
    use crate::base::thread::Thread;

    /// A bucket with these keys, each of 3 bytes, as a whole and by its folder `in`, of a server that answers
    /// two listings in two pages each. It holds no key against the prefix that is asked for.
    fn server(keys: [&'static [&'static str]; 2]) -> (Store, Store, Thread) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let thread = Thread::spawn("s3", move || {
            for stream in listener.incoming().take(4) {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                // Every listing asks for the whole prefix, and for nothing else.
                assert!(request.contains("prefix=in%2Fpa"), "{request}");
                let is_second = request.contains("continuation-token=");
                let mut text = "<ListBucketResult><Name>mine</Name>".to_owned();
                for key in keys[usize::from(is_second)] {
                    let of = "<LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>3</Size>";
                    text.extend(["<Contents><Key>", key, "</Key>", of, "</Contents>"]);
                }
                if !is_second {
                    text += "<NextContinuationToken>more</NextContinuationToken>";
                }
                text += "</ListBucketResult>";
                let head = format!("Content-Length: {}\r\nConnection: close", text.len());
                write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{text}").unwrap();
            }
        });
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "secret\n").unwrap();
        let options = Options {
            endpoint,
            access_key_id: "key".to_owned(),
            secret_access_key_file: secret.path().to_owned(),
            ..Options::default()
        };
        let whole = Buckets::open("s3://", &options).unwrap().bucket("mine", None).unwrap();
        let part = Store::open("s3://mine/in", &options).unwrap();
        (whole, part, thread.unwrap())
    }

    #[test]
    fn a_listing_asks_for_the_whole_prefix_and_has_every_key_as_it_is() {
        let first = &["in/pa//x", "in/pa/", "in/pa&amp;b", "in/pa&#x2F;", "/in/pa", "in/other"][..];
        let second = &["in/pa/../b", "in/pa/sub/", "zz//other", "in/pa=odd-key=00"][..];
        let (whole, part, thread) = server([first, second]);
        let keys: Vec<String> =
            whole.objects("in/pa", 20).unwrap().into_iter().map(|object| object.key).collect();
        let expected = ["/", "/", "/../b", "//x", "/sub/", "&b", "=odd-key=00"]
            .map(|end| format!("in/pa{end}"));
        let sorted = |mut keys: Vec<String>| {
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys, sorted(expected.to_vec()));
        let found = part.objects("pa", 20).unwrap();
        let within: Vec<String> = found.iter().map(|object| format!("in/{}", object.key)).collect();
        assert_eq!(within, keys, "a store that is a folder of a bucket shows the same");
        thread.join().unwrap();
        // The server is gone: nothing is asked for by another key.
        for object in found.iter().filter(|object| is_odd(&object.key)) {
            let error = part.get_range(object, 0..3).unwrap_err();
            assert_eq!(error.trouble(), Trouble::Invalid, "{object:?}");
            assert_eq!(part.get(&object.key).unwrap_err().trouble(), Trouble::Invalid);
        }
    }

    #[test]
    fn every_key_is_read_as_it_was_listed() {
        for key in ["a", "a/b", "a//b", "/a", "a/", "/", "..", "a/./b", "\u{e9}//", "=odd-key=61"] {
            let xml = format!("<a><Key>{key}</Key><Key>x</Key></a>");
            let read = readable(xml.clone().into(), KEY);
            let text = std::str::from_utf8(&read).unwrap();
            let (_, rest) = text.split_once("<Key>").unwrap();
            let (shown, rest) = rest.split_once("</Key>").unwrap();
            assert_eq!(rest, "<Key>x</Key></a>");
            assert_eq!(Key::parse(shown).unwrap().as_ref(), shown);
            assert_eq!(plain(shown), key);
            assert_eq!(is_odd(key), text != xml, "{key}");
        }
        let folder = "<BlobPrefix><Name>a/</Name></BlobPrefix>";
        let blobs = format!("<Blob><Name>a/</Name></Blob>{folder}<Blob><Name>b</Name></Blob>");
        let read = readable(blobs.into(), NAME);
        let expected = format!("<Blob><Name>{}</Name></Blob>{folder}", marked("a/"));
        assert!(read.starts_with(expected.as_bytes()), "a folder is no key: {read:?}");
        for text in ["<Key>a//b", "<Key>&none;//</Key>", "<Key><![CDATA[a//b]]></Key>", "\u{0}"] {
            assert_eq!(readable(text.into(), KEY), text, "what is not understood is left alone");
        }
        assert_eq!(readable(Bytes::from_static(b"<Key>//\xff</Key>"), KEY)[..7], b"<Key>//"[..]);
    }

    #[test]
    fn azure_is_asked_for_more_since_the_key_that_is_the_prefix_is_left_out() {
        for (asked, prefix, expected) in [
            (Asked::Whole, "a/\u{e9}", Some("a/\u{e9}")),
            (Asked::Short, "a/\u{e9}", Some("a/")),
            (Asked::Whole, "", None),
            (Asked::Short, "a", None),
            (Asked::Short, "", None),
        ] {
            assert_eq!(asked.of(prefix), expected, "{asked:?} {prefix:?}");
        }
    }

    #[test]
    fn only_answers_to_listings_are_rewritten() {
        assert_eq!(element("list-type=2&prefix=a"), Some(KEY));
        assert_eq!(element("restype=container&comp=list"), Some(NAME));
        for query in ["", "uploads", "comp=block", "prefix=list-type=2"] {
            assert_eq!(element(query), None, "{query}");
        }
    }
}
