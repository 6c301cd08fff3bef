//! A stdout or a stderr that takes no more lines, because its reader is gone or the disk is full.

use std::fs::File;
use std::io::pipe;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{LONG_LEASE, PATIENCE, Process, Redis};

const JOBS: usize = 30;

fn print(n: usize) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"job {n}"}}}}"#)
}

/// Asserts that a worker with a failing stdout charges no job for it, puts all jobs back and exits
/// with 74. Another worker then runs the jobs.
async fn nobody_is_charged(stdout: impl Into<Stdio>, reason: &str) {
    let redis = Redis::start().await;
    redis.add_jobs((0..JOBS).map(print)).await;
    let before = redis.entries().await;
    let first = Process::jobqueue(&redis)
        .envs(&LONG_LEASE)
        .stdout_to(stdout)
        .start();
    let status = first.wait_exit(PATIENCE).await;
    assert_eq!(status.code(), Some(74));
    first.wait_for_log(reason, PATIENCE).await;
    assert_eq!(redis.entries().await, before, "no attempt is charged");
    let pending = redis.pending_entries().await;
    assert!(!pending.is_empty());
    for entry in pending {
        assert_eq!(entry.deliveries, 0, "{entry:?}");
        assert!(entry.idle_ms >= 15_000, "not put back: {entry:?}");
    }
    let second = Process::jobqueue(&redis).envs(&LONG_LEASE).start();
    second.wait_for_lines(JOBS, Duration::from_secs(8)).await;
    redis.drained(PATIENCE).await;
    second.term();
    second.wait_exit(PATIENCE).await;
    assert_eq!(second.stdout().len(), JOBS);
    assert_eq!(redis.dead_letters().await, []);
}

#[tokio::test]
async fn a_reader_that_is_gone_is_not_the_jobs_fault() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    nobody_is_charged(writer, "Broken pipe").await;
}

#[tokio::test]
async fn a_full_disk_is_not_the_jobs_fault() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    nobody_is_charged(full, "No space left on device").await;
}

#[tokio::test]
async fn a_reader_that_leaves_under_load_loses_no_job() {
    use std::io::{BufRead, BufReader};
    let redis = Redis::start().await;
    let (reader, writer) = pipe().unwrap();
    let first = Process::jobqueue(&redis)
        .envs(&LONG_LEASE)
        .stdout_to(writer)
        .start();
    let second = Process::jobqueue(&redis).envs(&LONG_LEASE).start();
    redis.reclaiming().await;
    let jobs: Vec<String> = (0..3_000).map(print).collect();
    redis.add_jobs(jobs).await;
    // The reader leaves as `head` does.
    let head = tokio::task::spawn_blocking(move || {
        let lines = BufReader::with_capacity(64, reader).lines().take(100);
        lines.map(Result::unwrap).collect::<Vec<_>>()
    });
    assert_eq!(head.await.unwrap().len(), 100);
    assert_eq!(first.wait_exit(PATIENCE).await.code(), Some(74));
    redis.drained(PATIENCE).await;
    assert_eq!(redis.dead_letters().await, []);
    // The jobs whose lines the pipe had taken were done. The other worker runs all other jobs.
    let printed = second.stdout().len();
    assert!(printed > 0, "nothing was left to the other worker");
}

/// Asserts that a worker with a failing stderr runs jobs, buries an entry that is not a job (which
/// it would log), and stops when it is told to.
async fn works_without_a_log(stderr: impl Into<Stdio>) {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).stderr_to(stderr).start();
    redis.add_job("no job").await;
    redis.add_job(&print(1)).await;
    worker.wait_for_lines(1, PATIENCE).await;
    redis.drained(PATIENCE).await;
    assert_eq!(redis.dead_letters().await.len(), 1);
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn a_log_whose_reader_is_gone_stops_no_worker() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    works_without_a_log(writer).await;
}

#[tokio::test]
async fn a_log_on_a_full_disk_stops_no_worker() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    works_without_a_log(full).await;
}
