//! Which host a request is for: one that does not say so, or says it twice, is refused by
//! both programs wherever it goes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, Process, Redis, TestApp};

/// Sends what is left open in `request` by these header lines, and reads to the end.
async fn exchange(addr: SocketAddr, request: &str, version: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let text = format!("{request} HTTP/{version}\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    timeout(PATIENCE, reading).await.expect(&text).unwrap();
    answer
}

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
                let answer = exchange(addr, request, version, headers).await;
                let case = format!("{request} {version} {headers:?}: {answer}");
                let (head, body) = answer.split_once("\r\n\r\n").expect(&case);
                assert!(head.starts_with(&format!("HTTP/{version} 400 ")), "{case}");
                let problem = "content-type: application/problem+json";
                assert!(head.contains(problem), "{case}");
                assert_eq!(body.is_empty(), request.starts_with("HEAD"), "{case}");
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
            let answer = exchange(addr, "GET /health", version, headers).await;
            let case = format!("{version} {headers:?}: {answer}");
            assert!(
                answer.starts_with(&format!("HTTP/{version} 200 ")),
                "{case}"
            );
        }
    }
}
