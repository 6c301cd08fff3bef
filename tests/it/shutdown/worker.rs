//! A worker's end by real signals: which jobs it finishes, which jobs it puts back, when it ends,
//! and with which status.

use std::process::ExitStatus;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{LONG_LEASE, PATIENCE, Pending, Process, ProcessBuilder, Redis, eventually};

/// How much later than promised an event may happen on a busy machine.
const SLACK: Duration = Duration::from_millis(700);
/// Other workers run a job that was put back within a reclaim interval. That is long before the
/// lease of 15 s ends.
const RECLAIM_INTERVAL: Duration = Duration::from_millis(300);
const LEASE: Duration = Duration::from_secs(15);

fn job(kind: &str, n: usize, ms: u64) -> String {
    json!({"type": format!("test:{kind}"), "payload": {"n": n, "ms": ms}}).to_string()
}

fn worker(redis: &Redis, shutdown_timeout: &str) -> ProcessBuilder {
    Process::test_worker(redis)
        .envs(&LONG_LEASE)
        .env("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", shutdown_timeout)
}

/// The exit status, and how long after `asked` it came.
async fn exit(worker: &Process, asked: Instant) -> (ExitStatus, Duration) {
    let status = worker.wait_exit(PATIENCE * 2).await;
    let took = asked.elapsed();
    eprintln!("{status}, {took:?} after the signal");
    (status, took)
}

/// Waits until `wanted` holds for the one pending entry, and returns the entry.
async fn pending(redis: &Redis, wanted: impl Fn(&Pending) -> bool) -> Pending {
    eventually("the entry is pending like that", PATIENCE, async || {
        redis.pending_entries().await.into_iter().find(&wanted)
    })
    .await
}

fn is_put_back(entry: &Pending) -> bool {
    u128::from(entry.idle_ms) >= LEASE.as_millis()
}

