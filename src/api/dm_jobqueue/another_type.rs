//! A route for a second type of job, whose body has a property that is required. It is only here. It
//! shows that such a route needs no more than its struct, and is described rightly.

use axum::{
    Router,
    body::{Body, to_bytes},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    api::openapi, config::Config, service::jobqueue::client::Client,
    usecase::api::violation::within,
};

const PATH: &str = "/another";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Another {
    to: String,
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<i64>,
}

impl TryFrom<Another> for Job {
    type Error = Vec<Violation>;

    fn try_from(input: Another) -> Result<Self, Vec<Violation>> {
        let priority: Result<u8, _> = within("priority", input.priority.unwrap_or(0), 0..=9);
        let payload = json!({ "to": input.to, "priority": priority.map_err(|it| vec![it])? });
        Ok(Self::new("another", &payload).unwrap())
    }
}

/// A server with the route, whose client of Redis never connects.
fn server() -> Router {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let config = Config::from_sources("develop", dir.as_ref(), &[].into()).unwrap();
    let client = Client::new(&config.redis, &config.jobqueue.worker.queue).unwrap();
    let usecase = DmJobqueueUsecase::new(client);
    let another = OpenApiRouter::new()
        .routes(route::<Another>(PATH, "another", "Another type of job"))
        .with_state(Api {
            usecase: usecase.clone(),
            request_timeout: Duration::from_secs(1),
            body_timeout: Duration::from_secs(1),
        });
    openapi::described(routes(usecase, &config.server).merge(another))
}

async fn answer(request: axum::http::request::Builder, body: &str) -> (u16, Value) {
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = server().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_body_with_a_required_property_is_described_as_required() {
    let (_, description) = answer(Request::get("/openapi.json"), "").await;
    let operation = |path: &str| description["paths"][path]["post"].clone();
    let (another, demo) = (operation(PATH), operation("/api/dm-jobqueue/register"));
    assert_eq!(another["requestBody"]["required"], true);
    assert_eq!(demo["requestBody"].get("required"), None);
    let may_be_empty = |operation: &Value| {
        let text = operation["description"].as_str().unwrap();
        text.starts_with("An empty body is")
    };
    assert!(may_be_empty(&demo) && !may_be_empty(&another), "{another}");
    let schema = &description["components"]["schemas"]["Another"];
    assert_eq!(schema["required"], json!(["to"]));
    let statuses = |operation: &Value| -> Vec<String> {
        let responses = operation["responses"].as_object().unwrap();
        responses.keys().cloned().collect()
    };
    assert_eq!(statuses(&another), statuses(&demo));
}

#[tokio::test]
async fn a_required_property_that_is_missing_is_422_and_a_good_body_reaches_the_queue() {
    let missing = ("body.to", "expected this property to be present");
    for (body, location, message) in [
        ("", missing.0, missing.1),
        ("{}", missing.0, missing.1),
        (r#"{"to": null}"#, missing.0, missing.1),
        (r#"{"to": 1}"#, "body.to", "expected string"),
        (
            r#"{"to": "a", "priority": 10}"#,
            "body.priority",
            "expected number <= 9",
        ),
        (
            r#"{"to": "a", "priority": -1}"#,
            "body.priority",
            "expected number >= 0",
        ),
    ] {
        let (status, problem) = answer(Request::post(PATH), body).await;
        assert_eq!(status, 422, "{body}: {problem}");
        let error = &problem["errors"][0];
        assert_eq!(
            (&error["location"], &error["message"]),
            (&json!(location), &json!(message))
        );
    }
    for body in [r#"{"to": "a"}"#, r#"{"to": "a", "priority": 9.0}"#] {
        let (status, problem) = answer(Request::post(PATH), body).await;
        // Redis is away, and this is the first thing that asks for it.
        assert_eq!(status, 503, "{body}: {problem}");
    }
}
