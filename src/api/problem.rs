//! Errors as clients see them: problem details of RFC 9457, with the list of errors that the Huma
//! framework adds to them. The clients of this API are made for Huma's answers.
//!
//! `words` decides which failure becomes which status, with which words.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::error_detail::ErrorDetail;

pub(crate) mod words;

/// After how many seconds clients may try again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// The content type of every problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// An error, as RFC 9457 has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16)]
    status: StatusCode,
    detail: String,
    /// What is wrong with the body; at most 20, and then how many more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<ErrorDetail>>, nullable = false)]
    errors: Vec<ErrorDetail>,
    /// Whether the connection is closed after this answer.
    #[serde(skip)]
    closes: bool,
}

impl Problem {
    /// A problem without a list of errors.
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            detail: detail.into(),
            errors: Vec::new(),
            closes: false,
        }
    }

    /// The same problem, after which the connection is closed.
    fn closing(mut self) -> Self {
        self.closes = true;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self)
            .expect("cannot fail because strings, numbers and raw JSON can always be written");
        let content_type = HeaderValue::from_static(PROBLEM_JSON);
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

fn as_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::{Value, json, value::RawValue};

    use super::{words::MAX_ERRORS, *};
    use crate::service::jobqueue::client::EnqueueError;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    async fn body(response: Response) -> String {
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_bad_body_is_rendered_as_huma_renders_it() {
        let error =
            ErrorDetail::of_property("delay_seconds", "expected integer", Some(&raw("\"x\"")));
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
        let last = serde_json::to_value(&problem.errors[MAX_ERRORS]).unwrap();
        assert_eq!(last, json!({"message": "and 5 more", "location": "body"}));
    }
}
