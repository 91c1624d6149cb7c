//! Signatures of Amazon's clients, version 4: who sent a request, and that nobody has changed it.
//!
//! ```text
//! Authorization: AWS4-HMAC-SHA256 Credential=<key>/<yyyymmdd>/<region>/<service>/aws4_request,
//!                SignedHeaders=<a;b;c>, Signature=<64 hexadecimal digits>
//!
//! canonical request = method \n path \n query \n (name:value \n)* \n names \n hex(SHA-256(body))
//! text to sign      = AWS4-HMAC-SHA256 \n time \n scope \n hex(SHA-256(canonical request))
//! key               = HMAC chain: "AWS4" + secret -> date -> region -> service -> "aws4_request"
//! ```
//!
//! | part | rule |
//! |---|---|
//! | path | as it came, and percent-encoded once more |
//! | query | decoded, encoded, sorted by name, then by value |
//! | header | the name in small letters; values without blanks at their ends, runs of blanks as one, several joined by commas |
//! | body | as it came, before inflation; where `x-amz-content-sha256` is there, its value is signed, and compared with the body |
//! | must be signed | `host`, and each of [`MUST_BE_SIGNED`] that is there |
//! | time | `x-amz-date`, at most [`SKEW_MAX`] from ours, of the same day as the scope |
//! | service | the one that is asked |
//! | region | that of the setting `auth.region`; where there is none any: clients have the one that their code was written for |
//!
//! A session token is no secret of ours: it must be signed where it is there, and says nothing else.
//!
//! Source: AWS documentation, "Create a signed AWS API request"; requests of boto3 and of the SDKs for
//! Rust and JavaScript.

use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::api::timestream::exception::{Code, Exception};

/// How far a request's time may be from ours. Source: AWS documentation, "Troubleshoot signed requests".
pub const SKEW_MAX: Duration = Duration::from_mins(5);

/// Headers that change what a request means or for how long it holds.
pub const MUST_BE_SIGNED: [&str; 4] =
    ["x-amz-date", "x-amz-target", "x-amz-security-token", "x-amz-content-sha256"];

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";

/// The form of `x-amz-date`.
const TIME_FORM: &str = "%Y%m%dT%H%M%SZ";

/// The digest of a body.
pub type BodyDigest = [u8; 32];

/// What a request's `Authorization` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose key.
    pub key_id: String,
    date: String,
    region: String,
    service: String,
    signed_headers: Vec<String>,
    signature: String,
}

/// What a signature is held against.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'e> {
    /// The key's secret.
    pub secret: &'e str,
    /// The service that is asked.
    pub service: &'e str,
    /// The region that is asked; empty is any.
    pub region: &'e str,
    /// Now, ns since 1970.
    pub now_ns: i64,
}

