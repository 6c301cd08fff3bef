//! Redis works, but the connection to it does not: half-open sockets, killed connections, a slow
//! and torn network.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{
    CloseKind, Delay, Direction, FaultProxy, LEASE, Load, PATIENCE, Process, Redis, TestApp, Wire,
    eventually, test_job,
};

/// The longest time that a read blocks.
const BLOCK: Duration = Duration::from_secs(1);

/// The ids of the connections of this name, as `CLIENT LIST` shows them.
async fn connections(redis: &Redis, name: &str) -> Vec<String> {
    let list: String = redis.query(&["CLIENT", "LIST"]).await;
    let lines = list
        .lines()
        .filter(|line| line.contains(&format!(" name={name} ")));
    let id = |line: &str| line.split(['=', ' ']).nth(1).unwrap().to_owned();
    lines.map(id).collect()
}

/// Cuts all present connections. (`reset_peer` alone goes on cutting. A proxy that was told to cut
/// once also closes each new connection, until it is enabled again.)
async fn tear(proxy: &FaultProxy) {
    proxy.disable().await.unwrap();
    proxy.enable().await.unwrap();
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_replaced() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = Process::test_worker(&redis).redis_addr(wire.addr()).start();
    redis.wait_for_reader().await;
    let mark = worker.log_mark();
    wire.vanish();
    let vanished = Instant::now();
    redis.add_test_job("sleep", 1, 0).await;
    let line = worker
        .wait_for_log_since(mark, "redis is unavailable", PATIENCE)
        .await;
    let noticed = line.at - vanished;
    assert!(noticed <= BLOCK + Duration::from_secs(2), "{noticed:?}");
    // Nobody received the job, but Redis holds it as pending for this worker. The orphan check
    // finds it.
    let line = worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    assert!(line.at - vanished <= noticed + Duration::from_secs(3));
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count("start 1"), 1);
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_noticed() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let server = Process::server(&redis).redis_addr(proxy.addr()).start();
    let app = TestApp::around(redis, server).await;
    let worker = app.worker().redis_addr(proxy.addr()).start();
    for process in [&app.server, &worker] {
        process.wait_ready(PATIENCE).await;
    }
    let marks = [app.server.log_mark(), worker.log_mark()];
    proxy.set_drop_all(true);
    proxy.set_stall(Direction::ClientToUpstream);
    proxy.set_stall(Direction::UpstreamToClient);
    let stalled = Instant::now();
    // The server asks Redis only when its clients ask the server.
    let (status, ..) = app.register(json!({})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        stalled.elapsed() <= Duration::from_millis(1300),
        "{:?}",
        stalled.elapsed()
    );
    for (process, mark) in [&app.server, &worker].into_iter().zip(marks) {
        let line = process
            .wait_for_log_since(mark, "redis is unavailable", PATIENCE)
            .await;
        let noticed = line.at - stalled;
        assert!(noticed <= BLOCK + Duration::from_secs(2), "{noticed:?}");
    }
    // The server knows now that Redis is away, so no request waits for Redis.
    let asked = Instant::now();
    let (status, body, _) = app.register(json!({})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        body["detail"],
        "job queue service is unavailable: Redis is not connected"
    );
    assert!(asked.elapsed() < Duration::from_millis(300));

    proxy.reset();
    tear(&proxy).await;
    for process in [&app.server, &worker] {
        process.wait_ready(PATIENCE).await;
    }
    app.registered(json!({"delay": "0s", "message": "mended"}))
        .await;
    worker
        .wait_for_line(|line| line.ends_with("] mended"), PATIENCE)
        .await;
}

