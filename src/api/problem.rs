//! Errors as clients see them: RFC 9457 problem details, with the list of errors
//! that the Huma framework, on which the API's clients grew up, adds to them.
//!
//! The one place that decides which failure becomes which status.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use crate::service::jobqueue::client::EnqueueError;
use crate::shortened::{MAX_SHOWN_BYTES, shortened};

/// Clients may try again after this many seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// The most errors that one answer lists; a count stands for the others.
pub(super) const MAX_ERRORS: usize = 20;

/// An error response.
#[derive(Debug, Serialize)]
pub struct Problem {
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ErrorDetail>,
    /// Whether the connection is closed with it.
    #[serde(skip)]
    closes: bool,
}

impl Problem {
    /// A problem without a list of errors.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            detail: detail.into(),
            errors: Vec::new(),
            // The rest of the body may still be on its way, and would be taken for the
            // next request.
            closes: matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE
            ),
        }
    }

    /// The same, after which no further request is read from the connection.
    pub(super) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The body is JSON, and these are all its errors.
    pub fn invalid(errors: Vec<ErrorDetail>) -> Self {
        Self::validation(StatusCode::UNPROCESSABLE_ENTITY, errors)
    }

    /// The body `text` is not JSON, and `why`.
    pub fn not_json(why: impl Into<String>, text: &str) -> Self {
        let error = ErrorDetail {
            message: why.into(),
            location: "body".to_owned(),
            value: Some(echo_text(text)),
        };
        Self::validation(StatusCode::BAD_REQUEST, vec![error])
    }

    fn validation(status: StatusCode, mut errors: Vec<ErrorDetail>) -> Self {
        let more = errors.len().saturating_sub(MAX_ERRORS);
        if more > 0 {
            errors.truncate(MAX_ERRORS);
            errors.push(ErrorDetail {
                message: format!("and {more} more"),
                location: "body".to_owned(),
                value: None,
            });
        }
        let mut problem = Self::new(status, "validation failed");
        problem.errors = errors;
        problem
    }
}

