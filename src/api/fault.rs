//! Errors as replies: one [`Fault`], shown in the shape of the protocol family that was asked.
//!
//! Clients decide by the status whether they keep their data, so the table is strict: 4xx only where
//! sending the same again changes nothing, 503 with `Retry-After` wherever it would. Telegraf's v1
//! output drops a batch on any 4xx and on a 5xx that says "partial write" or "unable to parse";
//! texts of 5xx avoid these words.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;

use super::reply::{Reply, header_text};
use super::timestream::exception::Exception;
use crate::base::class::Class;
use crate::ingest::IngestError;

/// Most bytes of an error that stand in a header. Source: `InfluxDB` 1.12, `services/httpd`.
const HEADER_MESSAGE_BYTES_MAX: usize = 1024;

/// The header that `InfluxDB` 1 clients read an error from.
const X_INFLUXDB_ERROR: HeaderName = HeaderName::from_static("x-influxdb-error");

/// The header that `InfluxDB` 2 clients read an error's code from.
const X_PLATFORM_ERROR_CODE: HeaderName = HeaderName::from_static("x-platform-error-code");

/// Whose clients read the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `InfluxDB` 1: `{"error":..}`.
    V1,
    /// `InfluxDB` 2: `{"code":..,"message":..}`.
    V2,
    /// `InfluxDB` 3: `{"error":..}`, with `data` where lines are to blame.
    V3,
    /// Tidegate's own: `{"code":..,"error":..}`.
    Native,
    /// Amazon Timestream: `{"__type":..,"Message":..}` and statuses of its own.
    Timestream,
    /// Amazon `DataZone`: the header `x-amzn-errortype` and `{"message":..}`.
    DataZone,
}

/// What went wrong, as a status tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400: the request.
    Invalid,
    /// 401: who sends it is not known.
    Unauthorized,
    /// 403: who sends it may not.
    Forbidden,
    /// 404: there is no such database, table or path.
    NotFound,
    /// 405: the path has other methods; these.
    MethodNotAllowed {
        /// As the `Allow` header lists them.
        allow: &'static str,
    },
    /// 408: the body came too slowly.
    Timeout,
    /// 413: the body, on the wire or inflated.
    TooLarge,
    /// 415: the body's type or encoding.
    MediaType,
    /// 422: understood, and in contradiction to what was sent before.
    Unprocessable,
    /// 500: ours.
    Internal,
    /// 503: later.
    Busy {
        /// How much later; told in whole seconds, at least one.
        retry_after: Duration,
    },
}

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The status.
    pub kind: Kind,
    /// What was found and what would be right.
    pub message: String,
}

impl Fault {
    /// An error of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// 400: the request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// Its status.
    pub const fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Timeout => StatusCode::REQUEST_TIMEOUT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Its code in `InfluxDB` 2's list. Source: `InfluxDB` 2.9, `kit/platform/errors`.
    pub const fn code(&self) -> &'static str {
        match self.kind {
            Kind::Invalid => "invalid",
            Kind::Unauthorized => "unauthorized",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not found",
            Kind::MethodNotAllowed { .. } => "method not allowed",
            Kind::Timeout => "request timeout",
            Kind::TooLarge => "request too large",
            Kind::MediaType => "unsupported media type",
            Kind::Unprocessable => "unprocessable entity",
            Kind::Internal => "internal error",
            Kind::Busy { .. } => "unavailable",
        }
    }

    /// The reply, in the shape of `family`.
    pub fn reply(&self, family: Family) -> Reply {
        let (code, message) = (self.code(), &self.message);
        let body = match family {
            Family::Timestream => return Exception::from(self).reply(),
            Family::DataZone => return super::datazone::exception::of_fault(self),
            Family::V1 | Family::V3 => json!({ "error": message }),
            Family::V2 => json!({ "code": code, "message": message }),
            Family::Native => json!({ "code": code, "error": message }),
        };
        let reply = error_headers(Reply::json(self.status(), &body), family, code, message);
        match self.kind {
            Kind::MethodNotAllowed { allow } => reply.with(ALLOW, HeaderValue::from_static(allow)),
            Kind::Busy { retry_after } => reply.with(RETRY_AFTER, whole_seconds(retry_after)),
            // Source: InfluxDB 1.12, services/httpd: what makes a browser or curl ask for a password.
            Kind::Unauthorized => {
                reply.with(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"InfluxDB\""))
            }
            _ => reply,
        }
    }
}

