//! A worker that is asked to stop while Redis is away.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{PATIENCE, Process, Redis};

const SLACK: Duration = Duration::from_millis(700);

/// A worker whose job has ended while Redis was away.
async fn with_an_unsettled_outcome(redis: &Redis, shutdown_timeout: &str) -> Process {
    let worker = Process::test_worker(redis)
        .env("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", shutdown_timeout)
        .start();
    let job = json!({"type": "test:sleep", "payload": {"n": 1, "ms": 500}});
    redis.add_job(&job.to_string()).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis.kill();
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    worker
}

#[tokio::test]
async fn an_idle_worker_exits_at_once_without_redis() {
    let never_there = Redis::reserve();
    let lost = Redis::start().await;
    let workers = [
        Process::jobqueue(&never_there).start(),
        Process::jobqueue(&lost).start(),
    ];
    workers[1].wait_ready(PATIENCE).await;
    lost.kill();
    for worker in &workers {
        worker.wait_not_ready(PATIENCE).await;
        let asked = Instant::now();
        worker.term();
        let status = worker.wait_exit(PATIENCE).await;
        let took = asked.elapsed();
        eprintln!("{took:?}");
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[tokio::test]
async fn a_frozen_redis_does_not_hold_the_exit_beyond_the_deadline() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis)
        .env("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", "1s")
        .start();
    worker.wait_ready(PATIENCE).await;
    redis.freeze();
    let asked = Instant::now();
    worker.term();
    worker.wait_exit(PATIENCE).await;
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(1_500) + SLACK, "{took:?}");
}

#[tokio::test]
async fn an_outcome_that_cannot_be_settled_is_kept_to_the_deadline() {
    let redis = Redis::durable().await;
    let worker = with_an_unsettled_outcome(&redis, "2s").await;
    let asked = Instant::now();
    worker.term();
    let status = worker.wait_exit(PATIENCE).await;
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(1));
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(took < Duration::from_millis(2_500) + SLACK, "{took:?}");
    worker.wait_for_log("they will run again", PATIENCE).await;
}

#[tokio::test]
async fn an_outcome_is_settled_when_redis_comes_back_before_the_deadline() {
    let redis = Redis::durable().await;
    let worker = with_an_unsettled_outcome(&redis, "30s").await;
    worker.term();
    worker.wait_for_log("worker stopping", PATIENCE).await;
    redis.up().await;
    let back = Instant::now();
    let status = worker.wait_exit(PATIENCE).await;
    eprintln!("gone {:?} after the return of redis", back.elapsed());
    assert_eq!(status.code(), Some(0));
    assert_eq!((redis.xlen().await, redis.pending().await), (0, 0));
}

/// Figures for people are not worth a wait.
#[tokio::test]
async fn a_stop_waits_for_no_counts() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    let job = json!({"type": "test:sleep", "payload": {"n": 1}});
    redis.add_job(&job.to_string()).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
    redis.kill();
    worker.wait_not_ready(PATIENCE).await;
    // The counts are due by now.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let asked = Instant::now();
    worker.term();
    assert!(worker.wait_exit(PATIENCE).await.success());
    assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
}
