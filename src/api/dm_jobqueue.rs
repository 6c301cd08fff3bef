//! `POST /api/dm-jobqueue/register`: reads the request, lets the usecase register the job, and
//! answers.

use std::time::{Duration, Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Serialize;

use super::problem::{Problem, words};
use super::request::{body, object::Object};
use crate::{
    config::ServerConfig,
    service::jobqueue::client::EnqueueError,
    throttle::Throttle,
    usecase::api::{
        dm_jobqueue::DmJobqueueUsecase,
        registration::{RegisterInput, Registration},
    },
};

/// The properties of a body. They have the names of the fields of [`RegisterInput`].
pub(super) const PROPERTIES: [&str; 4] = ["message", "delay_seconds", "delay", "max_retry"];

/// The route. An answer takes at most the request timeout, the reading of the body included.
pub(super) fn routes(usecase: DmJobqueueUsecase, settings: &ServerConfig) -> Router {
    let api = Api {
        usecase,
        request_timeout: settings.request_timeout,
        body_timeout: settings.http.read_timeout.min(settings.request_timeout),
        failures: Throttle::new(1, |why, suppressed| {
            let why = why.map_or("several reasons", String::as_str);
            tracing::warn!(suppressed, "cannot register jobs, as before: {why}");
        }),
    };
    Router::new()
        .route("/api/dm-jobqueue/register", post(register))
        .with_state(api)
}

#[derive(Debug, Clone)]
struct Api {
    usecase: DmJobqueueUsecase,
    request_timeout: Duration,
    body_timeout: Duration,
    /// Limits the log lines about failures, by their text.
    failures: Throttle<String>,
}

#[derive(Debug, Serialize)]
struct Registered {
    job_id: String,
    status: &'static str,
}

async fn register(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let began = tokio::time::Instant::now();
    let deadline = began + api.request_timeout;
    let text = body::read(request, began + api.body_timeout).await?;
    let registration = decode(&text)?;
    let time_left = deadline.saturating_duration_since(tokio::time::Instant::now());
    let job_id = api
        .usecase
        .register(registration, time_left)
        .await
        .inspect_err(|why| api.log_failure(why))?;
    Ok(created(job_id))
}

impl Api {
    /// Logs a failure, but not a lost connection: the client of the queue logs each outage once.
    fn log_failure(&self, why: &EnqueueError) {
        if !matches!(why, EnqueueError::NotConnected)
            && let Some(suppressed) = self.failures.admit(why.to_string(), Instant::now())
        {
            tracing::warn!(suppressed, "cannot register a job: {why}");
        }
    }
}

/// Decodes a body. The errors list the values of a wrong type together with those that break a
/// rule.
fn decode(text: &str) -> Result<Registration, Problem> {
    let mut object = Object::parse(text, &PROPERTIES)?;
    let input = RegisterInput {
        message: object.string("message")?,
        delay_seconds: object.integer("delay_seconds"),
        delay: object.string("delay")?,
        max_retry: object.integer("max_retry"),
    };
    let checked = input.check().map_err(|violations| {
        for violation in violations {
            object.add_error(violation.field, words::expected(&violation.rule));
        }
    });
    let errors = object.into_errors();
    match checked {
        Ok(registration) if errors.is_empty() => Ok(registration),
        _ => Err(Problem::invalid(errors)),
    }
}

fn created(job_id: String) -> Response {
    let body = serde_json::to_vec(&Registered {
        job_id,
        status: "registered",
    })
    .expect("cannot fail because strings can always be written as JSON");
    let content_type = HeaderValue::from_static("application/json");
    (
        StatusCode::CREATED,
        [(header::CONTENT_TYPE, content_type)],
        body,
    )
        .into_response()
}

#[cfg(test)]
mod tests;
