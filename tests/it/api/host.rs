//! The host that a request is for. Both programs refuse a request that names no host or names it
//! twice, on every path.

use crate::support::{Process, Redis, TestApp, exchange};

#[tokio::test]
async fn a_request_without_one_valid_host_is_refused_on_every_route() {
    let app = TestApp::start().await;
    let worker = Process::jobqueue(&app.redis).start();
    let requests = [
        "POST /api/dm-jobqueue/register",
        "GET /health",
        "HEAD /ready",
        "GET http://x/health",
        "PUT /openapi.json",
        "GET /nothing",
        "OPTIONS *",
        "CONNECT x:1",
    ];
    let refused = [
        ("1.1", ""),
        ("1.1", "host: x\r\nhost: x\r\n"),
        ("1.1", "host: x\r\nHOST: y\r\n"),
        ("1.1", "host: a b\r\n"),
        ("1.1", "host: x/y\r\n"),
        ("1.1", "host: x:port\r\n"),
        ("1.1", "host: user@x\r\n"),
        ("1.0", "host: x\r\nhost: y\r\n"),
        ("1.0", "host: a b\r\n"),
    ];
    for process in [&app.server, &worker] {
        let addr = process.http_addr().await;
        for request in requests {
            for (version, headers) in refused {
                let text = format!("{request} HTTP/{version}\r\n{headers}\r\n");
                let answer = exchange(addr, &text).await.expect(&text);
                let case = format!("{text:?}: {answer:?}");
                let status = format!("http/{version} 400 ");
                assert!(answer.head().starts_with(&status), "{case}");
                let content_type = answer.header("content-type");
                assert_eq!(content_type, Some("application/problem+json"), "{case}");
                let has_no_body = request.starts_with("HEAD");
                assert_eq!(answer.body.is_empty(), has_no_body, "{case}");
            }
        }
    }
    assert_eq!(app.redis.xlen().await, 0);
}

#[tokio::test]
async fn a_request_for_one_host_is_answered_and_so_is_an_old_one_for_none() {
    let redis = Redis::start().await;
    for process in [
        Process::server(&redis).start(),
        Process::jobqueue(&redis).start(),
    ] {
        let addr = process.http_addr().await;
        for (version, headers) in [
            ("1.0", ""),
            ("1.0", "host: x\r\n"),
            ("1.1", "connection: close\r\nHost: x:80\r\n"),
            ("1.1", "connection: close\r\nhost:\r\n"),
            ("1.1", "connection: close\r\nhost: [::1]:8080\r\n"),
        ] {
            let text = format!("GET /health HTTP/{version}\r\n{headers}\r\n");
            let answer = exchange(addr, &text).await.expect(&text);
            let status = format!("http/{version} 200 ");
            assert!(answer.head().starts_with(&status), "{text:?}: {answer:?}");
        }
    }
}
