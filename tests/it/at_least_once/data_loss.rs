//! An operator empties Redis while workers use it, or fills it. Lost jobs are gone, later jobs run
//! at once, and no job is thrown away to make room.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    GROUP, PATIENCE, Process, Redis, SCHEDULED, STATE, STREAM, TestApp, Wire, eventually, test_job,
};

/// The time from the loss to the next job's end.
const REPAIRED: Duration = Duration::from_millis(1500);

/// Waits for the lines that a worker logs at its start, which come in any order.
async fn all_said(worker: &Process) {
    for line in ["worker started", "connected to redis"] {
        worker.wait_for_log(line, PATIENCE).await;
    }
}

/// Loses the stream by `command` while a worker waits for jobs, and adds a job. Checks that the job
/// runs in time and that the worker logs a single line about the loss.
async fn loses(command: &[&str]) {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    redis.add_test_job("sleep", 1, 0).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
    redis.wait_for_reader().await;
    all_said(&worker).await;
    let mark = worker.log_mark();
    redis.cmd(command).await;
    let lost = Instant::now();
    redis.add_test_job("sleep", 2, 0).await;
    let line = worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
    assert!(
        line.at - lost <= REPAIRED,
        "{command:?}: {:?}",
        line.at - lost
    );
    redis.drained(PATIENCE).await;
    worker
        .wait_for_log_since(mark, "consumer group", PATIENCE)
        .await;
    let lines = worker.stderr().split_off(mark);
    assert_eq!(lines.len(), 1, "{command:?}: {lines:#?}");
}

#[tokio::test]
async fn a_flushed_redis_gets_its_group_again_and_hides_no_job() {
    loses(&["FLUSHALL"]).await;
}

#[tokio::test]
async fn a_deleted_stream_gets_its_group_again_and_hides_no_job() {
    loses(&["DEL", STREAM]).await;
}

#[tokio::test]
async fn a_destroyed_group_is_created_again_and_hides_no_job() {
    loses(&["XGROUP", "DESTROY", STREAM, GROUP]).await;
}

#[tokio::test]
async fn jobs_that_run_while_their_stream_is_deleted_end_without_trouble() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    for (n, kind) in [(1, "sleep"), (2, "fail"), (3, "malformed")] {
        redis.add_test_job(kind, n, 300).await;
    }
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis.cmd(&["FLUSHALL"]).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.add_test_job("sleep", 4, 0).await;
    worker.wait_for_line(|line| line == "end 4", PATIENCE).await;
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count("start 1"), 1);
    assert_eq!(worker.count_log("redis refuses"), 0);
}

#[tokio::test]
async fn a_script_flush_shows_nowhere() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    all_said(&worker).await;
    let mark = worker.log_mark();
    for n in 0..30 {
        redis.cmd(&["SCRIPT", "FLUSH"]).await;
        let kind = ["sleep", "fail"][usize::try_from(n % 2).unwrap()];
        redis.add_test_job(kind, n, 1).await;
    }
    redis.drained(PATIENCE).await;
    for n in 0..30 {
        assert_eq!(worker.count(&format!("end {n}")), 1, "job {n}");
    }
    let mut lines = worker.stderr().split_off(mark);
    lines.retain(|line| !line.text.contains("failed as asked"));
    assert!(lines.is_empty(), "{lines:#?}");
}

#[tokio::test]
async fn a_worker_sends_the_text_of_no_script_with_its_commands() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    all_said(&worker).await;
    // Redis learns each script with its first use.
    redis.run_each_kind(&worker).await;
    let (whole, by_hash) = (redis.calls("eval").await, redis.calls("evalsha").await);
    let delayed = r#"{"type":"test:sleep","payload":{"n":4},"delay_ms":300}"#;
    redis.add_job(delayed).await;
    redis.add_test_job("malformed", 5, 0).await;
    redis.add_test_job("fail", 6, 1).await;
    for n in 10..60 {
        redis.add_test_job("sleep", n, 0).await;
        let end = format!("end {n}");
        worker.wait_for_line(|line| line == end, PATIENCE).await;
    }
    for end in ["end 4", "end 6"] {
        worker.wait_for_line(|line| line == end, PATIENCE).await;
    }
    assert_eq!(redis.dead_letters().await.len(), 2);
    // A script that is needed rarely may have had its first use.
    assert!(redis.calls("eval").await <= whole + 3);
    assert!(redis.calls("evalsha").await > by_hash + 50);
}

/// Adds `count` jobs as fast as Redis takes them.
async fn add_many(redis: &Redis, count: u64) {
    let fill = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'job', ARGV[2]) end";
    let (count, job) = (count.to_string(), test_job("quiet", 0, 0));
    redis.cmd(&["EVAL", fill, "1", STREAM, &count, &job]).await;
}