#[tokio::test]
async fn a_killed_connection_loses_nothing_whichever_it_is() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    let mut jobs = 0;
    for name in ["jobqueue-fetch", "jobqueue-shared", "jobqueue-heartbeat"] {
        for _ in 0..2 {
            let id = eventually(name, PATIENCE, async || {
                connections(&redis, name).await.pop()
            });
            let id = id.await;
            for _ in 0..40 {
                redis.add_test_job("sleep", jobs, 100).await;
                jobs += 1;
            }
            redis.cmd(&["CLIENT", "KILL", "ID", &id]).await;
            redis.drained(PATIENCE).await;
        }
    }
    for n in 0..jobs {
        assert_eq!(worker.count(&format!("start {n}")), 1, "job {n}");
        assert_eq!(worker.count(&format!("end {n}")), 1, "job {n}");
    }
}

#[tokio::test]
async fn a_slow_and_torn_network_makes_it_slower_and_not_wrong() {
    let redis = Redis::durable().await;
    let proxies = [
        redis.proxy().await,
        redis.proxy().await,
        redis.proxy().await,
    ];
    let server = Process::server(&redis)
        .redis_addr(proxies[0].addr())
        .start();
    let app = TestApp::around(redis, server).await;
    let workers = [&proxies[1], &proxies[2]]
        .map(|proxy| app.worker().redis_addr(proxy.addr()).envs(&[LEASE]).start());
    app.server.wait_ready(PATIENCE).await;
    for proxy in &proxies {
        proxy.set_chunk_size(1);
        for direction in [Direction::ClientToUpstream, Direction::UpstreamToClient] {
            proxy.set_delay(direction, Delay::Fixed(Duration::from_millis(100)));
        }
    }
    let load = Load::start(&app, Duration::from_millis(10), "100ms");
    for round in 0..3 {
        let sent = load.sent();
        eventually("load", PATIENCE, async || {
            (load.sent() > sent + 8).then_some(())
        })
        .await;
        for proxy in &proxies[round..] {
            tear(proxy).await;
        }
    }
    eventually("jobs are printed in spite of it", PATIENCE, async || {
        let lines: usize = workers.iter().map(|worker| worker.stdout().len()).sum();
        (lines > 10).then_some(())
    })
    .await;
    let answers = load.stop().await;
    for proxy in &proxies {
        assert!(proxy.stats().delays_client_to_upstream > 0);
        proxy.reset();
    }
    app.drained(2 * PATIENCE).await;
    answers.each_printed_once(&[&workers[0], &workers[1]]);
}

/// The lines that `MONITOR` shows, as they come.
async fn monitor(redis: &Redis) -> tokio::io::Lines<BufReader<TcpStream>> {
    let mut stream = BufReader::new(TcpStream::connect(redis.addr()).await.unwrap());
    stream.write_all(b"MONITOR\r\n").await.unwrap();
    let mut lines = stream.lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("+OK"));
    lines
}

#[tokio::test]
async fn the_first_word_on_a_new_connection_is_that_the_jobs_live() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    redis.add_test_job("sleep", 1, 60_000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis.wait_for_reader().await;
    let mut lines = monitor(&redis).await;
    let old = connections(&redis, "jobqueue-fetch").await.remove(0);
    redis.cmd(&["CLIENT", "KILL", "ID", &old]).await;
    // The new connection first sends its protocol and its name. This finds the command after them.
    let mut fetch = None;
    let first = eventually("the new connection speaks", PATIENCE, async || {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            let client = line.split(['[', ']']).nth(1).unwrap().to_owned();
            if line.contains("\"SETNAME\" \"jobqueue-fetch\"") {
                fetch = Some(client);
            } else if fetch.as_ref() == Some(&client) {
                return Some(line);
            }
        }
    })
    .await;
    assert!(first.contains("\"renew\""), "{first}");
}

#[tokio::test]
async fn connections_that_are_reset_at_once_are_tried_again() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    proxy.reject_next(3, CloseKind::Rst);
    let worker = Process::test_worker(&redis)
        .redis_addr(proxy.addr())
        .start();
    redis.add_job(&test_job("sleep", 1, 0)).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    assert_eq!(proxy.stats().connections_rejected, 3);
}
