//! The API server's end: whoever got a 201 has a job, and whoever was being served is
//! answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{Direction, PATIENCE, Process, Redis, TestApp, eventually};

/// The ids of the jobs in the stream.
async fn stored(redis: &Redis) -> BTreeSet<String> {
    let jobs = redis.entries().await.into_iter().map(|(_, fields)| {
        let job: Value = serde_json::from_slice(&fields["job"]).unwrap();
        job["id"].as_str().unwrap().to_owned()
    });
    jobs.collect()
}

fn id(reply: &Value) -> String {
    reply["job_id"].as_str().unwrap().to_owned()
}

async fn refuses(addr: std::net::SocketAddr) {
    eventually("it takes no connection any more", PATIENCE, async || {
        TcpStream::connect(addr).await.err()
    })
    .await;
}

#[tokio::test]
async fn an_idle_server_exits_at_once() {
    for signal in [Process::term, Process::int] {
        let app = TestApp::start().await;
        let asked = Instant::now();
        signal(&app.server);
        let status = app.server.wait_exit(PATIENCE).await;
        let took = asked.elapsed();
        eprintln!("{took:?}");
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[tokio::test]
async fn an_idle_server_exits_at_once_while_it_tries_to_connect() {
    let redis = Redis::start().await;
    redis.freeze();
    let server = Process::server(&redis)
        .env("APP__CACHE_SERVER__REDIS__JOBQUEUE__DIAL_TIMEOUT", "10s")
        .start();
    server.wait_not_ready(PATIENCE).await;
    let asked = Instant::now();
    server.term();
    let status = server.wait_exit(PATIENCE).await;
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn every_201_is_stored_when_the_server_is_stopped_under_load() {
    let app = TestApp::start().await;
    let mut clients = JoinSet::new();
    for client in 0..16 {
        let request = app.http().post(app.register_url());
        clients.spawn(async move {
            let (mut accepted, mut n) = (Vec::new(), 0);
            loop {
                let body = json!({"message": format!("{client}/{n}")}).to_string();
                let sent = request.try_clone().unwrap().body(body).send().await;
                // What meets the closed door, or an idle connection as it is closed.
                let Ok(reply) = sent else { return accepted };
                assert_eq!(reply.status(), 201);
                let reply = reply.text().await.expect("a whole answer");
                accepted.push(id(&serde_json::from_str(&reply).unwrap()));
                n += 1;
            }
        });
    }
    eventually("there is load", PATIENCE, async || {
        (app.redis.xlen().await > 500).then_some(())
    })
    .await;
    app.server.term();
    let status = app.server.wait_exit(PATIENCE).await;
    assert_eq!(status.code(), Some(0));
    let accepted: BTreeSet<String> = clients.join_all().await.into_iter().flatten().collect();
    let stored = stored(&app.redis).await;
    eprintln!("{} accepted, {} stored", accepted.len(), stored.len());
    let lost: Vec<_> = accepted.difference(&stored).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[tokio::test]
async fn requests_in_progress_are_answered() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let server = Process::server(&redis)
        .redis_addr(proxy.addr())
        .env("APP__SERVER__REQUEST_TIMEOUT", "10s")
        .env("APP__CACHE_SERVER__REDIS__JOBQUEUE__READ_TIMEOUT", "10s")
        .start();
    server.wait_ready(PATIENCE).await;
    let app = TestApp::around(redis, server).await;
    proxy.set_stall(Direction::UpstreamToClient);
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let request = app.http().post(app.register_url()).body("{}");
        requests.spawn(async move { request.send().await.unwrap().error_for_status() });
    }
    eventually("all of them wait for Redis", PATIENCE, async || {
        (app.redis.xlen().await == 20).then_some(())
    })
    .await;
    let addr = app.server.http_addr().await;
    app.server.term();
    refuses(addr).await;
    proxy.clear_stall(Direction::UpstreamToClient);
    let mut answered = BTreeSet::new();
    for reply in requests.join_all().await {
        let reply = reply.unwrap().text().await.unwrap();
        answered.insert(id(&serde_json::from_str(&reply).unwrap()));
    }
    assert_eq!(answered, stored(&app.redis).await);
    assert_eq!(app.server.wait_exit(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn a_request_whose_body_is_on_its_way_is_answered() {
    let app = TestApp::start().await;
    let addr = app.server.http_addr().await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    let head = "POST /api/dm-jobqueue/register HTTP/1.1\r\nhost: x\r\n\
        content-type: application/json\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    // The answer to `expect` says that the request is being served.
    let mut bytes = vec![0; 1024];
    let count = client.read(&mut bytes).await.unwrap();
    assert!(bytes[..count].starts_with(b"HTTP/1.1 100"), "{bytes:?}");
    app.server.term();
    refuses(addr).await;
    client.write_all(b"{}").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(app.redis.xlen().await, 1);
    assert_eq!(app.server.wait_exit(PATIENCE).await.code(), Some(0));
}