#[tokio::test]
async fn a_long_backlog_is_not_trimmed_by_anything() {
    let app = TestApp::start().await;
    let redis = &app.redis;
    add_many(redis, 20_000).await;
    for _ in 0..3 {
        app.registered(json!({})).await;
    }
    assert_eq!(redis.xlen().await, 20_003, "without a worker");

    // A paused worker moves due jobs to the stream, and reads nothing.
    redis.cmd(&["HSET", STATE, "paused", "1"]).await;
    let worker = Process::test_worker(redis).start();
    worker.wait_for_log("paused", PATIENCE).await;
    let due = format!("1-0:{}", test_job("quiet", 0, 0));
    redis.cmd(&["ZADD", SCHEDULED, "1", &due]).await;
    eventually("it is promoted", PATIENCE, async || {
        (redis.scheduled().await == 0).then_some(())
    })
    .await;
    assert_eq!(redis.xlen().await, 20_004, "with a paused worker");

    redis.cmd(&["HSET", STATE, "paused", "0"]).await;
    eventually("all have run", 3 * PATIENCE, async || {
        // The three jobs of the API wait for their three minutes.
        (redis.xlen().await == 0 && redis.scheduled().await == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_halted_worker_costs_no_job_of_a_long_backlog() {
    let app = TestApp::start().await;
    let worker = Process::test_worker(&app.redis).start();
    app.redis.wait_for_reader().await;
    worker.stop();
    add_many(&app.redis, 20_000).await;
    app.registered(json!({"delay": "0s"})).await;
    assert_eq!(app.redis.xlen().await, 20_001);
    worker.cont();
    app.drained(3 * PATIENCE).await;
}

/// Makes Redis deliver jobs again, by `undo`, while they run. Checks that they run on, and only
/// once.
async fn delivers_again_what_runs(undo: &[&str]) {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    for n in [1, 2] {
        redis.add_test_job("sleep", n, 1500).await;
    }
    for start in ["start 1", "start 2"] {
        worker.wait_for_line(|line| line == start, PATIENCE).await;
    }
    redis.cmd(undo).await;
    // The read that delivers this job delivers the others again.
    redis.add_test_job("sleep", 3, 0).await;
    worker.wait_for_line(|line| line == "end 3", PATIENCE).await;
    redis.drained(PATIENCE).await;
    for n in 1..=3 {
        assert_eq!(worker.count(&format!("start {n}")), 1, "{undo:?}: job {n}");
    }
}

#[tokio::test]
async fn a_group_that_is_created_anew_starts_no_running_job_again() {
    delivers_again_what_runs(&["XGROUP", "DESTROY", STREAM, GROUP]).await;
}

#[tokio::test]
async fn a_group_that_is_set_back_starts_no_running_job_again() {
    delivers_again_what_runs(&["XGROUP", "SETID", STREAM, GROUP, "0"]).await;
}

#[tokio::test]
async fn a_group_that_is_set_back_starts_no_claimed_job_again() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    redis.reclaiming().await;
    redis.add_abandoned(&[test_job("sleep", 1, 2500)], 1).await;
    let start = "start 1";
    worker.wait_for_line(|line| line == start, PATIENCE).await;
    // A read now also delivers the entry that the worker has claimed.
    redis.cmd(&["XGROUP", "SETID", STREAM, GROUP, "0"]).await;
    redis.add_test_job("sleep", 2, 0).await;
    worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
    assert_eq!(worker.count("end 1"), 0, "too slow: it should still run");
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count(start), 1);
}

#[tokio::test]
async fn a_group_that_is_set_back_starts_no_job_again_whose_delivery_had_been_lost() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = Process::test_worker(&redis).redis_addr(wire.addr()).start();
    redis.wait_for_reader().await;
    wire.lose_reply_with("7777");
    redis.add_test_job("sleep", 7777, 2500).await;
    let start = "start 7777";
    worker.wait_for_line(|line| line == start, PATIENCE).await;
    // A read now also delivers the entry that the orphan check has found.
    redis.cmd(&["XGROUP", "SETID", STREAM, GROUP, "0"]).await;
    redis.add_test_job("sleep", 2, 0).await;
    worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
    assert_eq!(worker.count("end 7777"), 0, "too slow: it should still run");
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count(start), 1);
}

#[tokio::test]
async fn a_read_that_arrives_after_the_job_has_ended_here_does_not_start_it_again() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let patient = ("APP__CACHE_SERVER__REDIS__JOBQUEUE__READ_TIMEOUT", "10s");
    let worker = Process::test_worker(&redis).redis_addr(wire.addr());
    let worker = worker.envs(&[patient]).start();
    redis.wait_for_reader().await;
    redis.add_test_job("sleep", 7777, 2000).await;
    let start = "start 7777";
    worker.wait_for_line(|line| line == start, PATIENCE).await;
    // The job is delivered to this worker again while it runs. The reply arrives after the job is
    // settled.
    wire.delay_reply_with("7777", Duration::from_millis(2500));
    redis.cmd(&["XGROUP", "SETID", STREAM, GROUP, "0"]).await;
    wire.lost(PATIENCE).await;
    assert_eq!(worker.count("end 7777"), 0, "too slow: it should still run");
    redis.drained(PATIENCE).await;
    // The worker reads the next job after the late reply.
    redis.add_test_job("sleep", 1, 0).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    assert_eq!(worker.count(start), 1);
    assert_eq!(worker.count_log("unavailable"), 0, "the reply did come");
}

#[tokio::test]
async fn a_redis_that_lost_a_delivery_starts_no_running_job_again() {
    let redis = Redis::start().await;
    redis.add_test_job("sleep", 1, 4000).await;
    redis.cmd(&["XGROUP", "CREATE", STREAM, GROUP, "0"]).await;
    redis.cmd(&["SAVE"]).await;
    let worker = Process::test_worker(&redis).start();
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis.kill();
    redis.up().await;
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count("start 1"), 1);
}
