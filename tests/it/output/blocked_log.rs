//! A stderr that nobody reads. No part of a program waits for it, signals still work, and dropped
//! lines are counted.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::support::{
    PATIENCE, Process, ProcessBuilder, Redis, SmallPipe, eventually, http_client, test_job, within,
};

/// How long an event may take on a busy machine when nothing delays it.
const SOON: Duration = Duration::from_secs(3);

fn print(n: usize) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"job {n}"}}}}"#)
}

/// A program that is ready. Its log is full from now on.
async fn with_blocked_log(program: ProcessBuilder) -> (Process, SocketAddr, SmallPipe) {
    let mut log = SmallPipe::new();
    let process = program.stderr_to(log.end()).start();
    let addr = log.listening().await;
    status_becomes(addr, "/ready", 200).await;
    log.fill();
    (process, addr, log)
}

async fn status_becomes(addr: SocketAddr, path: &str, status: u16) {
    eventually(format!("{path} is {status}"), PATIENCE, async || {
        let response = http_client().get(format!("http://{addr}{path}")).send();
        (response.await.ok()?.status() == status).then_some(())
    })
    .await;
}

async fn stops(process: &Process, limit: Duration) {
    let asked = Instant::now();
    process.term();
    let status = process.wait_exit(PATIENCE).await;
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < limit, "{took:?}");
}

#[tokio::test]
async fn a_worker_whose_log_nobody_reads_works_and_stops() {
    let redis = Redis::start().await;
    let (worker, addr, _log) = with_blocked_log(Process::jobqueue(&redis)).await;
    redis.add_jobs((0..10).map(print)).await;
    worker.wait_for_lines(10, SOON).await;
    for n in 10..40 {
        redis.add_job(r#"{"type":7}"#).await;
        redis.add_job(&print(n)).await;
    }
    worker.wait_for_lines(40, SOON).await;
    redis.drained(SOON).await;
    assert_eq!(redis.dead_letters().await.len(), 30);
    status_becomes(addr, "/health", 200).await;
    stops(&worker, Duration::from_millis(1_200)).await;
}

#[tokio::test]
async fn an_outage_that_nobody_reads_of_is_overcome() {
    let redis = Redis::start().await;
    let (worker, worker_addr, _log) = with_blocked_log(Process::jobqueue(&redis)).await;
    let (server, server_addr, _log) = with_blocked_log(Process::server(&redis)).await;
    for n in 0..3 {
        redis.cmd(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        let body = format!(r#"{{"message":"job {n}","delay":"0s"}}"#);
        eventually("a job is registered", SOON, async || {
            let request = http_client()
                .post(format!("http://{server_addr}/api/dm-jobqueue/register"))
                .header("content-type", "application/json")
                .body(body.clone());
            (request.send().await.ok()?.status() == 201).then_some(())
        })
        .await;
        worker.wait_for_lines(n + 1, SOON).await;
    }
    status_becomes(worker_addr, "/ready", 200).await;
    status_becomes(server_addr, "/ready", 200).await;
    stops(&server, Duration::from_millis(1_200)).await;
    stops(&worker, Duration::from_millis(1_200)).await;
}

#[tokio::test]
async fn what_is_dropped_is_counted_once_the_log_is_read_again() {
    const JOBS: usize = 5_000;
    let redis = Redis::start().await;
    // Each job logs three lines. The worker's last line is logged too.
    let filter = "jobqueue=info,dm_jobqueue::telemetry=warn,dm_jobqueue::service::jobqueue::server=info,\
        dm_jobqueue::service::jobqueue::worker::trail=debug";
    let worker = Process::jobqueue(&redis).env("RUST_LOG", filter);
    let (worker, _, log) = with_blocked_log(worker).await;
    redis.add_jobs((0..JOBS).map(print)).await;
    redis.drained(PATIENCE).await;
    let log = log.read();
    log.wait_for("log lines were dropped", SOON).await;
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
    eventually("the log ends", PATIENCE, async || log.ended().then_some(())).await;
    let lines = log.lines();
    let dropped = lines
        .iter()
        .filter_map(|line| line.text.split_once("dropped="))
        .map(|(_, count)| count.trim().parse::<usize>().unwrap())
        .sum::<usize>();
    let seen = lines
        .iter()
        .filter(|line| line.text.contains("jobqueue::worker::trail: "))
        .count();
    assert!(
        dropped > 0 && seen > 1_000,
        "{seen} seen, {dropped} dropped"
    );
    assert_eq!(seen + dropped, 3 * JOBS);
    // The worker's last line is never dropped.
    assert!(lines.last().unwrap().text.contains("worker stopped"));
}

#[tokio::test]
async fn a_panic_waits_for_no_log() {
    let redis = Redis::start().await;
    let log = SmallPipe::new();
    log.fill();
    let worker = Process::test_worker(&redis).stderr_to(log.end()).start();
    for n in 0..20 {
        redis.add_job(&test_job("panic", n, 0)).await;
    }
    redis.add_job(&test_job("sleep", 20, 0)).await;
    worker
        .wait_for_line(|line| line == "end 20", PATIENCE)
        .await;
    eventually("every attempt has failed", SOON, async || {
        (redis.scheduled().await == 20).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_one_log_line() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    redis.add_job(&test_job("panic", 1, 0)).await;
    let line = worker.wait_for_log("panicked as asked", PATIENCE).await;
    assert!(
        line.text.contains("ERROR") && line.text.contains("worker_program.rs"),
        "{}",
        line.text
    );
}

#[tokio::test]
async fn a_second_signal_ends_a_process_whose_log_nobody_reads() {
    let redis = Redis::start().await;
    let log = SmallPipe::new();
    log.fill();
    let worker = Process::test_worker(&redis).stderr_to(log.end()).start();
    redis.add_job(&test_job("hang", 1, 0)).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    worker.term();
    let early = within(Duration::from_millis(300), async || worker.exited()).await;
    assert!(early.is_none(), "it waits for its job: {early:?}");
    let asked = Instant::now();
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(1));
    assert!(asked.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn two_signals_end_a_halted_process_when_it_goes_on() {
    let redis = Redis::start().await;
    for start in [Process::jobqueue, Process::server] {
        let process = start(&redis).start();
        process.wait_ready(PATIENCE).await;
        process.stop();
        process.term();
        process.int();
        process.cont();
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), Some(1));
    }
}

#[tokio::test]
async fn a_signal_while_a_program_starts_ends_it() {
    let redis = Redis::start().await;
    for start in [Process::jobqueue, Process::server] {
        for n in 0..10 {
            let process = start(&redis).start();
            let moment = Duration::from_micros(500) * n * n;
            within(moment, async || process.exited()).await;
            process.term();
            let status = process.wait_exit(SOON).await;
            let before_it_could_see_it = status.signal() == Some(15);
            assert!(
                status.code() == Some(0) || before_it_could_see_it,
                "{moment:?}: {status}"
            );
        }
    }
}

#[tokio::test]
async fn a_refusal_to_start_waits_for_no_log() {
    let redis = Redis::reserve();
    for start in [Process::jobqueue, Process::server] {
        for (variable, value) in [("APP__JOBQUEUE__LEASE", "abc"), ("RUST_LOG", "a=b=c")] {
            let log = SmallPipe::new();
            log.fill();
            let process = start(&redis).env(variable, value).stderr_to(log.end());
            let status = process.start().wait_exit(SOON).await;
            assert_eq!(status.code(), Some(78));
        }
    }
}
