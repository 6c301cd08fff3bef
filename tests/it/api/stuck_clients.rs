//! Clients that get stuck on purpose: they do not read their answers, or do not finish their
//! requests. There are more of them than the program may have files. Nothing else is affected: not
//! other clients, not Redis, and not the operator who stops the program.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{PATIENCE, Process, REGISTER, RawClient, Redis, TestApp};

const FILES: usize = 256;
const CLIENTS: usize = 260;

/// How long an event may take on a busy machine when it should happen at once.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How long a client may leave its answers unread.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// What a stuck client does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stuck {
    /// It sends requests again and again, and reads no answer.
    Reading(&'static str),
    /// It sends nothing at all.
    Silent,
    /// It sends only a part of a request's head.
    Head,
    /// It sends only a part of a request's body.
    Body,
}

/// A connection on which nothing more happens.
async fn stuck_client(addr: SocketAddr, stuck: Stuck) -> std::io::Result<RawClient> {
    let mut client = RawClient::with_small_buffers(addr).await?;
    match stuck {
        Stuck::Silent => {}
        Stuck::Head => client.try_send("GET /health HTTP/1.1\r\nhost: x").await?,
        Stuck::Body => {
            let half = "HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"message\":";
            client.try_send(format!("POST {REGISTER} {half}")).await?;
        }
        Stuck::Reading(request) => {
            let requests = format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(500);
            let enough = Duration::from_millis(300);
            while let Ok(written) = timeout(enough, client.try_send(&requests)).await {
                written?;
            }
        }
    }
    Ok(client)
}

/// Opens many such connections. They stay open as long as the caller keeps the result.
async fn attack(addr: SocketAddr, kinds: &'static [Stuck]) -> Vec<RawClient> {
    // Both ends of each connection need a file. This end is in the test's process.
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        clients.spawn(stuck_client(addr, kinds[n % kinds.len()]));
    }
    // The program closes some connections for others before they have sent everything.
    clients.join_all().await.into_iter().flatten().collect()
}

async fn assert_answers(process: &Process, paths: &[&str]) {
    for _ in 0..20 {
        for path in paths {
            let asked = Instant::now();
            let (status, body) = process.get(path).await;
            assert!(asked.elapsed() < AT_ONCE, "{path}: {:?}", asked.elapsed());
            assert_eq!(status, 200, "{path}: {body}");
        }
    }
}

async fn assert_stops_at_once(process: &Process) {
    let asked = Instant::now();
    process.term();
    let status = process.wait_exit(PATIENCE * 4).await;
    let took = asked.elapsed();
    eprintln!("stopped after {took:?}");
    assert_eq!(status.code(), Some(0));
    assert!(took < AT_ONCE, "{took:?}");
}

/// Attacks both ports of `app` while its Redis restarts.
async fn stuck_clients_shut_out_nobody(of_server: &'static [Stuck], of_worker: &'static [Stuck]) {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).files(FILES).start();
    let server = Process::server(&redis).files(FILES).start();
    worker.wait_ready(PATIENCE).await;
    server.wait_ready(PATIENCE).await;
    let app = TestApp::around(redis, server).await;
    let _clients = tokio::join!(
        attack(app.server.http_addr().await, of_server),
        attack(worker.http_addr().await, of_worker),
    );

    assert_answers(&app.server, &["/health", "/ready"]).await;
    assert_answers(&worker, &["/health", "/ready"]).await;
    app.redis.kill();
    for process in [&app.server, &worker] {
        process.wait_not_ready(PATIENCE).await;
    }
    app.redis.up_empty().await;
    for process in [&app.server, &worker] {
        process.wait_ready(AT_ONCE * 2).await;
    }
    for n in 0..10 {
        let asked = Instant::now();
        app.registered(json!({"message": n.to_string(), "delay": "0s"}))
            .await;
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    }
    worker.wait_for_lines(10, AT_ONCE * 2).await;
    assert_eq!(worker.count_log("cannot accept"), 0);
    assert_eq!(app.server.count_log("cannot accept"), 0);
    assert_stops_at_once(&app.server).await;
    assert_stops_at_once(&worker).await;
}

const HEALTH: Stuck = Stuck::Reading("GET /health");
const DESCRIPTION: Stuck = Stuck::Reading("GET /openapi.json");

#[tokio::test]
async fn clients_that_never_read_shut_out_nobody() {
    stuck_clients_shut_out_nobody(&[DESCRIPTION], &[HEALTH]).await;
}

#[tokio::test]
async fn clients_that_never_finish_their_headers_shut_out_nobody() {
    stuck_clients_shut_out_nobody(&[Stuck::Head], &[Stuck::Head, Stuck::Silent]).await;
}

#[tokio::test]
async fn clients_that_never_finish_their_bodies_shut_out_nobody() {
    stuck_clients_shut_out_nobody(&[Stuck::Body], &[Stuck::Body]).await;
}

#[tokio::test]
async fn stuck_clients_of_every_kind_shut_out_nobody() {
    const ALL: &[Stuck] = &[
        HEALTH,
        Stuck::Head,
        DESCRIPTION,
        Stuck::Body,
        Stuck::Reading("HEAD /ready"),
        Stuck::Silent,
        Stuck::Reading("PUT /nothing"),
    ];
    stuck_clients_shut_out_nobody(ALL, ALL).await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_after_five_seconds() {
    let app = TestApp::start().await;
    let addr = app.server.http_addr().await;
    let began = Instant::now();
    let mut client = stuck_client(addr, DESCRIPTION).await.unwrap();
    client.closed_while_sending().await;
    let lived = began.elapsed();
    eprintln!("closed after {lived:?}");
    assert!(lived > READ_LIMIT - AT_ONCE, "{lived:?}");
    assert!(lived < READ_LIMIT + AT_ONCE * 2, "{lived:?}");
    drop(client.rest().await);
    app.registered(json!({"message": "afterwards"})).await;
}

#[tokio::test]
async fn no_stuck_client_delays_the_stop() {
    let redis = Redis::start().await;
    for stuck in [DESCRIPTION, Stuck::Head, Stuck::Body, Stuck::Silent] {
        let server = Process::server(&redis)
            .env("APP__SERVER__REQUEST_TIMEOUT", "20s")
            .start();
        server.wait_ready(PATIENCE).await;
        let _client = stuck_client(server.http_addr().await, stuck).await.unwrap();
        assert_stops_at_once(&server).await;
    }
}

/// A client that sends its body slowly is not a stuck client.
#[tokio::test]
async fn a_body_that_comes_slowly_is_still_answered_after_the_signal() {
    let redis = Redis::start().await;
    let server = Process::server(&redis)
        .env("APP__SERVER__REQUEST_TIMEOUT", "20s")
        .start();
    server.wait_ready(PATIENCE).await;
    let addr = server.http_addr().await;
    let mut client = RawClient::connect(addr).await;
    let body = r#"{"message": "slow"}"#;
    let head = format!(
        "POST {REGISTER} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    assert_eq!(client.ask(head).await.status, 100);
    server.term();
    for byte in body.bytes() {
        client.send([byte]).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.answer().await.status, 201);
    assert_eq!(client.rest().await, b"");
    assert_eq!(server.wait_exit(PATIENCE).await.code(), Some(0));
}
