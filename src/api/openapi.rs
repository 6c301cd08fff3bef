//! `GET /openapi.json`: the API's description, for clients and for generators of clients.
//!
//! utoipa makes it from the routes and from the types of their bodies. Here it gets what no route
//! says: its head, the answers that many routes share ([`answers`]), and the little that utoipa has
//! no words for. `tests/it/api/openapi.rs` compares all of it with a running server.

mod answers;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderValue, header},
    response::IntoResponse,
};
use serde_json::json;
use utoipa::openapi::{Info, OpenApi, RefOr, Schema, schema::Object, tag::Tag};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The group of all routes that register jobs.
pub(super) const TAG: &str = "jobqueue-demo";

/// The routes of `routes`, and one that answers with their description.
pub(super) fn described(routes: OpenApiRouter) -> Router {
    let (router, mut description) = routes.split_for_parts();
    let (own, described) = OpenApiRouter::new()
        .routes(routes!(describe))
        .split_for_parts();
    description.merge(described);
    complete(&mut description);
    let text = description
        .to_pretty_json()
        .expect("cannot fail because a description has only texts as keys");
    router.merge(own.with_state(Bytes::from(text)))
}

/// This description
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    responses((
        status = 200,
        description = "OpenAPI 3.1.",
        body = Object,
        content_type = "application/json"
    ))
)]
async fn describe(State(text): State<Bytes>) -> impl IntoResponse {
    let content_type = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, content_type)], text)
}

fn complete(description: &mut OpenApi) {
    description.info = Info::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    description.info.extensions =
        answers::also([("summary", json!("Registers jobs, which workers run."))]);
    description.info.description = Some(
        "Every error has a body of type application/problem+json (RFC 9457), except those of a \
        request that is no HTTP or too large for it (400, 414, 431), which have none and close the \
        connection. An unknown path is a 404. HEAD is answered wherever GET is, and OPTIONS \
        everywhere, with 204 and the methods in Allow. Pages of which other sites may use this API \
        is a setting of the server (CORS)."
            .to_owned(),
    );
    let mut tag = Tag::new(TAG);
    tag.description = Some("A route for each type of job.".to_owned());
    description.tags = Some(vec![tag]);
    let registration = schema(description, "Registration");
    registration.extensions = answers::also([("not", delay_and_delay_seconds())]);
    answers::add(description);
}

/// What a registration may not have: each of these two properties with a value. utoipa has no
/// words for such a rule.
fn delay_and_delay_seconds() -> serde_json::Value {
    json!({
        "properties": { "delay": { "type": "string" }, "delay_seconds": { "type": "integer" } },
        "required": ["delay", "delay_seconds"],
    })
}

/// The schema of the struct `name`.
fn schema<'a>(description: &'a mut OpenApi, name: &str) -> &'a mut Object {
    let components = description.components.get_or_insert_default();
    match components.schemas.get_mut(name) {
        Some(RefOr::T(Schema::Object(object))) => object,
        _ => unreachable!("cannot happen because a route has a body of this struct"),
    }
}

#[cfg(test)]
mod fields;
#[cfg(test)]
mod tests;
