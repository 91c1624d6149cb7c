//! Errors as Timestream's clients read them: a status, `__type` and `Message`.
//!
//! | exception | status | SDKs |
//! |---|---|---|
//! | `ValidationException`, `SerializationException` | 400 | do not try again |
//! | `ServiceQuotaExceededException` | 402 | do not try again |
//! | `AccessDeniedException`, signatures | 403 | do not try again |
//! | `ResourceNotFoundException`, `UnknownOperationException` | 404 | do not try again |
//! | `ConflictException` | 409 | do not try again |
//! | `RejectedRecordsException` | 419 | do not try again |
//! | `ThrottlingException` | 429 | try again, with the longest pauses of all |
//! | `InternalServerException` | 500 | try again |
//! | `ServiceUnavailableException` | 503 | try again |
//!
//! What the gateway cannot take now is a `ThrottlingException`, although it is our load and not the
//! caller's quota: it is the one answer that every SDK, awswrangler, Telegraf and the Flink sink hold
//! their data for, and that SDKs wait longest after. A body that came too slowly is 503 and not 408,
//! after which older SDKs do not try again. No error is ever `InvalidEndpointException` (421): boto3
//! with endpoint discovery repeats it without limit and without a pause.
//!
//! `Message` has a capital: with a small one the SDKs of Rust and boto3 leave their own field empty.
//! Source: Timestream API, "Common errors" and "API-specific error codes"; botocore and the SDK for
//! Rust, whose parsing and retries were measured.

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::api::fault::{Fault, Kind};
use crate::api::partial;
use crate::api::reply::Reply;
use crate::base::class::Class;
use crate::base::lsn::Lsn;
use crate::engine::catalog::CatalogError;
use crate::ingest::IngestError;

/// The content type of Amazon's JSON protocol, version 1.0.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// The namespace of the errors that the service's model has.
const MODELLED: &str = "com.amazonaws.timestream.v20181101#";

/// The namespace of the framework's own.
const FRAMEWORK: &str = "com.amazon.coral.service#";

/// The header by which botocore is told how long to wait, in milliseconds.
const X_AMZ_RETRY_AFTER: HeaderName = HeaderName::from_static("x-amz-retry-after");

/// Which error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request breaks a rule.
    Validation,
    /// The request is no JSON, or not of its shape.
    Serialization,
    /// The body is too large.
    TooLarge,
    /// There are as many as there may be.
    ServiceQuotaExceeded,
    /// The caller may not do that.
    AccessDenied,
    /// There are no credentials; in `DataZone`'s words.
    Unauthorized,
    /// There are no credentials.
    MissingAuthenticationToken,
    /// The key or token is not known.
    UnrecognizedClient,
    /// The signature is wrong, or not of now.
    InvalidSignature,
    /// The signature lacks a part.
    IncompleteSignature,
    /// There is no such database, table or tag's owner.
    ResourceNotFound,
    /// There is no such operation.
    UnknownOperation,
    /// There is one of that name.
    Conflict,
    /// Some records were refused; the others are stored.
    RejectedRecords,
    /// Later.
    Throttling,
    /// Ours.
    InternalServer,
    /// The request did not arrive in time.
    ServiceUnavailable,
}

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Exception {
    /// Which.
    pub code: Code,
    /// What was found and what would be right.
    pub message: String,
    /// Members beside `__type` and `Message`.
    pub members: Map<String, Value>,
    /// How long to wait before trying again, milliseconds; 0 leaves it to the client.
    pub retry_after_ms: u64,
    /// The frame with which what was refused is kept.
    pub kept_in: Option<Lsn>,
}

impl Code {
    /// Its name and status.
    pub const fn parts(self) -> (&'static str, u16) {
        match self {
            Self::Validation => ("ValidationException", 400),
            Self::Serialization => ("SerializationException", 400),
            Self::IncompleteSignature => ("IncompleteSignatureException", 400),
            Self::ServiceQuotaExceeded => ("ServiceQuotaExceededException", 402),
            Self::Unauthorized => ("UnauthorizedException", 401),
            Self::AccessDenied => ("AccessDeniedException", 403),
            Self::MissingAuthenticationToken => ("MissingAuthenticationTokenException", 403),
            Self::UnrecognizedClient => ("UnrecognizedClientException", 403),
            Self::InvalidSignature => ("InvalidSignatureException", 403),
            Self::ResourceNotFound => ("ResourceNotFoundException", 404),
            Self::UnknownOperation => ("UnknownOperationException", 404),
            Self::Conflict => ("ConflictException", 409),
            Self::TooLarge => ("RequestEntityTooLargeException", 413),
            Self::RejectedRecords => ("RejectedRecordsException", 419),
            Self::Throttling => ("ThrottlingException", 429),
            Self::InternalServer => ("InternalServerException", 500),
            Self::ServiceUnavailable => ("ServiceUnavailableException", 503),
        }
    }

    const fn is_modelled(self) -> bool {
        matches!(
            self,
            Self::Validation
                | Self::ServiceQuotaExceeded
                | Self::AccessDenied
                | Self::ResourceNotFound
                | Self::Conflict
                | Self::RejectedRecords
                | Self::Throttling
                | Self::InternalServer
        )
    }
}