impl From<EnqueueError> for Problem {
    fn from(error: EnqueueError) -> Self {
        let why = match error {
            EnqueueError::NotConnected => "Redis is not connected".to_owned(),
            EnqueueError::NotSent => error.to_string(),
            EnqueueError::OutcomeUnknown => "the outcome is unknown: no reply came in time, \
                the job may or may not have been registered"
                .to_owned(),
            EnqueueError::Refused(reason) => reason,
        };
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("job queue service is unavailable: {why}"),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self)
            .expect("cannot fail because strings, numbers and raw JSON can always be written");
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response =
            (self.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// One thing that is wrong with a body.
#[derive(Debug, Serialize)]
pub struct ErrorDetail {
    message: String,
    location: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
}

impl ErrorDetail {
    /// The body as a whole, whose JSON text is `raw`, is wrong.
    pub fn of_body(message: impl Into<String>, raw: &RawValue) -> Self {
        Self {
            message: message.into(),
            location: "body".to_owned(),
            value: Some(echo(raw)),
        }
    }

    /// The property `name`, whose value's JSON text is `raw`, is wrong.
    pub fn of_property(name: &str, message: impl Into<String>, raw: &RawValue) -> Self {
        Self {
            message: message.into(),
            location: format!("body.{}", shortened(name)),
            value: Some(echo(raw)),
        }
    }
}

/// The value itself where that is short and any JSON parser takes it, else a text.
///
/// Valid JSON is not enough: `1e400`, a lone surrogate or 200 nested arrays would
/// keep some clients from reading the whole answer.
fn echo(raw: &RawValue) -> Box<RawValue> {
    match serde_json::from_str(raw.get()) {
        Ok(Value::String(text)) => echo_text(&text),
        Ok(_) if raw.get().len() <= MAX_SHOWN_BYTES => raw.to_owned(),
        _ => echo_text(raw.get()),
    }
}

fn echo_text(text: &str) -> Box<RawValue> {
    to_raw_value(&shortened(text))
        .expect("cannot fail because a string can always be written as JSON")
}

fn as_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::json;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    async fn body(response: Response) -> String {
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_bad_body_is_rendered_as_huma_renders_it() {
        let error = ErrorDetail::of_property("delay_seconds", "expected integer", &raw("\"x\""));
        let response = Problem::invalid(vec![error]).into_response();
        assert_eq!(response.status(), 422);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(
            body(response).await,
            r#"{"title":"Unprocessable Entity","status":422,"detail":"validation failed","errors":[{"message":"expected integer","location":"body.delay_seconds","value":"x"}]}"#
        );
    }

    #[tokio::test]
    async fn an_unavailable_queue_is_503_with_a_time_to_retry() {
        for (error, detail) in [
            (
                EnqueueError::NotConnected,
                "job queue service is unavailable: Redis is not connected",
            ),
            (
                EnqueueError::NotSent,
                "job queue service is unavailable: Redis does not answer, and the job was not \
                 sent",
            ),
            (
                EnqueueError::OutcomeUnknown,
                "job queue service is unavailable: the outcome is unknown: no reply came in \
                 time, the job may or may not have been registered",
            ),
            (
                EnqueueError::Refused("OOM command not allowed".to_owned()),
                "job queue service is unavailable: OOM command not allowed",
            ),
        ] {
            let response = Problem::from(error).into_response();
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()[header::RETRY_AFTER], "1");
            let body: Value = serde_json::from_str(&body(response).await).unwrap();
            assert_eq!(
                body,
                json!({"title": "Service Unavailable", "status": 503, "detail": detail})
            );
        }
    }

    #[test]
    fn a_short_value_comes_back_as_it_was() {
        for text in [
            "-1",
            "1.0",
            "true",
            "null",
            "9223372036854775808",
            "[1, {}]",
            "\"10\"",
        ] {
            assert_eq!(echo(&raw(text)).get(), text);
        }
    }

    #[test]
    fn a_value_that_a_client_may_not_parse_comes_back_as_text() {
        assert_eq!(echo(&raw("1e400")).get(), r#""1e400""#);
        assert_eq!(echo(&raw(r#""\ud800""#)).get(), r#""\"\\ud800\"""#);
    }

    #[test]
    fn a_value_of_any_length_and_depth_comes_back_short() {
        let longest = format!("\"{}\"", "x".repeat(MAX_SHOWN_BYTES));
        assert_eq!(echo(&raw(&longest)).get(), longest);
        for text in [
            format!("\"{}\"", "x".repeat(MAX_SHOWN_BYTES + 1)),
            format!("\"{}\"", "\u{1f980}".repeat(10_000)),
            "1".repeat(1_000),
            format!("[{}0]", "0,".repeat(1_000)),
            format!("{}{}", "[".repeat(30_000), "]".repeat(30_000)),
        ] {
            let echoed = echo(&raw(&text));
            let echoed: String = serde_json::from_str(echoed.get()).unwrap();
            assert!(echoed.ends_with(" bytes)"), "{echoed}");
            assert!(echoed.len() <= MAX_SHOWN_BYTES + 20, "{echoed}");
        }
    }

    #[test]
    fn errors_beyond_the_limit_are_counted() {
        let errors = |count| -> Vec<_> {
            (0..count)
                .map(|_| ErrorDetail::of_body("expected object", &raw("1")))
                .collect()
        };
        assert_eq!(
            Problem::invalid(errors(MAX_ERRORS)).errors.len(),
            MAX_ERRORS
        );
        let problem = Problem::invalid(errors(MAX_ERRORS + 5));
        assert_eq!(problem.errors.len(), MAX_ERRORS + 1);
        assert_eq!(problem.errors[MAX_ERRORS].message, "and 5 more");
    }
}