/// Adds the headers by which clients of `family` recognise an error.
pub fn error_headers(reply: Reply, family: Family, code: &'static str, message: &str) -> Reply {
    match family {
        // InfluxDB 1 leaves it away there, and its clients take the header for another kind of error.
        Family::V1 if reply.status == StatusCode::UNAUTHORIZED => reply,
        Family::V1 | Family::V3 => {
            reply.with(X_INFLUXDB_ERROR, header_text(message, HEADER_MESSAGE_BYTES_MAX))
        }
        Family::V2 => reply.with(X_PLATFORM_ERROR_CODE, HeaderValue::from_static(code)),
        Family::Native | Family::Timestream | Family::DataZone => reply,
    }
}

/// Whole seconds, rounded up: Go and Java clients ignore a fraction, and zero means "at once".
fn whole_seconds(pause: Duration) -> HeaderValue {
    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    HeaderValue::from(seconds.max(1))
}

impl From<IngestError> for Fault {
    fn from(error: IngestError) -> Self {
        let kind = match (error.class(), &error) {
            (_, IngestError::Busy { retry_after, .. }) => Kind::Busy { retry_after: *retry_after },
            (_, IngestError::TooLarge { .. } | IngestError::MemoryTooSmall { .. }) => {
                Kind::TooLarge
            }
            (_, IngestError::DatabaseNotFound { .. }) => Kind::NotFound,
            (Class::Refused, _) => Kind::Invalid,
            (Class::Busy | Class::Fault, _) => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reply::Content;

    fn shown(fault: &Fault, family: Family) -> (Reply, String) {
        let reply = fault.reply(family);
        let Content::Full(bytes) = &reply.content else { panic!("an error has a body") };
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        (reply, text)
    }

    #[test]
    fn each_family_reads_its_own_shape() {
        let fault = Fault::invalid("database is required");
        let (reply, text) = shown(&fault, Family::V1);
        assert_eq!(text, r#"{"error":"database is required"}"#);
        assert_eq!(reply.headers["x-influxdb-error"], "database is required");
        let (reply, text) = shown(&fault, Family::V2);
        assert_eq!(text, r#"{"code":"invalid","message":"database is required"}"#);
        assert_eq!(reply.headers["x-platform-error-code"], "invalid");
        assert_eq!(shown(&fault, Family::V3).1, r#"{"error":"database is required"}"#);
        let native = shown(&fault, Family::Native).1;
        assert_eq!(native, r#"{"code":"invalid","error":"database is required"}"#);
    }

    #[test]
    fn busy_always_says_when_to_try_again_in_whole_seconds() {
        for (pause, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (30_000, "30")] {
            let error =
                IngestError::Busy { cause: "memory", retry_after: Duration::from_millis(pause) };
            let reply = Fault::from(error).reply(Family::V1);
            assert_eq!(reply.status, 503);
            assert_eq!(reply.headers["retry-after"], seconds);
        }
    }

    #[test]
    fn a_fault_of_ours_never_holds_the_words_that_make_telegraf_drop_the_batch() {
        for error in [
            IngestError::Busy { cause: "wal", retry_after: Duration::from_secs(1) },
            IngestError::Poisoned { reason: "fdatasync: EIO".into() },
        ] {
            let fault = Fault::from(error);
            assert!(fault.status().is_server_error());
            for word in ["partial write", "unable to parse", "hinted handoff", "retention policy"] {
                assert!(!fault.message.contains(word));
            }
        }
    }

    #[test]
    fn a_401_asks_for_a_password_and_has_no_v1_error_header() {
        let reply = Fault::new(Kind::Unauthorized, "authorization failed").reply(Family::V1);
        assert_eq!(reply.headers["www-authenticate"], "Basic realm=\"InfluxDB\"");
        assert!(!reply.headers.contains_key("x-influxdb-error"));
    }
}