impl Exception {
    /// An error of this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            members: Map::new(),
            retry_after_ms: 0,
            kept_in: None,
        }
    }

    /// 400: the request breaks a rule.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Validation, message)
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.parts().1).expect("the table holds statuses")
    }

    /// The reply.
    pub fn reply(&self) -> Reply {
        let (name, _) = self.code.parts();
        let namespace = if self.code.is_modelled() { MODELLED } else { FRAMEWORK };
        let mut body = Map::new();
        body.insert("__type".into(), format!("{namespace}{name}").into());
        body.insert("Message".into(), self.message.as_str().into());
        body.extend(self.members.clone());
        let mut reply = ok_with(self.status(), &body);
        if let Some(lsn) = self.kept_in {
            reply = reply.with(partial::X_TIDEGATE_REJECTS, partial::link(lsn));
        }
        if self.retry_after_ms == 0 {
            return reply;
        }
        reply.with(X_AMZ_RETRY_AFTER, HeaderValue::from(self.retry_after_ms))
    }
}

/// A reply 200 with this body, which is JSON.
pub fn ok_with_text(text: &[u8]) -> Reply {
    Reply::full(StatusCode::OK, CONTENT_TYPE, text.to_vec())
}

/// A reply with a body in this family's content type.
pub fn ok_with(status: StatusCode, body: &impl serde::Serialize) -> Reply {
    let text = serde_json::to_vec(body).expect("replies have text keys and no failing parts");
    Reply::full(status, CONTENT_TYPE, text)
}

/// Errors of the HTTP floor and of the way in.
impl From<&Fault> for Exception {
    fn from(fault: &Fault) -> Self {
        let code = match fault.kind {
            // A body that broke off, or is not what its encoding says.
            Kind::Invalid | Kind::MediaType | Kind::Unprocessable => Code::Serialization,
            Kind::Unauthorized => Code::MissingAuthenticationToken,
            Kind::Forbidden => Code::AccessDenied,
            Kind::NotFound => Code::ResourceNotFound,
            Kind::MethodNotAllowed { .. } => Code::UnknownOperation,
            Kind::Timeout => Code::ServiceUnavailable,
            Kind::TooLarge => Code::TooLarge,
            Kind::Internal => Code::InternalServer,
            Kind::Busy { .. } => Code::Throttling,
        };
        let mut exception = Self::new(code, fault.message.clone());
        if let Kind::Busy { retry_after } = fault.kind {
            exception.retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        }
        exception
    }
}

impl From<IngestError> for Exception {
    fn from(error: IngestError) -> Self {
        Self::from(&Fault::from(error))
    }
}

impl From<CatalogError> for Exception {
    fn from(error: CatalogError) -> Self {
        let code = match (error.class(), &error) {
            (Class::Fault, _) => Code::InternalServer,
            (Class::Busy, _) => Code::Throttling,
            (_, CatalogError::NotFound { .. }) => Code::ResourceNotFound,
            (_, CatalogError::Exists { .. }) => Code::Conflict,
            (_, CatalogError::Limit { .. }) => Code::ServiceQuotaExceeded,
            (Class::Refused, _) => Code::Validation,
        };
        if code == Code::InternalServer {
            tracing::error!(error = %chain(&error), "the catalog failed");
        }
        Self::new(code, in_words_of(&error))
    }
}

/// Where clients know a text, that one.
fn in_words_of(error: &CatalogError) -> String {
    match error {
        CatalogError::NotFound { what, name } => format!("The {what} {name} does not exist."),
        CatalogError::Exists { what, name } => format!("The {what} {name} already exists."),
        // There may be fewer so far: it is the request that would make them too many.
        CatalogError::Limit { what: what @ "tags", max } => {
            format!(
                "A resource has at most {max} {what}; with those of the request it would have more."
            )
        }
        CatalogError::NotEmpty { .. } => {
            format!("Cannot delete the database until all tables in it are deleted: {error}.")
        }
        _ => chain(error),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::reply::Content;

    fn shown(exception: &Exception) -> (u16, Value, Reply) {
        let reply = exception.reply();
        let Content::Full(bytes) = &reply.content else { panic!("an error has a body") };
        (reply.status.as_u16(), serde_json::from_slice(bytes).unwrap(), reply)
    }

    #[test]
    fn clients_find_type_message_and_status_where_they_look() {
        let (status, body, reply) = shown(&Exception::invalid("Invalid time for record."));
        assert_eq!(status, 400);
        assert_eq!(body["__type"], "com.amazonaws.timestream.v20181101#ValidationException");
        assert_eq!(body["Message"], "Invalid time for record.");
        assert_eq!(reply.headers["content-type"], CONTENT_TYPE);
        let unknown = Exception::new(Code::UnknownOperation, "");
        assert_eq!(
            shown(&unknown).1["__type"],
            "com.amazon.coral.service#UnknownOperationException"
        );
    }

    #[test]
    fn tags_that_would_be_too_many_are_not_said_to_be_there() {
        let tags = CatalogError::Limit { what: "tags", max: 200 };
        let (status, body, _) = shown(&tags.into());
        assert_eq!(
            (status, body["__type"].as_str().unwrap().ends_with("ExceededException")),
            (402, true)
        );
        let message =
            "A resource has at most 200 tags; with those of the request it would have more.";
        assert_eq!(body["Message"], message);
    }

    #[test]
    fn whatever_may_pass_is_an_answer_that_every_sdk_repeats() {
        let busy = IngestError::Busy { cause: "wal", retry_after: Duration::from_secs(1) };
        let (status, body, reply) = shown(&busy.into());
        assert_eq!(status, 429);
        assert!(body["__type"].as_str().unwrap().ends_with("#ThrottlingException"));
        assert_eq!(reply.headers["x-amz-retry-after"], "1000");
        for (fault, status) in [
            (Fault::new(Kind::Timeout, "slow"), 503),
            (Fault::new(Kind::Internal, "ours"), 500),
            (Fault::from(IngestError::Poisoned { reason: "EIO".into() }), 500),
        ] {
            assert_eq!(Exception::from(&fault).status().as_u16(), status);
        }
    }
}
