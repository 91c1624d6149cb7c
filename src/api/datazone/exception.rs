//! Errors as `DataZone`'s clients read them: the code in a header, and a `message` with a small letter.
//!
//! | exception | status | SDKs |
//! |---|---|---|
//! | `ValidationException` | 400 | do not try again |
//! | `UnauthorizedException` | 401 | do not try again |
//! | `ServiceQuotaExceededException` | 402 | do not try again |
//! | `AccessDeniedException`, signatures | 403 | do not try again |
//! | `ResourceNotFoundException` | 404 | do not try again |
//! | `ConflictException` | 409 | do not try again |
//! | `ThrottlingException` | 429 | try again |
//! | `InternalServerException` | 500 | try again |
//!
//! Three answers are to requests that no client of the model sends. They have the same shape, and names
//! that the model does not have:
//!
//! | exception | status | to |
//! |---|---|---|
//! | `MethodNotAllowedException` | 405, with `Allow` | a method that the path does not have |
//! | `RequestEntityTooLargeException` | 413 | a body above `server.body_bytes_max` or its inflated bound |
//! | `ServiceUnavailableException` | 503 | a body that came too slowly |

use hyper::header::{ALLOW, HeaderName, HeaderValue};
use serde_json::json;

use crate::api::fault::{Fault, Kind};
use crate::api::reply::Reply;
use crate::api::timestream::exception::{Code, Exception};

/// The header that names the exception.
const X_AMZN_ERRORTYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The header by which botocore is told how long to wait, in milliseconds.
const X_AMZ_RETRY_AFTER: HeaderName = HeaderName::from_static("x-amz-retry-after");

/// The content type of every reply with a body.
pub const CONTENT_TYPE: &str = "application/json";

/// The code of a method that a path does not have, which the model has no name for.
const METHOD_NOT_ALLOWED: &str = "MethodNotAllowedException";

/// The reply for an error.
pub fn reply(exception: &Exception) -> Reply {
    let code = match exception.code {
        Code::MissingAuthenticationToken => Code::Unauthorized,
        // The model has one name for whatever is wrong with a request.
        Code::Serialization => Code::Validation,
        code => code,
    };
    let status = Exception::new(code, "").status();
    let named = with_name(status, code.parts().0, &exception.message);
    if exception.retry_after_ms == 0 {
        return named;
    }
    named.with(X_AMZ_RETRY_AFTER, HeaderValue::from(exception.retry_after_ms))
}

/// The reply for an error of the HTTP floor.
pub fn of_fault(fault: &Fault) -> Reply {
    match fault.kind {
        Kind::MethodNotAllowed { allow } => {
            with_name(fault.status(), METHOD_NOT_ALLOWED, &fault.message)
                .with(ALLOW, HeaderValue::from_static(allow))
        }
        _ => reply(&Exception::from(fault)),
    }
}

fn with_name(status: hyper::StatusCode, name: &'static str, message: &str) -> Reply {
    let body = json!({ "message": message }).to_string();
    Reply::full(status, CONTENT_TYPE, body).with(X_AMZN_ERRORTYPE, HeaderValue::from_static(name))
}

/// 400: the request breaks a rule.
pub fn invalid(message: impl Into<String>) -> Exception {
    Exception::invalid(message)
}

/// 404: there is no such entity or point.
pub fn not_found(message: impl Into<String>) -> Exception {
    Exception::new(Code::ResourceNotFound, message)
}
