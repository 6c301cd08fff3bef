//! A job that expires is not started for the first time after its time is over, and is lost in no
//! case: it becomes a dead letter. Redis' clock decides.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::{LEASE, PATIENCE, Process, Redis, letter_of, text};

/// A job that expires: of the test worker, with these further members.
fn job(kind: &str, n: u64, members: &str) -> String {
    format!(r#"{{"type":"test:{kind}","payload":{{"n":{n}}},{members}}}"#)
}

fn worker(redis: &Redis) -> Process {
    Process::test_worker(redis).envs(&[LEASE]).start()
}

async fn expired(redis: &Redis, id: &str) {
    let letter = letter_of(redis, id).await;
    assert_eq!(text(&letter, "reason"), "expired");
    assert_eq!(
        text(&letter, "error"),
        "no worker started it before it expired"
    );
    assert_eq!(text(&letter, "attempt"), "0");
}

#[tokio::test]
async fn a_job_that_waited_for_too_long_is_a_dead_letter_and_others_run() {
    let redis = Redis::start().await;
    let late = redis
        .add_job(&job("sleep", 1, r#""expires_in_ms":300"#))
        .await;
    let in_time = job("sleep", 2, r#""expires_in_ms":600000"#);
    redis.add_job(&in_time).await;
    redis
        .add_job(&job("sleep", 3, r#""expires_in_ms":0"#))
        .await;
    sleep(Duration::from_millis(400)).await;
    let worker = worker(&redis);
    for end in ["end 2", "end 3"] {
        worker.wait_for_line(|line| line == end, PATIENCE).await;
    }
    expired(&redis, &late).await;
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count("start 1"), 0);
}

/// The time counts from the end of the delay, also for a job whose delay was over before any worker saw it.
#[tokio::test]
async fn a_job_with_a_delay_expires_after_it() {
    let redis = Redis::start().await;
    let unseen = redis
        .add_job(&job("sleep", 1, r#""delay_ms":100,"expires_in_ms":100"#))
        .await;
    sleep(Duration::from_millis(300)).await;
    let first = worker(&redis);
    expired(&redis, &unseen).await;
    // This one is parked, and nobody is there when it is due.
    redis
        .add_job(&job("sleep", 2, r#""delay_ms":700,"expires_in_ms":300"#))
        .await;
    let in_time = job("sleep", 3, r#""delay_ms":300,"expires_in_ms":60000"#);
    redis.add_job(&in_time).await;
    first.wait_for_line(|line| line == "end 3", PATIENCE).await;
    let [(parked, _)] = redis.scheduled_jobs().await.try_into().unwrap();
    assert!(parked.contains(r#""expires_at_ms":"#), "{parked}");
    assert!(parked.contains(r#""registered_ms":"#), "{parked}");
    assert!(!parked.contains("expires_in_ms"), "{parked}");
    first.term();
    first.wait_exit(PATIENCE).await;
    sleep(Duration::from_millis(1200)).await;
    let second = worker(&redis);
    redis.drained(PATIENCE).await;
    let [_, (_, letter)] = redis.dead_letters().await.try_into().unwrap();
    assert_eq!(text(&letter, "reason"), "expired");
    assert_eq!((first.count("start 2"), second.count("start 2")), (0, 0));
}

#[tokio::test]
async fn a_job_that_was_started_once_does_not_expire() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    // Its second attempt begins a second after the first one, when it would have expired.
    let failing = r#"{"type":"test:fail","payload":{"n":1,"ms":1},"expires_in_ms":500}"#;
    redis.add_job(failing).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    // The worker that has started this one is killed, and the next one comes when it would have expired.
    let long = r#"{"type":"test:sleep","payload":{"n":2,"ms":1000},"expires_in_ms":900}"#;
    redis.add_job(long).await;
    worker
        .wait_for_line(|line| line == "start 2", PATIENCE)
        .await;
    worker.kill();
    let next = self::worker(&redis);
    next.wait_for_line(|line| line == "end 2", PATIENCE).await;
    redis.drained(PATIENCE).await;
    assert_eq!(redis.dead_letters().await, []);
}
