//! `POST /api/dm-jobqueue/register`: reads the request, lets the usecase register the job, and
//! answers.

use std::time::{Duration, Instant};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::{PROBLEM_JSON, Problem};
use super::request::{body, object};
use crate::{
    config::ServerConfig,
    service::jobqueue::client::EnqueueError,
    throttle::Throttle,
    usecase::api::{dm_jobqueue::DmJobqueueUsecase, registration::RegisterInput},
};

/// The route. An answer takes at most the request timeout, the reading of the body included.
pub(super) fn routes(usecase: DmJobqueueUsecase, settings: &ServerConfig) -> OpenApiRouter {
    let api = Api {
        usecase,
        request_timeout: settings.request_timeout,
        body_timeout: settings.http.read_timeout.min(settings.request_timeout),
        failures: Throttle::new(1, |why, suppressed| {
            let why = why.map_or("several reasons", String::as_str);
            tracing::warn!(suppressed, "cannot register jobs, as before: {why}");
        }),
    };
    OpenApiRouter::new()
        .routes(routes!(register))
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

#[derive(Debug, Serialize, ToSchema)]
struct Registered {
    #[schema(format = "uuid")]
    job_id: String,
    #[schema(inline)]
    status: Status,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    Registered,
}

/// Registers a job that prints a line when its delay is over
///
/// An empty body is a job with all defaults. A request without a content type counts as JSON, and
/// so does a type of application/ that ends with +json. The answer comes within a second, unless
/// the server is configured otherwise. A registration is never repeated by the server.
#[utoipa::path(
    post,
    path = "/api/dm-jobqueue/register",
    operation_id = "register-demo-job",
    tag = "jobqueue-demo",
    request_body = RegisterInput,
    responses(
        (status = 201, description = "Registered: Redis has the job.", body = Registered),
        (
            status = 503,
            description = "Redis cannot take the job. When detail says that the outcome is unknown, \
                the job may have been registered.",
            body = Problem,
            content_type = PROBLEM_JSON,
            headers(("Retry-After" = u32, description = "Seconds after which to try again."))
        ),
    )
)]
async fn register(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let began = tokio::time::Instant::now();
    let deadline = began + api.request_timeout;
    let text = body::read(request, began + api.body_timeout).await?;
    let registration = object::decode(&text, RegisterInput::check)?;
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

fn created(job_id: String) -> Response {
    let body = serde_json::to_vec(&Registered {
        job_id,
        status: Status::Registered,
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
