//! `GET /health`: the process lives. `GET /ready`: the process can do its work. What that means is
//! decided by whoever makes the [`Readiness`].

use std::{fmt, future::Future, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

/// How long the readiness check may take. A prober would give up by itself later, but it would not
/// learn the reason.
const READINESS_TIMEOUT: Duration = Duration::from_secs(1);

/// `Ok` with warnings when the process can work, `Err` with the reason when it cannot.
type Verdict = Result<Vec<String>, String>;

/// Finds out whether the process can work. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readiness(Arc<dyn Fn() -> BoxFuture<'static, Verdict> + Send + Sync>);

impl Readiness {
    /// Calls `check` for each request.
    ///
    /// The future that it returns must be cancel safe: after a second it is dropped, and the process
    /// counts as not ready.
    pub(crate) fn new<F, Fut>(check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Verdict> + Send + 'static,
    {
        Self(Arc::new(move || check().boxed()))
    }

    /// The same readiness until `stop` is cancelled. After that the process is never ready.
    #[must_use]
    pub(crate) fn until(self, stop: CancellationToken) -> Self {
        Self::new(move || {
            let (this, stop) = (self.clone(), stop.clone());
            async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => Err("shutting down".to_owned()),
                    verdict = this.verdict() => verdict,
                }
            }
        })
    }

    async fn verdict(&self) -> Verdict {
        timeout(READINESS_TIMEOUT, (self.0)())
            .await
            .unwrap_or_else(|_| Err("the readiness check takes too long".to_owned()))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readiness")
    }
}

/// Both routes.
pub(super) fn routes(readiness: Readiness) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(ready))
        .with_state(readiness)
}

/// Whether the process lives
#[utoipa::path(
    get,
    path = "/health",
    responses((
        status = 200,
        description = "It does: OK.",
        body = String,
        content_type = "text/plain",
        example = "OK"
    ))
)]
async fn health() -> &'static str {
    "OK"
}

/// Whether Redis can be used
#[utoipa::path(
    get,
    path = "/ready",
    responses(
        (
            status = 200,
            description = "It can: OK, and a warning on each further line.",
            body = String,
            content_type = "text/plain"
        ),
        (
            status = 503,
            description = "It cannot, or the server is shutting down, and the reason.",
            body = String,
            content_type = "text/plain"
        ),
    )
)]
async fn ready(State(readiness): State<Readiness>) -> Response {
    match readiness.verdict().await {
        Ok(warnings) => {
            let mut lines = vec!["OK".to_owned()];
            lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
            // A script that reads lines would miss a last line without a line end. The text without
            // a warning stays a bare OK, as that of `/health`.
            let end = if warnings.is_empty() { "" } else { "\n" };
            (lines.join("\n") + end).into_response()
        }
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::{Body, to_bytes},
        http::{Request, header},
    };
    use tower::ServiceExt;

    use super::*;

    async fn get(path: &str, readiness: Readiness) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let router = Router::from(routes(readiness));
        let response = router.oneshot(request).await.unwrap();
        let content_type = &response.headers()[header::CONTENT_TYPE];
        assert_eq!(content_type, "text/plain; charset=utf-8");
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn verdict(verdict: Verdict) -> Readiness {
        Readiness::new(move || std::future::ready(verdict.clone()))
    }

    #[tokio::test]
    async fn health_is_ok_whether_ready_or_not() {
        let not_ready = verdict(Err("Redis is not connected".to_owned()));
        let answer = get("/health", not_ready).await;
        assert_eq!(answer, (StatusCode::OK, "OK".to_owned()));
    }

    #[tokio::test]
    async fn ready_lists_its_warnings() {
        let answer = get("/ready", verdict(Ok(vec![]))).await;
        assert_eq!(answer, (StatusCode::OK, "OK".to_owned()));
        let warnings = vec!["maxmemory-policy is allkeys-lru".to_owned(), "b".to_owned()];
        let answer = get("/ready", verdict(Ok(warnings))).await;
        let body = "OK\nwarning: maxmemory-policy is allkeys-lru\nwarning: b\n".to_owned();
        assert_eq!(answer, (StatusCode::OK, body));
    }

    #[tokio::test]
    async fn not_ready_says_why() {
        let answer = get("/ready", verdict(Err("no Redis".to_owned()))).await;
        assert_eq!(
            answer,
            (StatusCode::SERVICE_UNAVAILABLE, "no Redis".to_owned())
        );
    }

    #[tokio::test]
    async fn a_process_that_stops_is_not_ready_and_says_so_at_once() {
        for check in [verdict(Ok(vec![])), Readiness::new(std::future::pending)] {
            let stop = CancellationToken::new();
            let readiness = check.until(stop.clone());
            stop.cancel();
            let answer = get("/ready", readiness).await;
            let shutting_down = "shutting down".to_owned();
            assert_eq!(answer, (StatusCode::SERVICE_UNAVAILABLE, shutting_down));
        }
        let lives = verdict(Ok(vec![])).until(CancellationToken::new());
        assert_eq!(get("/ready", lives).await.0, 200);
    }

    #[tokio::test]
    async fn a_check_that_hangs_is_not_ready() {
        let asked = get("/ready", Readiness::new(std::future::pending));
        let (status, body) = timeout(Duration::from_secs(10), asked).await.unwrap();
        assert_eq!(status, 503);
        assert_eq!(body, "the readiness check takes too long");
    }
}
