//! What an operator sees and does with redis-cli.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Backlog, LEASE, PATIENCE, Process, Redis, STATE, STREAM, eventually, within};

const PRINT: &str = r#"{"type":"demo:delay_print","payload":{"message":"x"}}"#;

#[tokio::test]
async fn the_backlog_tells_what_waits_and_what_runs() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__CONCURRENCY", "3")
        .start();
    for n in 0..10 {
        redis.add_test_job("sleep", n, 1500).await;
    }
    redis
        .add_job(r#"{"type":"test:quiet","delay_ms":60000}"#)
        .await;
    // The delayed job is behind the others, so it is parked when a slot becomes free.
    let seen = eventually("three run", PATIENCE, async || {
        let Backlog {
            stream,
            pending,
            consumers,
            ..
        } = redis.backlog().await;
        (pending == 3).then(|| (stream, consumers.len(), consumers[0].pending))
    });
    assert_eq!(seen.await, (11, 1, 3), "11 in all, so 8 wait");
    eventually(
        "all is done but the delayed one",
        PATIENCE * 2,
        async || {
            let Backlog {
                stream,
                pending,
                scheduled,
                lag,
                ..
            } = redis.backlog().await;
            (stream + pending == 0 && scheduled == 1 && lag == Some(0)).then_some(())
        },
    )
    .await;
    worker.term();
    worker.wait_exit(PATIENCE).await;
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    redis.cmd(&["HSET", STATE, "paused", "1"]).await;
    worker
        .wait_for_log("the queue is paused", Duration::from_secs(3))
        .await;
    for _ in 0..3 {
        redis.add_job(PRINT).await;
    }
    let started = within(Duration::from_millis(1500), async || {
        (redis.pending().await > 0 || !worker.stdout().is_empty()).then_some(())
    });
    assert!(started.await.is_none());
    redis.cmd(&["HDEL", STATE, "paused"]).await;
    worker.wait_for_lines(3, Duration::from_secs(3)).await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn twenty_thousand_waiting_jobs_stay_until_they_are_run() {
    let redis = Redis::start().await;
    let script = "for _ = 1, 20000 do redis.call('XADD', KEYS[1], '*', 'job', ARGV[1]) end";
    redis.cmd(&["EVAL", script, "1", STREAM, PRINT]).await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_for_lines(100, PATIENCE).await;
    worker.term();
    worker.wait_exit(PATIENCE).await;
    let (printed, left) = (worker.stdout().len() as u64, redis.xlen().await);
    assert_eq!(printed + left, 20_000, "{printed} printed, {left} left");
    let second = Process::jobqueue(&redis).start();
    redis.drained(Duration::from_secs(30)).await;
    eventually("each is printed", PATIENCE, async || {
        (printed + second.stdout().len() as u64 == 20_000).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_paused_queue_is_left_alone_by_who_starts_and_by_who_would_inherit() {
    let redis = Redis::start().await;
    let lease = &[LEASE];
    let dying = Process::test_worker(&redis).envs(lease).start();
    redis.add_test_job("sleep", 1, 60_000).await;
    dying
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis.cmd(&["HSET", STATE, "paused", "1"]).await;
    dying.kill();
    let heir = Process::test_worker(&redis).envs(lease).start();
    heir.wait_for_log("the queue is paused", PATIENCE).await;
    redis.add_test_job("sleep", 2, 0).await;
    // Without the pause the second job would run at once. The first job would run within the lease
    // of 2 s and 2 s more.
    let started = within(Duration::from_secs(5), async || {
        (heir.count("start 1") + heir.count("start 2") > 0).then_some(())
    });
    assert!(started.await.is_none(), "{:?}", heir.stdout());
    assert_eq!((redis.xlen().await, redis.pending().await), (2, 1));
    redis.cmd(&["HDEL", STATE, "paused"]).await;
    for line in ["end 2", "start 1"] {
        heir.wait_for_line(|text| text == line, PATIENCE).await;
    }
}

#[tokio::test]
async fn a_drained_queue_shows_that_all_was_read_and_deleted() {
    let redis = Redis::start().await;
    let _worker = Process::test_worker(&redis).start();
    for _ in 0..20 {
        redis.add_job(r#"{"type":"test:quiet"}"#).await;
        redis
            .add_job(r#"{"type":"test:quiet","delay_ms":1500}"#)
            .await;
    }
    redis.drained(PATIENCE).await;
    let stream: BTreeMap<String, redis::Value> = redis.query(&["XINFO", "STREAM", STREAM]).await;
    let groups: Vec<BTreeMap<String, redis::Value>> =
        redis.query(&["XINFO", "GROUPS", STREAM]).await;
    let number = |value: &redis::Value| redis::from_redis_value_ref::<u64>(value).unwrap();
    // A delayed job is added a second time when it is due.
    assert_eq!(number(&stream["entries-added"]), 60);
    assert_eq!(number(&stream["length"]), 0);
    assert_eq!(stream["first-entry"], redis::Value::Nil);
    assert_eq!(groups.len(), 1);
    assert_eq!(number(&groups[0]["entries-read"]), 60);
    assert_eq!(number(&groups[0]["pending"]), 0);
    assert_eq!(number(&groups[0]["lag"]), 0);
}
