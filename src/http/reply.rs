//! A reply as bytes: the headers that every reply has, and its body.

use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::api::INFLUXDB_VERSION;
use crate::api::reply::{Broken, Content, Reply};

/// Longest request id of a client that is echoed, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The header in which clients of Amazon look for a request's id.
pub const X_AMZN_REQUESTID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The digits of base 32. Source: RFC 4648, 6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The digits of base 16.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes of an id of ours: the process, a dash, and the number, whose digits are enough for a million
/// requests a second through eight years.
const ID_BYTES: usize = 16 + 1 + 12;

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_INFLUXDB_VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const X_INFLUXDB_BUILD: HeaderName = HeaderName::from_static("x-influxdb-build");

/// Numbers the requests of this process.
#[derive(Debug)]
pub struct RequestIds {
    /// Tells this process from others.
    process: u64,
    next: AtomicU64,
    /// Spreads numbers, so that ids do not tell how many requests there were.
    seed: RandomState,
}

impl RequestIds {
    /// Ids that no other process gives, in all likelihood.
    pub fn new() -> Self {
        let seed = RandomState::new();
        Self { process: seed.hash_one(0), next: AtomicU64::new(1), seed }
    }

    /// The id that the client sent, if it is visible ASCII of a sane length; else one of ours.
    pub fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let sent = [X_REQUEST_ID, REQUEST_ID]
            .iter()
            .find_map(|name| headers.get(name))
            .filter(|value| is_sane(value.as_bytes()));
        sent.cloned().unwrap_or_else(|| self.make())
    }

    /// An id as Amazon's: 26 digits of base 32.
    pub fn amzn(&self) -> HeaderValue {
        // Relaxed: each number is given once; nothing else hangs on it.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut bits = u128::from(self.seed.hash_one(number)) << 64 | u128::from(self.process);
        bits ^= u128::from(number);
        let digits = [(); 26].map(|()| {
            let digit = BASE32[(bits & 31) as usize];
            bits >>= 5;
            digit
        });
        HeaderValue::from_bytes(&digits).expect("digits of base 32 are visible ASCII")
    }

    fn make(&self) -> HeaderValue {
        // Relaxed: each number is given once; nothing else hangs on it.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = [b'-'; ID_BYTES];
        put_hex(&mut id[..16], self.process);
        put_hex(&mut id[17..], number);
        HeaderValue::from_bytes(&id).expect("hexadecimal digits are visible ASCII")
    }
}

/// Writes the low digits of `number`, as many as there is room for. By hand, since each request has an
/// id, and formatting it took as long as finding its way.
fn put_hex(into: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in into.iter_mut().rev() {
        *digit = HEX[(rest & 15) as usize];
        rest >>= 4;
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// The reply with the headers that every reply has; `end` is dropped with its body. `Date` is hyper's.
pub fn response<E: Send + Unpin>(reply: Reply, id: HeaderValue, end: E) -> Response<Outgoing<E>> {
    let Reply { status, mut headers, content } = reply;
    headers.insert(REQUEST_ID, id.clone());
    headers.insert(X_REQUEST_ID, id);
    headers.insert(X_INFLUXDB_VERSION, HeaderValue::from_static(INFLUXDB_VERSION));
    headers.insert(X_INFLUXDB_BUILD, HeaderValue::from_static("OSS"));
    let says_later =
        matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
    if says_later && !headers.contains_key(RETRY_AFTER) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    let mut response = Response::new(Outgoing { content, _end: end });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A reply's body on its way, and what ends with it.
#[derive(Debug)]
pub struct Outgoing<E> {
    content: Content,
    _end: E,
}

impl<E: Send + Unpin> Body for Outgoing<E> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Stream(chunks) => {
                chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_own_request_id_is_echoed_if_it_is_sane() {
        let ids = RequestIds::new();
        let with = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_bytes(value).unwrap());
            ids.of(&headers)
        };
        assert_eq!(with(b"abc-1"), "abc-1");
        for odd in [&b"a b"[..], b"", "ä".as_bytes(), &[b'x'; REQUEST_ID_BYTES_MAX + 1]] {
            assert_ne!(with(odd).as_bytes(), odd);
        }
        assert_ne!(ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
    }

    #[test]
    fn an_id_of_amazons_kind_has_26_digits_and_is_given_once() {
        let ids = RequestIds::new();
        let all: std::collections::HashSet<_> = (0..1000).map(|_| ids.amzn()).collect();
        assert_eq!(all.len(), 1000);
        assert!(
            all.iter().all(|id| id.len() == 26 && id.as_bytes().iter().all(|d| BASE32.contains(d)))
        );
    }

    #[test]
    fn every_503_says_when_to_try_again() {
        let reply = Reply::empty(StatusCode::SERVICE_UNAVAILABLE);
        let response = response(reply, HeaderValue::from_static("1"), ());
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["x-influxdb-build"], "OSS");
    }
}
