//! Which paths each program answers, and what happens to a request that matches none of them.

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
    response::IntoResponse,
};
use utoipa_axum::router::OpenApiRouter;

use super::{cross_site, dm_jobqueue, health, health::Readiness, openapi, problem::Problem};
use crate::config::{CorsConfig, ServerConfig};
use crate::usecase::api::dm_jobqueue::DmJobqueueUsecase;

/// The routes of the API server: registration, health, readiness, and their description.
///
/// A registration is answered within the request timeout, which begins after the headers of its
/// request.
pub(crate) fn server_router(
    usecase: DmJobqueueUsecase,
    settings: &ServerConfig,
    cors: &CorsConfig,
    readiness: Readiness,
) -> Router {
    let routes = OpenApiRouter::new()
        .merge(dm_jobqueue::routes(usecase, settings))
        .merge(health::routes(readiness));
    cross_site::guard(with_fallbacks(openapi::described(routes)), cors)
}

/// The routes of a worker process: health and readiness.
pub(crate) fn worker_router(cors: &CorsConfig, readiness: Readiness) -> Router {
    cross_site::guard(with_fallbacks(health::routes(readiness).into()), cors)
}

fn with_fallbacks(router: Router) -> Router {
    router
        .fallback(async |uri: Uri| Problem::nothing_at(uri.path()))
        .method_not_allowed_fallback(async |method: Method| match method {
            // The router adds the Allow header, which names the methods.
            Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
            other => Problem::method_not_allowed(&other).into_response(),
        })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use axum::{
        body::{Body, to_bytes},
        http::{HeaderMap, Request, header},
    };
    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::Instant,
    };
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use super::*;
    use crate::api::http::{listen, serve};
    use crate::api::request::body::MAX_BODY_LEN;
    use crate::{config::Config, service::jobqueue::client::Client};

    fn config() -> Config {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
        Config::from_sources("develop", dir.as_ref(), &BTreeMap::new()).unwrap()
    }

    fn ready() -> Readiness {
        Readiness::new(async || Ok(Vec::new()))
    }

    /// A server whose client of Redis is never run, and so never connects.
    fn server() -> Router {
        let config = config();
        let client = Client::new(&config.redis, &config.jobqueue.worker.queue).unwrap();
        let usecase = DmJobqueueUsecase::new(client);
        server_router(usecase, &config.server, &config.cors, ready())
    }

    async fn send(router: Router, method: &str, path: &str) -> (StatusCode, HeaderMap, Value) {
        let request = Request::builder().method(method).uri(path);
        let response = router
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (
            parts.status,
            parts.headers,
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    #[tokio::test]
    async fn an_unknown_path_is_a_problem_404() {
        for path in ["/", "/api/dm-jobqueue", "/health/", "/%ff%00", "*"] {
            let (status, headers, body) = send(server(), "POST", path).await;
            assert_eq!(status, 404, "{path}");
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(body["title"], "Not Found");
            assert_eq!(body["status"], 404);
        }
    }

    #[tokio::test]
    async fn a_wrong_method_is_a_problem_405_that_says_which_is_right() {
        for (method, path, allow) in [
            ("GET", "/api/dm-jobqueue/register", "POST,OPTIONS"),
            ("BREW", "/api/dm-jobqueue/register", "POST,OPTIONS"),
            ("POST", "/health", "GET,HEAD,OPTIONS"),
            ("DELETE", "/ready", "GET,HEAD,OPTIONS"),
        ] {
            let (status, headers, body) = send(server(), method, path).await;
            assert_eq!(status, 405, "{method} {path}");
            assert_eq!(headers[header::ALLOW], allow);
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
            assert_eq!(
                body,
                json!({
                    "title": "Method Not Allowed",
                    "status": 405,
                    "detail": format!("method {method} is not allowed"),
                })
            );
        }
    }

    #[tokio::test]
    async fn a_worker_registers_nothing() {
        let path = "/api/dm-jobqueue/register";
        let (status, ..) = send(worker_router(&config().cors, ready()), "POST", path).await;
        assert_eq!(status, 404);
        let (status, ..) = send(server(), "POST", path).await;
        assert_eq!(status, 503);
    }

    /// Sends `request` over a socket and reads until the server closes the connection.
    async fn exchange(request: &str) -> String {
        let listener = listen::bind("127.0.0.1", 0, "server").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let _stop_at_the_end = stop.clone().drop_guard();
        let limits = serve::Limits {
            connections: 1,
            http: config().server.http,
            drain_delay: Duration::ZERO,
            grace: Duration::ZERO,
        };
        tokio::spawn(serve::serve(listener, server(), limits, stop));

        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let reading = stream.read_to_string(&mut answer);
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, reading).await.unwrap().unwrap();
        answer
    }

    fn register_head(headers: &str) -> String {
        format!("POST /api/dm-jobqueue/register HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
    }

    #[tokio::test]
    async fn a_client_that_sends_too_much_gets_its_answer() {
        let len = MAX_BODY_LEN * 15;
        let head = register_head(&format!("content-length: {len}\r\n"));
        let answer = exchange(&(head + &"x".repeat(len))).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("limit=65536 bytes"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_asks_whether_to_send_too_much_is_told_not_to() {
        let head = register_head("content-length: 65537\r\nexpect: 100-continue\r\n");
        let answer = exchange(&head).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_send_its_body_is_answered_in_time() {
        let started = Instant::now();
        let answer = exchange(&register_head("content-length: 2\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn nothing_on_the_wire_is_a_server_error_of_its_own() {
        let close = "connection: close\r\n";
        for (request, status) in [
            (
                register_head(&format!("{close}content-length: 2\r\n")) + "{}",
                503,
            ),
            (register_head(close), 503),
            (format!("OPTIONS * HTTP/1.1\r\nhost: x\r\n{close}\r\n"), 404),
            (
                format!("CONNECT x:1 HTTP/1.1\r\nhost: x\r\n{close}\r\n"),
                404,
            ),
            ("GET\r\n\r\n".to_owned(), 400),
            (register_head("content-length: x\r\n"), 400),
            (
                register_head("transfer-encoding: chunked\r\n") + "zz\r\n",
                400,
            ),
            (
                register_head(&format!("x: {}\r\n", "y".repeat(2_000_000))),
                431,
            ),
        ] {
            let answer = exchange(&request).await;
            let start = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&start), "{request:.60}: {answer}");
        }
    }
}
