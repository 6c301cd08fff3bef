//! Redis is well and the way to it is not: half-open sockets, killed connections, a slow
//! and torn network, replies that are lost on the way.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{
    CloseKind, DEAD, Delay, Direction, FaultProxy, LEASE, Load, PATIENCE, Process, Redis,
    SCHEDULED, TestApp, Wire, eventually, test_job, within,
};

/// How long the longest read blocks.
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

/// Waits until the worker waits for a job in Redis.
async fn reading(redis: &Redis) {
    eventually("the worker waits for a job", PATIENCE, async || {
        let list: String = redis.query(&["CLIENT", "LIST"]).await;
        let blocked = |line: &str| line.contains("flags=b") && line.contains("jobqueue-fetch");
        list.lines().any(blocked).then_some(())
    })
    .await;
}

/// Nothing is to happen for this long, which is watched.
async fn stays<T: PartialEq + std::fmt::Debug>(
    value: T,
    time: Duration,
    mut look: impl AsyncFnMut() -> T,
) {
    let other = within(time, async || {
        Some(look().await).filter(|now| *now != value)
    })
    .await;
    assert_eq!(other, None, "it was {value:?}");
}

/// Cuts all connections of now. (`reset_peer` alone goes on cutting: a proxy that was
/// told to once closes each new connection as well, until it is enabled again.)
async fn tear(proxy: &FaultProxy) {
    proxy.disable().await.unwrap();
    proxy.enable().await.unwrap();
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_replaced() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = Process::test_worker(&redis).redis_addr(wire.addr()).start();
    reading(&redis).await;
    let mark = worker.log_mark();
    wire.vanish();
    let vanished = Instant::now();
    redis.add_test_job("sleep", 1, 0).await;
    let line = worker
        .wait_for_log_since(mark, "redis is unavailable", PATIENCE)
        .await;
    let noticed = line.at - vanished;
    assert!(noticed <= BLOCK + Duration::from_secs(2), "{noticed:?}");
    // It was delivered to nobody, in Redis' eyes to this worker: the orphan check finds it.
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
    // The server has nothing to ask Redis but what its clients ask.
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
    // Known to be away: no request waits for it any more.
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

#[tokio::test]
async fn a_lost_delivery_is_found_and_not_counted() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = Process::test_worker(&redis).redis_addr(wire.addr()).start();
    redis.add_test_job("sleep", 1, 4000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    reading(&redis).await;
    wire.lose_reply_with(r#""n":2,"#);
    redis.add_test_job("sleep", 2, 500).await;
    wire.lost(PATIENCE).await;
    let lost = Instant::now();
    let line = worker
        .wait_for_line(|line| line == "start 2", PATIENCE)
        .await;
    assert!(
        line.at - lost <= Duration::from_secs(3),
        "{:?}",
        line.at - lost
    );
    for entry in redis.pending_entries().await {
        assert_eq!(entry.deliveries, 1, "{entry:?}");
    }
    redis.drained(PATIENCE).await;
    for line in ["start 1", "end 1", "start 2", "end 2"] {
        assert_eq!(worker.count(line), 1, "{line}");
    }
}

#[tokio::test]
async fn a_lost_delivery_of_a_worker_that_died_is_run_by_another() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let doomed = Process::test_worker(&redis)
        .redis_addr(wire.addr())
        .envs(&[LEASE])
        .start();
    reading(&redis).await;
    // Only after this one reads, so that the job goes to the first.
    wire.lose_reply_with(r#""n":1,"#);
    redis.add_test_job("sleep", 1, 0).await;
    wire.lost(PATIENCE).await;
    doomed.kill();
    assert_eq!(doomed.count("start 1"), 0);
    let died = Instant::now();
    let heir = Process::test_worker(&redis).envs(&[LEASE]).start();
    let line = heir.wait_for_line(|line| line == "end 1", PATIENCE).await;
    // The mark is as old as the dead worker's last reclaim, less than a stall.
    let bound = Duration::from_secs(2 + 2);
    assert!(line.at - died <= bound, "{:?}", line.at - died);
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn a_lost_claim_is_found_and_counted_once() {
    let redis = Redis::start().await;
    let doomed = Process::test_worker(&redis).envs(&[LEASE]).start();
    redis.add_test_job("sleep", 1, 60_000).await;
    doomed
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let wire = Wire::to(&redis).await;
    let heir = Process::test_worker(&redis)
        .redis_addr(wire.addr())
        .envs(&[LEASE])
        .start();
    heir.wait_for_log("worker started", PATIENCE).await;
    wire.lose_reply_with(r#""n":1,"#);
    doomed.kill();
    wire.lost(PATIENCE).await;
    let lost = Instant::now();
    let line = heir.wait_for_line(|line| line == "start 1", PATIENCE).await;
    assert!(
        line.at - lost <= Duration::from_secs(3),
        "{:?}",
        line.at - lost
    );
    let entry = redis.pending_entries().await.remove(0);
    assert_eq!(entry.deliveries, 2, "{entry:?}");
    stays(1, LEASE_TIME, async || heir.count("start 1")).await;
}

const LEASE_TIME: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_settlement_whose_reply_is_lost_is_sent_again_and_changes_nothing() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = Process::test_worker(&redis).redis_addr(wire.addr()).start();
    reading(&redis).await;

    // Done: only this script is sent with these words.
    wire.lose_reply_to("Acknowledges and deletes");
    redis.add_test_job("sleep", 1, 0).await;
    wire.lost(PATIENCE).await;
    redis.drained(PATIENCE).await;

    // Parked: `entry` is what only this script is sent.
    wire.lose_reply_to("$5\r\nentry\r\n");
    let delayed = r#"{"type":"test:sleep","payload":{"n":2,"ms":0},"delay_ms":3000}"#;
    redis.add_job(delayed).await;
    wire.lost(PATIENCE).await;
    worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
    redis.drained(PATIENCE).await;

    // Failed, to be tried again.
    wire.lose_reply_to("$3\r\nnow\r\n");
    redis.add_test_job("fail", 3, 1).await;
    wire.lost(PATIENCE).await;
    worker.wait_for_line(|line| line == "end 3", PATIENCE).await;
    redis.drained(PATIENCE).await;

    // Buried.
    wire.lose_reply_to("died_from");
    redis.add_test_job("malformed", 4, 0).await;
    wire.lost(PATIENCE).await;
    redis.drained(PATIENCE).await;

    stays(0, BLOCK, async || redis.xlen().await).await;
    let starts = [1, 2, 3, 4].map(|n| worker.count(&format!("start {n}")));
    assert_eq!(starts, [1, 1, 2, 1]);
    let dead: u64 = redis.query(&["XLEN", DEAD]).await;
    let scheduled: u64 = redis.query(&["ZCARD", SCHEDULED]).await;
    assert_eq!((dead, scheduled), (1, 0));
}

#[tokio::test]
async fn a_settlement_that_never_arrived_is_sent_again_and_its_job_is_not_run_again() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = Process::test_worker(&redis).redis_addr(wire.addr()).start();
    reading(&redis).await;
    for (n, kind, command) in [
        (1, "sleep", "Acknowledges and deletes"),
        (2, "fail", "$3\r\nnow\r\n"),
        (3, "malformed", "died_from"),
    ] {
        wire.lose_command(command);
        redis.add_test_job(kind, n, 1).await;
        wire.lost(PATIENCE).await;
        redis.drained(PATIENCE).await;
    }
    let starts = [1, 2, 3].map(|n| worker.count(&format!("start {n}")));
    assert_eq!(starts, [1, 2, 1]);
    assert_eq!(redis.dead_letters().await.len(), 1);
}

/// The lines that `MONITOR` shows of one client, as they come.
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
    reading(&redis).await;
    let mut lines = monitor(&redis).await;
    let old = connections(&redis, "jobqueue-fetch").await.remove(0);
    redis.cmd(&["CLIENT", "KILL", "ID", &old]).await;
    // Two lines of a connection stand between: its protocol and its name.
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
    assert!(first.contains("Sets the idle time of entries"), "{first}");
}

#[tokio::test]
async fn a_registration_whose_reply_is_lost_says_so_and_is_not_repeated() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let server = Process::server(&redis).redis_addr(wire.addr()).start();
    let app = TestApp::around(redis, server).await;
    app.server.wait_ready(PATIENCE).await;
    wire.lose_reply_to("XADD");
    let asked = Instant::now();
    let (status, body, headers) = app.register(json!({"message": "once"})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        asked.elapsed() < Duration::from_millis(1300),
        "{:?}",
        asked.elapsed()
    );
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains("outcome is unknown"), "{detail}");
    assert!(headers.contains_key("retry-after"));
    wire.lost(PATIENCE).await;
    // Reconnected, it has had every chance to send it again.
    app.server.wait_ready(PATIENCE).await;
    stays(1, BLOCK, async || app.redis.xlen().await).await;
    app.registered(json!({})).await;
}

#[tokio::test]
async fn a_frozen_redis_makes_no_request_slower_than_its_deadline() {
    let app = TestApp::start().await;
    app.redis.freeze();
    let asked = Instant::now();
    let (first, second) = tokio::join!(app.register(json!({})), app.register(json!({})));
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(1300), "{took:?}");
    for (status, body, headers) in [first, second] {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains("outcome is unknown"), "{detail}");
        assert!(headers.contains_key("retry-after"));
    }
    app.redis.resume();
    app.server.wait_ready(PATIENCE).await;
    // Both had been handed to Redis, which does what it read.
    stays(2, BLOCK, async || app.redis.xlen().await).await;
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
