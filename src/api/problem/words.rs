//! Every sentence of an error answer, beside its status. A reviewer or a translator finds all of
//! them here.
//!
//! Three kinds of text are not here: what serde_json and humantime say about a mistake, what Redis
//! said when it refused a job, and the lines of `/ready`, which are for operators.

use std::fmt::Display;

use axum::http::{HeaderValue, Method, StatusCode};

use super::Problem;
use crate::{
    api::error_detail::ErrorDetail, service::jobqueue::client::EnqueueError, shortened::shortened,
    usecase::api::violation::Rule,
};

/// How many errors one answer lists at most. One more line has the count of the others.
pub(crate) const MAX_ERRORS: usize = 20;

/// What was expected of a body, or of one of its properties.
pub(crate) const EXPECTED_OBJECT: &str = "expected object";
pub(crate) const EXPECTED_STRING: &str = "expected string";
pub(crate) const EXPECTED_INTEGER: &str = "expected integer";
pub(crate) const EXPECTED_PROPERTY: &str = "expected this property to be present";
pub(crate) const UNEXPECTED_PROPERTY: &str = "unexpected property";
pub(crate) const DUPLICATE_PROPERTY: &str = "duplicate property";

/// What `rule` expects of a property.
pub(crate) fn expected(rule: &Rule) -> String {
    match rule {
        Rule::AtLeast(least) => format!("expected number >= {least}"),
        Rule::AtMost(most) => format!("expected number <= {most}"),
        Rule::Without { this, other } => format!("expected either {this} or {other}, not both"),
        Rule::Duration(why) => format!("expected duration such as 250ms or 2m 30s: {why}"),
        Rule::DaysAtMost(days) => format!("expected duration <= {days}days"),
    }
}

/// What is wrong with a text that is not JSON, and where.
pub(crate) fn at(what: impl Display, place: &str) -> String {
    format!("{what} at {place}")
}

/// What is wrong with a text that is not even a text.
pub(crate) const INVALID_UTF_8: &str = "invalid UTF-8";

/// What is wrong with the `Host` header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHost {
    Missing,
    Several,
    NotAHost,
}

impl Problem {
    /// 422: the body is JSON and has these errors.
    pub(crate) fn invalid(errors: Vec<ErrorDetail>) -> Self {
        Self::validation(StatusCode::UNPROCESSABLE_ENTITY, errors)
    }

    /// 400: the body `text` is not JSON; `why` says what is wrong with it.
    pub(crate) fn not_json(why: impl Into<String>, text: &str) -> Self {
        let error = ErrorDetail::of_text(why, text);
        Self::validation(StatusCode::BAD_REQUEST, vec![error])
    }

    fn validation(status: StatusCode, mut errors: Vec<ErrorDetail>) -> Self {
        let more = errors.len().saturating_sub(MAX_ERRORS);
        if more > 0 {
            errors.truncate(MAX_ERRORS);
            errors.push(ErrorDetail::of_count(format!("and {more} more")));
        }
        let mut problem = Self::new(status, "validation failed");
        problem.errors = errors;
        problem
    }

    /// 400: the connection broke, or the body's framing is wrong.
    pub(crate) fn body_broken_off(why: &axum::Error) -> Self {
        let detail = format!("cannot read request body: {why}");
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 400, after which the connection is closed: it is not certain where the next request begins.
    pub(crate) fn bad_host(why: BadHost) -> Self {
        let detail = match why {
            BadHost::Missing => "the Host header is missing",
            BadHost::Several => "more than one Host header",
            BadHost::NotAHost => "the Host header is not a valid host",
        };
        Self::new(StatusCode::BAD_REQUEST, detail).closing()
    }

    /// 403: a page of `origin` asked for what the settings do not allow.
    pub(crate) fn other_site(origin: Option<&HeaderValue>) -> Self {
        let origin = origin.map_or("another site".into(), |origin| {
            String::from_utf8_lossy(origin.as_bytes())
        });
        let origin = shortened(&origin);
        let detail = format!(
            "pages of {origin} may not do this: cors.allowed_origins and cors.allowed_methods do \
             not allow it"
        );
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404.
    pub(crate) fn nothing_at(path: &str) -> Self {
        let detail = format!("there is nothing at {}", shortened(path));
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405.
    pub(crate) fn method_not_allowed(method: &Method) -> Self {
        let detail = format!("method {} is not allowed", shortened(method.as_str()));
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    /// 408, after which the connection is closed: the rest of the body may still arrive.
    pub(crate) fn body_too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request body read timeout").closing()
    }

    /// 413, after which the connection is closed: the rest of the body may still arrive.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        let detail = format!("request body is too large limit={limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail).closing()
    }

    /// 415.
    pub(crate) fn unknown_content_type(found: &HeaderValue) -> Self {
        Self::unsupported("content type", found, "application/json")
    }

    /// 415.
    pub(crate) fn unknown_content_encoding(found: &HeaderValue) -> Self {
        Self::unsupported("content encoding", found, "none")
    }

    fn unsupported(what: &str, found: &HeaderValue, expected: &str) -> Self {
        let found = String::from_utf8_lossy(found.as_bytes());
        let found = shortened(&found);
        let detail = format!("unknown {what}: {found}, expected {expected}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }
}

/// 503. The library's words for these errors are for programs that use it; clients get these.
impl From<EnqueueError> for Problem {
    fn from(error: EnqueueError) -> Self {
        let why = match error {
            EnqueueError::NotConnected => "Redis is not connected",
            EnqueueError::NotSent => "Redis does not answer, and the job was not sent",
            EnqueueError::OutcomeUnknown => {
                "the outcome is unknown: no reply came in time, the job may or may not have been \
                 registered"
            }
            EnqueueError::Refused(ref reason) | EnqueueError::Malformed(ref reason) => reason,
        };
        let detail = format!("job queue service is unavailable: {why}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}
