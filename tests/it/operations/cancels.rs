//! A running job that somebody has cancelled: its worker drops the handler and makes a dead letter of it,
//! and neither a death nor a retry loses the cancel.

use std::time::Duration;

use crate::support::{
    CANCEL, LEASE, PATIENCE, Process, Redis, WORKERS, eventually, letter_of, stays, test_job, text,
};

fn worker(redis: &Redis) -> Process {
    Process::test_worker(redis).envs(&[LEASE]).start()
}

/// A worker whose next heartbeat is 10 s away.
async fn worker_of_slow_heartbeat(redis: &Redis) -> Process {
    let worker = Process::test_worker(redis)
        .env("APP__JOBQUEUE__LEASE", "30s")
        .start();
    // It tells of itself at the end of its first heartbeat.
    eventually("its first heartbeat is over", PATIENCE, async || {
        let told: u64 = redis.query(&["HLEN", WORKERS]).await;
        (told == 1).then_some(())
    })
    .await;
    worker
}

/// Writes what an operator's command writes.
async fn cancel(redis: &Redis, id: &str) {
    redis.cmd(&["HSET", CANCEL, id, "1"]).await;
}

async fn cancelled(redis: &Redis, id: &str) {
    let letter = letter_of(redis, id).await;
    assert_eq!(text(&letter, "reason"), "cancelled");
}

