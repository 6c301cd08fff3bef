//! The API as a client sees it: a Redis, one `server` process, and real HTTP.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Body, RequestBuilder, StatusCode};
use serde_json::Value;

use super::process::http_client;
use super::{PATIENCE, Process, ProcessBuilder, Redis};

/// The reply to a request: its status, its body (a string when it is not JSON) and its headers.
pub(crate) type Reply = (StatusCode, Value, HeaderMap);

/// One API server on a Redis of its own.
pub(crate) struct TestApp {
    // The server is the first field, because fields are dropped in order. A server that outlives
    // its Redis would fill the output of a failing test with lines about the outage.
    pub(crate) server: Process,
    pub(crate) redis: Redis,
    http: reqwest::Client,
    register_url: String,
}

impl TestApp {
    /// Starts a Redis and a server, and waits until the server is ready.
    pub(crate) async fn start() -> Self {
        let app = Self::with(Redis::start().await, &[]).await;
        app.server.wait_ready(PATIENCE).await;
        app
    }

    /// Starts a server with these variables on this Redis, and waits until the server listens. The
    /// Redis may be down.
    pub(crate) async fn with(redis: Redis, env: &[(&str, &str)]) -> Self {
        let server = Process::server(&redis).envs(env).start();
        Self::around(redis, server).await
    }

    /// Puts together a Redis and a server that the test has started in its own way.
    pub(crate) async fn around(redis: Redis, server: Process) -> Self {
        let addr = server.http_addr().await;
        Self {
            server,
            redis,
            http: http_client(),
            register_url: format!("http://{addr}/api/dm-jobqueue/register"),
        }
    }

    /// The builder of a worker on the same Redis.
    pub(crate) fn worker(&self) -> ProcessBuilder {
        Process::jobqueue(&self.redis)
    }

    /// Registers a job: `app.register(json!({"delay": "1s"})).await`.
    pub(crate) async fn register(&self, body: Value) -> Reply {
        self.register_raw(body.to_string(), Some("application/json"))
            .await
    }

    /// Sends any body to the register endpoint, with any content type or none.
    pub(crate) async fn register_raw(
        &self,
        body: impl Into<Body>,
        content_type: Option<&str>,
    ) -> Reply {
        let mut request = self.http.post(&self.register_url).body(body);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        self.send(request).await
    }

    /// Registers a job, asserts that it was accepted, and returns its id.
    pub(crate) async fn registered(&self, body: Value) -> String {
        let (status, reply, _) = self.register(body).await;
        assert_eq!(status, StatusCode::CREATED, "{reply}");
        assert_eq!(reply["status"], "registered", "{reply}");
        reply["job_id"].as_str().expect("a job_id").to_owned()
    }

    /// Sends a request that the test has built.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Reply {
        let response = request.send().await;
        let response = response.unwrap_or_else(|error| panic!("no answer: {error:?}"));
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, body, headers)
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn register_url(&self) -> &str {
        &self.register_url
    }

    /// Waits until the queue is empty.
    pub(crate) async fn drained(&self, deadline: Duration) {
        self.redis.drained(deadline).await;
    }
}
