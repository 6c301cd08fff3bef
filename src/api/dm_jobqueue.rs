//! `POST /api/dm-jobqueue/register`, and a path like it for each other type of job: reads the request,
//! lets the usecase register the job, and answers.
//!
//! The routes differ in their bodies. A body is a struct in `usecase::api`, which becomes a job. The
//! rest is the same for all of them: the handler, what it answers, and the description of both.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;
use utoipa::{
    ToSchema,
    openapi::{
        Content, HttpMethod, Paths, Ref, RefOr, Required, Response as Answer, Schema,
        path::Operation, request_body::RequestBody,
    },
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::{
    openapi::TAG,
    problem::Problem,
    request::{body, object},
};
use crate::{
    config::ServerConfig,
    service::jobqueue::job::Job,
    usecase::api::{
        dm_jobqueue::DmJobqueueUsecase, registration::RegisterInput, violation::Violation,
    },
};

/// The routes. Each has its path, the name that generators of clients give it, and what it does.
///
/// An answer takes at most the request timeout, the reading of the body included.
pub(super) fn routes(usecase: DmJobqueueUsecase, settings: &ServerConfig) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(route::<RegisterInput>(
            "/api/dm-jobqueue/register",
            "register-demo-job",
            "Registers a job that prints a line when its delay is over",
        ))
        .with_state(Api {
            usecase,
            request_timeout: settings.request_timeout,
            body_timeout: settings.http.read_timeout.min(settings.request_timeout),
        })
}

#[derive(Debug, Clone)]
struct Api {
    usecase: DmJobqueueUsecase,
    request_timeout: Duration,
    body_timeout: Duration,
}

/// A route whose body is an `Input`, and its description.
fn route<Input>(path: &str, operation_id: &str, summary: &str) -> UtoipaMethodRouter<Api>
where
    Input: ToSchema + DeserializeOwned + TryInto<Job, Error = Vec<Violation>> + 'static,
{
    let mut schemas = vec![of::<Input>(), of::<Registered>()];
    Input::schemas(&mut schemas);
    let is_body_required = matches!(
        Input::schema(),
        RefOr::T(Schema::Object(object)) if !object.required.is_empty()
    );
    let json = |name| Content::new(Some(Ref::from_schema_name(name)));
    let registered = Answer::builder()
        .description("Registered: Redis has the job.")
        .content("application/json", json(Registered::name()));
    let operation = Operation::builder()
        .tag(TAG)
        .operation_id(Some(operation_id))
        .summary(Some(summary))
        .description(Some(description(is_body_required)))
        .request_body(Some(
            RequestBody::builder()
                .content("application/json", json(Input::name()))
                .required(is_body_required.then_some(Required::True))
                .build(),
        ))
        .response("201", registered);
    let mut paths = Paths::new();
    paths.add_path_operation(path, vec![HttpMethod::Post], operation);
    (schemas, paths, post(register::<Input>))
}

/// The name of a schema, and the schema.
fn of<T: ToSchema>() -> (String, RefOr<Schema>) {
    (T::name().into_owned(), T::schema())
}

fn description(is_body_required: bool) -> String {
    let empty = match is_body_required {
        true => "",
        false => "An empty body is a job with all defaults. ",
    };
    format!(
        "{empty}A request without a content type counts as JSON, and so does a type of \
         application/ that ends with +json. The answer comes within a second, unless the server is \
         configured otherwise. A registration is never repeated by the server."
    )
}

async fn register<Input>(State(api): State<Api>, request: Request) -> Result<Response, Problem>
where
    Input: DeserializeOwned + TryInto<Job, Error = Vec<Violation>>,
{
    let began = Instant::now();
    let deadline = began + api.request_timeout;
    let text = body::read(request, began + api.body_timeout).await?;
    let job = object::decode(&text, Input::try_into)?;
    let time_left = deadline.saturating_duration_since(Instant::now());
    let job_id = api.usecase.register(&job, time_left).await?;
    Ok(created(job_id))
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
mod another_type;
#[cfg(test)]
mod tests;
