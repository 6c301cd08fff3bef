//! The API server's end. Each client that got a 201 has a job in the stream, and each request in
//! progress is answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{
    Direction, PATIENCE, Process, REGISTER, RawClient, Redis, TestApp, eventually,
};

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
                // This request reached a closed listener, or an idle connection that was just being
                // closed.
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
    let mut client = RawClient::connect(addr).await;
    let head = format!(
        "POST {REGISTER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: 2\r\nexpect: 100-continue\r\n\r\n"
    );
    // The answer to `expect` shows that the request is being served.
    assert_eq!(client.ask(head).await.status, 100);
    app.server.term();
    refuses(addr).await;
    assert_eq!(client.ask("{}").await.status, 201);
    assert_eq!(client.rest().await, b"");
    assert_eq!(app.redis.xlen().await, 1);
    assert_eq!(app.server.wait_exit(PATIENCE).await.code(), Some(0));
}

/// This is the view of a load balancer, which sends requests until it has noticed the end.
#[tokio::test]
async fn a_server_that_drains_is_not_ready_and_serves_on_until_the_delay_is_over() {
    const DELAY: Duration = Duration::from_secs(2);
    let redis = Redis::start().await;
    let server = Process::server(&redis)
        .env("APP__SERVER__DRAIN_DELAY", "2s")
        .start();
    server.wait_ready(PATIENCE).await;
    let app = TestApp::around(redis, server).await;
    let addr = app.server.http_addr().await;
    let mut kept = RawClient::connect(addr).await;
    let get = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(kept.ask(get).await.header("connection"), None);

    let asked = Instant::now();
    app.server.term();
    assert_eq!(app.server.wait_not_ready(PATIENCE).await, "shutting down");
    assert_eq!(app.server.get("/health").await.0, 200);
    let mut registered = 0;
    while asked.elapsed() < DELAY / 2 {
        let (status, reply, headers) = app.register(json!({})).await;
        assert_eq!(
            (status.as_u16(), &reply["status"]),
            (201, &json!("registered"))
        );
        assert_eq!(headers["connection"], "close");
        registered += 1;
    }
    // An earlier connection is told to close, and no request on it is lost.
    let answer = kept.ask(get).await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.text(), "OK");
    assert_eq!(kept.rest().await, b"");
    let mut idle = RawClient::connect(addr).await;
    assert!(
        asked.elapsed() < DELAY,
        "this machine is too slow for this test"
    );

    refuses(addr).await;
    assert!(asked.elapsed() >= DELAY, "{:?}", asked.elapsed());
    assert_eq!(idle.rest().await, b"");
    assert_eq!(app.server.wait_exit(PATIENCE).await.code(), Some(0));
    assert!(asked.elapsed() < DELAY * 2, "{:?}", asked.elapsed());
    assert_eq!(app.redis.xlen().await, registered);
}

#[tokio::test]
async fn a_second_signal_ends_a_server_that_drains() {
    let redis = Redis::reserve();
    let server = Process::server(&redis)
        .env("APP__SERVER__DRAIN_DELAY", "10m")
        .start();
    server.http_addr().await;
    server.term();
    server.wait_for_log("still accepting", PATIENCE).await;
    assert_eq!(server.get("/ready").await.1, "shutting down");
    let asked = Instant::now();
    server.term();
    assert_eq!(server.wait_exit(PATIENCE).await.code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_worker_that_was_asked_to_stop_is_not_ready_and_answers_until_its_end() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).small_pipes().start();
    worker.wait_ready(PATIENCE).await;
    worker.read_stdout(false);
    // The line of the first job is read to its end. The line of the second job is more than the
    // output takes, so that its job goes on running.
    for _ in 0..2 {
        let message = "x".repeat(50_000);
        let job = json!({"type": "demo:delay_print", "payload": {"message": message}});
        redis.add_job(&job.to_string()).await;
    }
    worker.wait_for_lines(1, PATIENCE).await;
    eventually("the second job is taken", PATIENCE, async || {
        (redis.backlog().await.lag == Some(0)).then_some(())
    })
    .await;
    worker.term();
    worker.wait_for_log("asked to stop", PATIENCE).await;
    for _ in 0..5 {
        let ready = worker.get("/ready").await;
        assert_eq!((ready.0.as_u16(), ready.1.as_str()), (503, "shutting down"));
        assert_eq!(worker.get("/health").await.0, 200);
    }
    worker.read_stdout(true);
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
}
