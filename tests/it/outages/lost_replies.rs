//! Bytes that are lost on the way, each at an exact point: a delivery, a claim, an outcome, a
//! registration, and the replies to them. Nothing is lost for good, and nothing happens twice.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    DEAD, GROUP, LEASE, PATIENCE, Process, Redis, SCHEDULED, SlowLine, TestApp, Wire, test_job,
    within,
};

/// The longest time that a read blocks.
const BLOCK: Duration = Duration::from_secs(1);
const LEASE_TIME: Duration = Duration::from_secs(2);

/// Asserts that a value does not change for this long.
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

#[tokio::test]
async fn a_lost_delivery_is_found_and_not_counted() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = Process::test_worker(&redis).redis_addr(wire.addr()).start();
    redis.add_test_job("sleep", 1, 4000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis.wait_for_reader().await;
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
    redis.wait_for_reader().await;
    // This comes only when this worker reads, so that the first worker gets the job.
    wire.lose_reply_with(r#""n":1,"#);
    redis.add_test_job("sleep", 1, 0).await;
    wire.lost(PATIENCE).await;
    doomed.kill();
    assert_eq!(doomed.count("start 1"), 0);
    let died = Instant::now();
    let heir = Process::test_worker(&redis).envs(&[LEASE]).start();
    let line = heir.wait_for_line(|line| line == "end 1", PATIENCE).await;
    // The mark is as old as the dead worker's last reclaim, which is less than a stall.
    let bound = Duration::from_secs(2 + 2);
    assert!(line.at - died <= bound, "{:?}", line.at - died);
    redis.drained(PATIENCE).await;
}

/// Where Redis is far away several replies are on their way at once. When one is lost, so are those
/// behind it.
#[tokio::test]
async fn deliveries_that_are_lost_together_are_found() {
    const JOBS: u64 = 10_000;
    /// How many jobs have run without Redis knowing it at most.
    const AT_RISK: u64 = 10 + 512;
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let line = SlowLine::to(wire.addr()).await;
    line.set_delay(Duration::from_millis(5));
    let worker = Process::test_worker(&redis)
        .redis_addr(line.addr())
        .env("APP__JOBQUEUE__AHEAD", "512")
        .start();
    worker.wait_for_log("connected to redis", PATIENCE).await;
    wire.lose_reply_with(r#""n":5000,"#);
    redis
        .add_jobs((0..JOBS).map(|n| test_job("sleep", n, 0)))
        .await;
    wire.lost(PATIENCE).await;
    redis.drained(PATIENCE).await;
    let mut starts = vec![0; usize::try_from(JOBS).unwrap()];
    for line in worker.stdout() {
        if let Some(n) = line.text.strip_prefix("start ") {
            starts[n.parse::<usize>().unwrap()] += 1;
        }
    }
    assert!(starts.iter().all(|count| *count > 0), "each has run");
    let again: u64 = starts.iter().map(|count| count - 1).sum();
    assert!(again <= AT_RISK, "{again} ran again");
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

/// What only an acknowledgement has on the line: the group, and behind it the group's mark.
async fn in_acknowledgement(redis: &Redis) -> String {
    let mark = redis.mark().await;
    format!("{GROUP}\r\n${}\r\n{mark}\r\n", mark.len())
}

#[tokio::test]
async fn a_settlement_whose_reply_is_lost_is_sent_again_and_changes_nothing() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = Process::test_worker(&redis).redis_addr(wire.addr()).start();
    redis.wait_for_reader().await;

    // Done.
    wire.lose_reply_to(&in_acknowledgement(&redis).await);
    redis.add_test_job("sleep", 1, 0).await;
    wire.lost(PATIENCE).await;
    redis.drained(PATIENCE).await;

    // Parked. Only this script is sent with `entry`.
    wire.lose_reply_to("$5\r\nentry\r\n");
    let delayed = r#"{"type":"test:sleep","payload":{"n":2,"ms":0},"delay_ms":3000}"#;
    redis.add_job(delayed).await;
    wire.lost(PATIENCE).await;
    worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
    redis.drained(PATIENCE).await;

    // Failed, and to be tried again.
    wire.lose_reply_to("$3\r\nnow\r\n");
    redis.add_test_job("fail", 3, 1).await;
    wire.lost(PATIENCE).await;
    worker.wait_for_line(|line| line == "end 3", PATIENCE).await;
    redis.drained(PATIENCE).await;

    // Buried.
    wire.lose_reply_to("$9\r\nmalformed\r\n");
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
    redis.wait_for_reader().await;
    let acknowledgement = in_acknowledgement(&redis).await;
    for (n, kind, command) in [
        (1, "sleep", acknowledgement.as_str()),
        (2, "fail", "$3\r\nnow\r\n"),
        (3, "malformed", "$9\r\nmalformed\r\n"),
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
    // The server is connected again, so it could have sent the command again.
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
    // Redis had received both commands, and carries out every command that it has received.
    stays(2, BLOCK, async || app.redis.xlen().await).await;
}

#[tokio::test]
async fn jobs_that_are_too_large_for_one_reply_come_in_several() {
    // A reply with more than sixteen of these jobs is larger than this limit.
    let limit = "normal 1mb 0 0";
    let builder = Redis::builder().directive("client-output-buffer-limit", limit);
    let redis = builder.start().await;
    let large = "x".repeat(60 * 1024);
    let job =
        |n| format!(r#"{{"type":"test:sleep","payload":{{"n":{n},"ms":0}},"trace":"{large}"}}"#);
    redis.add_jobs((0..150).map(job)).await;
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__CONCURRENCY", "200")
        .start();
    redis.drained(2 * PATIENCE).await;
    for n in 0..150 {
        assert_eq!(worker.count(&format!("start {n}")), 1, "job {n}");
    }
    assert_eq!(redis.dead_letters().await, []);
}