#[tokio::test]
async fn an_idle_worker_exits_at_once_and_leaves_the_group() {
    let mut times = Vec::new();
    for signal in [
        Process::term,
        Process::int,
        Process::term,
        Process::int,
        Process::term,
    ] {
        let redis = Redis::start().await;
        let worker = Process::jobqueue(&redis).start();
        // Redis lists a consumer when it has received something.
        redis.add_job(r#"{"type":"demo:delay_print"}"#).await;
        worker.wait_for_line(|_| true, PATIENCE).await;
        redis.drained(PATIENCE).await;
        assert_eq!(redis.consumers().await.len(), 1);
        eventually("it waits for jobs", PATIENCE, async || {
            let clients: String = redis.query(&["INFO", "clients"]).await;
            clients.contains("blocked_clients:1\r").then_some(())
        })
        .await;
        let asked = Instant::now();
        signal(&worker);
        let (status, took) = exit(&worker, asked).await;
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(1), "{took:?}");
        times.push(took);
        assert_eq!(redis.consumers().await, []);
    }
    // Without an unblocked read, an exit would take up to a second. By chance a single exit may be
    // quick, but then most of them are not.
    times.sort_unstable();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(200), "{times:?}");
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_under_load_loses_nothing_and_repeats_nothing() {
    const JOBS: usize = 4_000;
    let redis = Redis::start().await;
    let (first, second) = (worker(&redis, "10s").start(), worker(&redis, "10s").start());
    redis.reclaiming().await;
    let message = |n| format!(r#"{{"type":"demo:delay_print","payload":{{"message":"job {n}"}}}}"#);
    redis.add_jobs((0..JOBS).map(message)).await;
    first.wait_for_lines(JOBS / 10, PATIENCE).await;
    let asked = Instant::now();
    first.term();
    let (status, _) = exit(&first, asked).await;
    assert_eq!(status.code(), Some(0));
    let asked = Instant::now();
    redis.drained(PATIENCE * 2).await;
    eprintln!("drained {:?} after the first worker's end", asked.elapsed());
    second.term();
    second.wait_exit(PATIENCE).await;
    let mut printed = Vec::new();
    for line in first.stdout().into_iter().chain(second.stdout()) {
        let number = line
            .text
            .split_once("] job ")
            .map(|(_, n)| n.parse::<usize>());
        printed.extend(number.map(Result::unwrap));
    }
    let by_first = first.stdout().len();
    assert!(
        (JOBS / 10..JOBS).contains(&by_first),
        "{by_first} by the first"
    );
    printed.sort_unstable();
    assert_eq!(printed, (0..JOBS).collect::<Vec<_>>());
}

#[tokio::test]
async fn running_jobs_are_finished_and_no_other_is_started() {
    let redis = Redis::start().await;
    let first = worker(&redis, "10s")
        .env("APP__JOBQUEUE__CONCURRENCY", "2")
        .start();
    redis.add_jobs((0..6).map(|n| job("sleep", n, 1_000))).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let asked = Instant::now();
    first.term();
    let (status, took) = exit(&first, asked).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
    let lines: Vec<String> = first.stdout().into_iter().map(|line| line.text).collect();
    let started = lines
        .iter()
        .filter(|line| line.starts_with("start "))
        .count();
    let ended = lines.iter().filter(|line| line.starts_with("end ")).count();
    assert_eq!((started, ended), (2, 2), "{lines:?}");
    assert_eq!((redis.xlen().await, redis.pending().await), (4, 0));
    assert_eq!(redis.consumers().await, []);
}

#[tokio::test]
async fn a_job_that_outlasts_the_deadline_is_put_back_and_run_by_another_worker() {
    let redis = Redis::start().await;
    let first = worker(&redis, "1s").start();
    // No lease is reclaimed yet, as after a restart of Redis. An entry that was put back has no
    // lease.
    let id = redis.add_job(&job("hang", 1, 0)).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let second = worker(&redis, "1s").start();
    let before = redis.entries().await;
    let asked = Instant::now();
    first.term();
    let (status, took) = exit(&first, asked).await;
    assert_eq!(status.code(), Some(1));
    assert!(took >= Duration::from_secs(1), "it had a second: {took:?}");
    assert!(took < Duration::from_millis(1_500) + SLACK, "{took:?}");
    let line = second
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let again = line.at - asked;
    eprintln!("run again {again:?} after the signal");
    assert!(again <= took + RECLAIM_INTERVAL + SLACK, "{again:?}");
    let entry = pending(&redis, |entry| entry.id == id).await;
    assert_eq!(entry.deliveries, 2, "it was started twice");
    assert_eq!(redis.entries().await, before, "its id, place and delay");
}

#[tokio::test]
async fn what_is_cut_off_keeps_its_delivery_count_for_the_next_worker() {
    let redis = Redis::start().await;
    let first = worker(&redis, "200ms").start();
    let id = redis.add_job(&job("hang", 1, 0)).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    first.term();
    first.wait_exit(PATIENCE).await;
    let entry = pending(&redis, |entry| entry.id == id).await;
    assert!(is_put_back(&entry), "{entry:?}");
    assert_eq!(entry.deliveries, 1);
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_at_once_and_its_jobs_run_elsewhere() {
    let redis = Redis::start().await;
    let short = [("APP__JOBQUEUE__LEASE", "2s")];
    let first = Process::test_worker(&redis).envs(&short).start();
    redis.reclaiming().await;
    redis.add_job(&job("hang", 1, 0)).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let second = Process::test_worker(&redis).envs(&short).start();
    second.wait_for_log("worker started", PATIENCE).await;
    first.term();
    first.wait_for_log("worker stopping", PATIENCE).await;
    let asked = Instant::now();
    first.term();
    let (status, took) = exit(&first, asked).await;
    assert_eq!(status.code(), Some(1));
    assert!(took < Duration::from_secs(1), "{took:?}");
    let line = second
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let after = line.at - asked;
    eprintln!("run again after {after:?}");
    assert!(after <= Duration::from_secs(4), "L + 2 s: {after:?}");
}

/// Adds a handler that does not yield for each executor thread, and waits until each thread runs
/// one.
async fn block_every_thread(redis: &Redis, worker: &Process) {
    let threads = available_parallelism().unwrap().get();
    let jobs = (0..threads).map(|n| job("block", n, 60_000));
    redis.add_jobs(jobs).await;
    eventually("every thread is blocked", PATIENCE, async || {
        let lines = worker.stdout().into_iter();
        let started = lines.filter(|line| line.text.starts_with("start ")).count();
        (started == threads).then_some(())
    })
    .await;
}

#[tokio::test]
async fn handlers_that_block_every_thread_do_not_hold_the_exit() {
    let redis = Redis::start().await;
    let worker = worker(&redis, "500ms").start();
    block_every_thread(&redis, &worker).await;
    let asked = Instant::now();
    worker.term();
    let (status, took) = exit(&worker, asked).await;
    assert_eq!(status.code(), Some(1));
    assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
}

#[tokio::test]
async fn handlers_that_block_every_thread_do_not_hold_off_a_second_signal() {
    let redis = Redis::start().await;
    let worker = worker(&redis, "30s").start();
    block_every_thread(&redis, &worker).await;
    worker.term();
    worker.wait_for_log("worker stopping", PATIENCE).await;
    let asked = Instant::now();
    worker.term();
    let (_, took) = exit(&worker, asked).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn handlers_that_block_every_thread_do_not_hold_up_the_outcomes_of_others() {
    let redis = Redis::start().await;
    let worker = worker(&redis, "1s").start();
    let quiet = r#"{"type":"test:quiet"}"#.to_owned();
    redis.add_jobs(std::iter::repeat_n(quiet, 50)).await;
    block_every_thread(&redis, &worker).await;
    eventually("the others are settled", PATIENCE, async || {
        let left = redis.xlen().await;
        (left == available_parallelism().unwrap().get() as u64).then_some(())
    })
    .await;
    let delayed = r#"{"type":"test:quiet","delay_ms":3600000}"#;
    redis.add_job(delayed).await;
    eventually("a delayed job is parked", PATIENCE, async || {
        (redis.scheduled().await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn leases_are_renewed_through_a_long_shutdown() {
    let redis = Redis::start().await;
    let short = [("APP__JOBQUEUE__LEASE", "1s")];
    let first = Process::test_worker(&redis).envs(&short).start();
    redis.reclaiming().await;
    redis.add_job(&job("sleep", 1, 4_000)).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let second = Process::test_worker(&redis).envs(&short).start();
    second.wait_for_log("worker started", PATIENCE).await;
    let asked = Instant::now();
    first.term();
    let (status, _) = exit(&first, asked).await;
    assert_eq!(status.code(), Some(0));
    redis.drained(PATIENCE).await;
    second.term();
    second.wait_exit(PATIENCE).await;
    assert!(first.stdout().iter().any(|line| line.text == "end 1"));
    assert!(!second.stdout().iter().any(|line| line.text == "start 1"));
}
