//! A worker is killed at one of the two ends of a job: before it has seen the job, or while it
//! writes the job's line.

use std::time::{Duration, Instant};

use crate::support::{LEASE, PATIENCE, Process, Redis, eventually, stays, test_job};

/// A lease and two seconds.
const TAKEOVER: Duration = Duration::from_secs(4);

fn worker(redis: &Redis, name: &str) -> Process {
    let worker = Process::test_worker(redis).envs(&[LEASE]);
    worker.named(name).start()
}

#[tokio::test]
async fn a_job_that_its_worker_had_not_seen_yet_runs_once_elsewhere() {
    let redis = Redis::start().await;
    let victim = worker(&redis, "victim");
    redis.reclaiming().await;
    redis.add_unseen(&victim, &test_job("sleep", 1, 0)).await;
    let other = worker(&redis, "other");
    victim.kill();
    let killed = Instant::now();
    let start = other
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    assert!(
        start.at - killed < TAKEOVER,
        "after {:?}",
        start.at - killed
    );
    redis.drained(PATIENCE).await;
    assert_eq!((victim.count("start 1"), other.count("start 1")), (0, 1));
}

#[tokio::test]
async fn a_job_whose_line_was_going_out_is_printed_whole_elsewhere() {
    let redis = Redis::start().await;
    // The message is longer than a pipe holds, and nobody reads the pipe.
    let message = "x".repeat(200_000);
    let (unread, stdout) = std::io::pipe().unwrap();
    let victim = Process::test_worker(&redis)
        .envs(&[LEASE])
        .stdout_to(stdout)
        .start();
    redis.reclaiming().await;
    let job = format!(r#"{{"type":"demo:delay_print","payload":{{"message":"{message}"}}}}"#);
    let id = redis.add_job(&job).await;
    eventually("it is delivered", PATIENCE, async || {
        redis.pending_entry(&id).await
    })
    .await;
    let other = worker(&redis, "other");
    other.wait_for_log("worker started", PATIENCE).await;
    let blocked = Duration::from_secs(1);
    stays("pending while its line waits", blocked, async || {
        redis.pending_entry(&id).await.is_some()
    })
    .await;
    victim.kill();
    let line = format!("] {message}");
    other
        .wait_for_line(|text| text.ends_with(&line), PATIENCE)
        .await;
    redis.drained(PATIENCE).await;
    drop(unread);
}