/// The janitor drops the cancel of an entry that has ended, and no other one.
async fn forgotten(redis: &Redis) {
    eventually("the cancel is dropped", PATIENCE, async || {
        let left: u64 = redis.query(&["HLEN", CANCEL]).await;
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_handler_is_dropped_and_the_job_is_a_dead_letter() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    let id = redis.add_test_job("hang", 1, 0).await;
    let other = redis.add_test_job("sleep", 2, 3000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    worker
        .wait_for_line(|line| line == "start 2", PATIENCE)
        .await;
    cancel(&redis, &id).await;
    cancelled(&redis, &id).await;
    worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
    redis.drained(PATIENCE).await;
    let letters = redis.dead_letters().await;
    assert!(letters.iter().all(|(_, it)| text(it, "died_from") != other));
    forgotten(&redis).await;
    // Its slot is free: ten more run at once.
    redis
        .add_jobs((10..20).map(|n| test_job("sleep", n, 500)))
        .await;
    redis.drained(PATIENCE).await;
}

/// Jobs that wait for a slot within the worker.
#[tokio::test]
async fn a_job_that_was_fetched_and_waits_is_not_started() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis)
        .envs(&[LEASE, ("APP__JOBQUEUE__CONCURRENCY", "1")])
        .start();
    // Short jobs make a worker fetch ahead.
    redis
        .add_jobs((0..500).map(|_| test_job("quiet", 0, 0)))
        .await;
    redis.drained(PATIENCE).await;
    let jobs = (1..=9).map(|n| test_job("sleep", n, if n == 1 { 2500 } else { 0 }));
    let ids = redis.add_jobs(jobs).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let pending: Vec<String> = redis
        .pending_entries()
        .await
        .into_iter()
        .map(|it| it.id)
        .collect();
    let ahead = ids.iter().skip(1).find(|id| pending.contains(id));
    let ahead = ahead.expect("it has fetched one ahead");
    let n = 1 + ids.iter().position(|id| id == ahead).unwrap();
    cancel(&redis, ahead).await;
    cancelled(&redis, ahead).await;
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count(&format!("start {n}")), 0);
    assert_eq!(redis.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn a_worker_that_dies_does_not_lose_the_cancel() {
    let redis = Redis::start().await;
    let first = worker(&redis);
    let id = redis.add_test_job("hang", 1, 0).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    first.stop();
    cancel(&redis, &id).await;
    first.kill();
    let second = worker(&redis);
    cancelled(&redis, &id).await;
    redis.drained(PATIENCE).await;
    assert_eq!(second.count("start 1"), 0, "it is not even started");
    forgotten(&redis).await;
}

/// The attempt fails before its worker has heard of the cancel.
#[tokio::test]
async fn a_retry_does_not_lose_the_cancel() {
    let redis = Redis::start().await;
    let worker = worker_of_slow_heartbeat(&redis).await;
    let id = redis
        .add_job(r#"{"type":"test:slow_fail","payload":{"n":1,"ms":300,"limit":9}}"#)
        .await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    cancel(&redis, &id).await;
    cancelled(&redis, &id).await;
    assert_eq!(worker.count("ending 1"), 1, "the attempt came to its end");
    assert_eq!(redis.scheduled().await, 0);
    redis.drained(PATIENCE).await;
}

/// A job with a delay that a worker is about to park.
#[tokio::test]
async fn a_park_does_not_lose_the_cancel() {
    let redis = Redis::start().await;
    let first = worker(&redis);
    first.wait_ready(PATIENCE).await;
    first.kill();
    let delayed = r#"{"type":"test:sleep","payload":{"n":1},"delay_ms":100000}"#;
    let id = redis.add_job(delayed).await;
    cancel(&redis, &id).await;
    let worker = worker(&redis);
    cancelled(&redis, &id).await;
    assert_eq!(redis.scheduled().await, 0);
    assert_eq!(worker.count("start 1"), 0);
}

#[tokio::test]
async fn a_job_that_ends_before_its_worker_hears_of_the_cancel_has_run() {
    let redis = Redis::start().await;
    let worker = worker_of_slow_heartbeat(&redis).await;
    let id = redis.add_test_job("sleep", 1, 300).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    cancel(&redis, &id).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
    assert_eq!(redis.dead_letters().await, []);
}

/// A stream that was made anew has other entries, and may give an id again.
#[tokio::test]
async fn the_cancels_of_a_stream_that_is_gone_are_forgotten() {
    let redis = Redis::start().await;
    let first = worker(&redis);
    let id = redis.add_test_job("hang", 1, 0).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    first.kill();
    cancel(&redis, &id).await;
    redis.cmd(&["DEL", "jobqueue:{default}"]).await;
    let second = worker(&redis);
    second.wait_ready(PATIENCE).await;
    let left: u64 = redis.query(&["HLEN", CANCEL]).await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_cancel_of_a_job_that_waits_is_kept_until_it_has_ended() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    let id = redis.add_test_job("block", 1, 4000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    cancel(&redis, &id).await;
    // The janitor has come by more than once meanwhile.
    stays("its cancel is there", Duration::from_secs(3), async || {
        redis.query::<u64>(&["HLEN", CANCEL]).await == 1
    })
    .await;
    redis.drained(PATIENCE).await;
    forgotten(&redis).await;
}

/// A job that may have expired has not, and is to be cancelled.
#[tokio::test]
async fn a_look_at_the_clock_does_not_lose_the_cancel() {
    let redis = Redis::start().await;
    let first = worker(&redis);
    first.wait_ready(PATIENCE).await;
    first.kill();
    let job = r#"{"type":"test:sleep","payload":{"n":1},"expires_in_ms":600000}"#;
    let id = redis.add_job(job).await;
    cancel(&redis, &id).await;
    let worker = worker(&redis);
    cancelled(&redis, &id).await;
    assert_eq!(worker.count("start 1"), 0);
}

/// It is fetched by itself, by another part of the worker.
#[tokio::test]
async fn a_large_job_that_is_taken_over_is_not_started() {
    let redis = Redis::start().await;
    let first = worker(&redis);
    let large = "x".repeat(200_000);
    let job = format!(r#"{{"type":"test:hang","payload":{{"n":1,"x":"{large}"}}}}"#);
    let id = redis.add_job(&job).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    first.stop();
    cancel(&redis, &id).await;
    first.kill();
    let second = worker(&redis);
    cancelled(&redis, &id).await;
    assert_eq!(second.count("start 1"), 0);
}