impl Claim {
    /// What a request's head claims; `None` where it is not signed in this way.
    ///
    /// # Errors
    ///
    /// [`Exception`] 400 where a part of the header is missing.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Exception> {
        let Some(header) = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok())
        else {
            return Ok(None);
        };
        let Some(parts) = header.strip_prefix(ALGORITHM) else { return Ok(None) };
        // Whoever stands before us may have looked at the other.
        if headers.get_all(AUTHORIZATION).iter().count() > 1 {
            let message = "Authorization header must stand once.";
            return Err(Exception::new(Code::IncompleteSignature, message));
        }
        let part = |name: &str| {
            let mut all = parts.split(',').map(str::trim);
            let found = all.find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| {
                let message = format!("Authorization header requires '{name}' parameter.");
                Exception::new(Code::IncompleteSignature, message)
            })
        };
        let (credential, names) = (part("Credential")?, part("SignedHeaders")?);
        let signature = part("Signature")?.to_owned();
        // From the end: a key's name may hold slashes.
        let mut scope = credential.rsplitn(5, '/').map(str::to_owned);
        let mut next = || scope.next().unwrap_or_default();
        let (terminator, service, region, date, key_id) = (next(), next(), next(), next(), next());
        if terminator != TERMINATOR || key_id.is_empty() {
            let message = format!(
                "Credential must have the form <key>/<date>/<region>/<service>/{TERMINATOR}."
            );
            return Err(Exception::new(Code::IncompleteSignature, message));
        }
        let signed_headers = names.split(';').map(str::to_owned).collect();
        Ok(Some(Self { key_id, date, region, service, signed_headers, signature }))
    }

    /// Verifies the signature of the request with this head and body.
    ///
    /// # Errors
    ///
    /// [`Exception`] 403, 400 where a header that must be there is missing. It does not say what would
    /// be right.
    pub fn verify(
        &self,
        head: &Parts,
        body: &BodyDigest,
        expected: &Expected<'_>,
    ) -> Result<(), Exception> {
        let time = self.checked_time(&head.headers, expected)?;
        self.check_signed(&head.headers)?;
        let body = payload_hash(&head.headers, body)?;
        let canonical = self.canonical_request(head, &body);
        let signature = hex(&self.sign(&canonical, &time, expected.secret));
        if bool::from(signature.as_bytes().ct_eq(self.signature.as_bytes())) {
            return Ok(());
        }
        Err(mismatch())
    }

    /// The request's own time, if it holds now.
    fn checked_time(
        &self,
        headers: &HeaderMap,
        expected: &Expected<'_>,
    ) -> Result<String, Exception> {
        let refused = |message: String| Err(Exception::new(Code::InvalidSignature, message));
        if self.service != expected.service {
            let service = expected.service;
            return refused(format!(
                "Credential should be scoped to correct service: '{service}'."
            ));
        }
        if !expected.region.is_empty() && self.region != expected.region {
            let (found, region) = (&self.region, expected.region);
            return refused(format!(
                "Credential should be scoped to a valid region, not '{found}': use '{region}'."
            ));
        }
        let found = headers.get("x-amz-date").and_then(|time| time.to_str().ok());
        let parsed = found.and_then(|time| Some((time, seconds_of(time)?)));
        let Some((time, seconds)) = parsed else {
            let message = "Authorization header requires existence of an 'X-Amz-Date' header of \
                           the form YYYYMMDDTHHMMSSZ.";
            return Err(Exception::new(Code::IncompleteSignature, message));
        };
        if !time.starts_with(&self.date) || self.date.len() != "YYYYMMDD".len() {
            let date = &self.date;
            return refused(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
                 from HTTP: '{date}' != '{time}'."
            ));
        }
        let now = expected.now_ns / 1_000_000_000;
        let skew = i64::try_from(SKEW_MAX.as_secs()).unwrap_or_default();
        let (earliest, latest) = (now.saturating_sub(skew), now.saturating_add(skew));
        let minutes = skew / 60;
        if seconds < earliest {
            let (from, now) = (shown(earliest), shown(now));
            return refused(format!(
                "Signature expired: {time} is now earlier than {from} ({now} - {minutes} min.)"
            ));
        }
        if seconds > latest {
            let (to, now) = (shown(latest), shown(now));
            return refused(format!(
                "Signature not yet current: {time} is still later than {to} ({now} + {minutes} min.)"
            ));
        }
        Ok(time.to_owned())
    }

    /// Whether all is signed that must be.
    fn check_signed(&self, headers: &HeaderMap) -> Result<(), Exception> {
        let present = MUST_BE_SIGNED.iter().filter(|name| headers.contains_key(**name));
        let mut needed = ["host"].iter().chain(present);
        let is_signed = |name: &str| self.signed_headers.iter().any(|signed| signed == name);
        match needed.find(|name| !is_signed(name)) {
            None => Ok(()),
            Some(name) => {
                let message =
                    format!("'{name}' must be a 'SignedHeader' in the Authorization header.");
                Err(Exception::new(Code::InvalidSignature, message))
            }
        }
    }

    fn canonical_request(&self, head: &Parts, body: &str) -> String {
        let mut text = format!("{}\n", head.method);
        encode(head.uri.path().as_bytes(), IsPath(true), &mut text);
        text.push('\n');
        canonical_query(head.uri.query().unwrap_or_default(), &mut text);
        text.push('\n');
        for name in &self.signed_headers {
            text.push_str(name);
            text.push(':');
            for (at, value) in head.headers.get_all(name).iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                let value = String::from_utf8_lossy(value.as_bytes());
                for (at, word) in value.split_ascii_whitespace().enumerate() {
                    if at > 0 {
                        text.push(' ');
                    }
                    text.push_str(word);
                }
            }
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.signed_headers.join(";"));
        text.push('\n');
        text.push_str(body);
        text
    }

    fn sign(&self, canonical: &str, time: &str, secret: &str) -> [u8; 32] {
        let Self { date, region, service, .. } = self;
        let hashed = hex(&Sha256::digest(canonical.as_bytes()).into());
        let text = format!("{ALGORITHM}\n{time}\n{date}/{region}/{service}/{TERMINATOR}\n{hashed}");
        let first = format!("AWS4{secret}");
        let parts = [date, region, service, TERMINATOR, &text];
        let mut key = hmac(first.as_bytes(), parts[0]);
        for part in &parts[1..] {
            key = hmac(&key, part);
        }
        key
    }
}

fn mismatch() -> Exception {
    Exception::new(
        Code::InvalidSignature,
        "The request signature we calculated does not match the signature you provided. Check your \
         AWS Secret Access Key and signing method. Consult the service documentation for details.",
    )
}

/// The body's part of the canonical request.
fn payload_hash(headers: &HeaderMap, body: &BodyDigest) -> Result<String, Exception> {
    let computed = hex(body);
    match headers.get("x-amz-content-sha256") {
        None => Ok(computed),
        Some(told) if told.as_bytes() == computed.as_bytes() => Ok(computed),
        Some(_) => Err(mismatch()),
    }
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8; 32]) -> String {
    let mut text = String::with_capacity(64);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes all");
    }
    text
}

fn seconds_of(time: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime(TIME_FORM, time).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

fn shown(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime(TIME_FORM).to_string()
}

/// Whether slashes stay as they are.
#[derive(Clone, Copy)]
struct IsPath(bool);

fn encode(bytes: &[u8], is_path: IsPath, text: &mut String) {
    for &byte in bytes {
        let is_plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if is_plain || is_path.0 && byte == b'/' {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a String takes all");
        }
    }
}

fn canonical_query(query: &str, text: &mut String) {
    let encoded = |part: &str| {
        let mut encoded = String::new();
        encode(&decode(part), IsPath(false), &mut encoded);
        encoded
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    let mut pairs: Vec<(String, String)> = parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (encoded(name), encoded(value))
        })
        .collect();
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.iter().enumerate() {
        let separator = if at > 0 { "&" } else { "" };
        write!(text, "{separator}{name}={value}").expect("a String takes all");
    }
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let digits = (*byte == b'%').then(|| after.get(..2)).flatten();
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None => bytes.push(*byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
