//! A line to Redis that carries 1 or 4 Mbit/s. Every kind of job ends in about the time that its
//! bytes need, and a full line is not an outage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    DEAD, LEASE, MBIT, PATIENCE, Pending, Process, Rate, Redis, SlowLine, TestApp, eventually,
    within,
};

const JOBS: usize = 300;
const JOB_BYTES: usize = 2_000;
/// The deadline of a request, and half a second for a busy machine.
const ANSWERED: Duration = Duration::from_millis(1_500);

/// A job of about `JOB_BYTES`.
fn job(kind: &str, n: usize, rest: &str) -> String {
    let padding = "x".repeat(JOB_BYTES);
    format!(r#"{{"type":"{kind}","payload":{{"n":{n}}},"padding":"{padding}"{rest}}}"#)
}

/// A worker that reaches Redis through a line with this rate.
async fn worker_on(redis: &Redis, rate: Rate, concurrency: &str) -> (Process, SlowLine) {
    let line = SlowLine::to(redis.addr()).await;
    line.set_rate(rate);
    let worker = Process::test_worker(redis)
        .redis_addr(line.addr())
        .envs(&[
            LEASE,
            ("APP__JOBQUEUE__CONCURRENCY", concurrency),
            ("APP__JOBQUEUE__RETRY__INITIAL", "100ms"),
        ])
        .start();
    worker.wait_for_log("worker started", PATIENCE).await;
    worker.wait_for_log("connected to redis", PATIENCE).await;
    (worker, line)
}

/// Twice the time that the line needs to carry each job this many times, and some seconds. The
/// seconds are for delays, backoffs, and finding out how much the line carries.
fn needed(rate: u64, crossings: u32) -> Duration {
    let bytes = u64::try_from(JOBS * JOB_BYTES).unwrap();
    2 * crossings * Duration::from_millis(bytes * 1_000 / rate) + Duration::from_secs(4)
}

/// Adds `JOBS` of these jobs at both rates, and asserts that all are settled in the needed time.
async fn all_settled(jobs: impl Fn(usize) -> String, crossings: u32, dead: u64) {
    let at = async |rate, concurrency| {
        let redis = Redis::start().await;
        let (worker, _line) = worker_on(&redis, Rate::Together(rate), concurrency).await;
        redis.add_jobs((0..JOBS).map(&jobs)).await;
        redis.drained(needed(rate, crossings)).await;
        assert_eq!(redis.query::<u64>(&["XLEN", DEAD]).await, dead);
        assert_eq!(worker.count_log("redis is unavailable"), 0);
        assert!(worker.exited().is_none());
    };
    tokio::join!(at(4 * MBIT, "10"), at(MBIT, "100"));
}

#[tokio::test]
async fn jobs_get_over_a_slow_line() {
    all_settled(|n| job("test:quiet", n, ""), 1, 0).await;
}

#[tokio::test]
async fn delayed_jobs_get_over_a_slow_line() {
    // Each job is fetched once to be parked and once to be run.
    all_settled(|n| job("test:quiet", n, r#","delay_ms":1000"#), 2, 0).await;
}

#[tokio::test]
async fn failing_jobs_get_over_a_slow_line() {
    // Each job is fetched for each of its two attempts. The first attempt may also have to write
    // the job again.
    let dead = u64::try_from(JOBS).unwrap();
    all_settled(|n| job("test:refuse", n, r#","max_retry":1"#), 3, dead).await;
}

#[tokio::test]
async fn malformed_jobs_get_over_a_slow_line() {
    let malformed = |n| job("test:quiet", n, "").replace(r#""test:quiet""#, "7");
    all_settled(malformed, 1, u64::try_from(JOBS).unwrap()).await;
}

#[tokio::test]
async fn all_kinds_of_jobs_at_once_get_over_a_slow_line_with_a_delay() {
    let redis = Redis::start().await;
    let rate = Rate::Each(2 * MBIT);
    let (worker, line) = worker_on(&redis, rate, "10").await;
    line.set_delay(Duration::from_millis(50));
    let jobs = (0..JOBS).map(|n| match n % 4 {
        0 => job("test:quiet", n, ""),
        1 => job("test:quiet", n, r#","delay_ms":1000"#),
        2 => job("test:refuse", n, r#","max_retry":1"#),
        _ => job("test:quiet", n, "").replace(r#""test:quiet""#, "7"),
    });
    redis.add_jobs(jobs).await;
    redis.drained(needed(2 * MBIT, 2)).await;
    let dead: usize = redis.query(&["XLEN", DEAD]).await;
    assert_eq!(dead, JOBS / 2);
    assert_eq!(worker.count_log("redis is unavailable"), 0);
}

#[tokio::test]
async fn a_line_that_is_full_costs_no_running_job_its_lease() {
    const HELD: u64 = 60;
    let redis = Redis::start().await;
    let (worker, line) = worker_on(&redis, Rate::Unlimited, "100").await;
    for n in 0..HELD {
        redis.add_test_job("hang", n, 0).await;
    }
    eventually("they run", PATIENCE, async || {
        let starts = worker.stdout();
        (starts
            .iter()
            .filter(|line| line.text.starts_with("start"))
            .count()
            == 60)
            .then_some(())
    })
    .await;
    let running: BTreeSet<String> = ids(redis.pending_entries().await);
    line.set_rate(Rate::Together(MBIT));
    redis
        .add_jobs((0..JOBS).map(|n| job("test:quiet", n, r#","delay_ms":1000"#)))
        .await;
    let began = Instant::now();
    let lost = within(needed(MBIT, 2), async || {
        let entries = redis.pending_entries().await;
        let renewed = entries.iter().filter(|entry| {
            running.contains(&entry.id) && entry.idle_ms < 2_000 && entry.deliveries == 1
        });
        if renewed.count() < running.len() {
            return Some(format!("{:?}: {entries:#?}", began.elapsed()));
        }
        // The watch ends when the other jobs are settled.
        (redis.xlen().await == HELD && redis.scheduled().await == 0).then(String::new)
    });
    match lost.await {
        Some(lost) => assert!(lost.is_empty(), "a lease ran out after {lost}"),
        None => panic!("the others are not settled: {:?}", redis.backlog().await),
    }
    assert_eq!(worker.count_log("redis is unavailable"), 0);
}

fn ids(entries: Vec<Pending>) -> BTreeSet<String> {
    entries.into_iter().map(|entry| entry.id).collect()
}

/// Registers jobs of `JOB_BYTES` without a pause for `length`, from this many clients. Returns how
/// many times each status came, and the messages of the jobs that were accepted.
async fn burst(
    app: &TestApp,
    clients: usize,
    length: Duration,
) -> (BTreeMap<u16, usize>, BTreeSet<String>) {
    let until = Instant::now() + length;
    let client = async |client: usize| {
        let (mut statuses, mut accepted) = (BTreeMap::<u16, usize>::new(), BTreeSet::new());
        let mut n = 0;
        while Instant::now() < until {
            n += 1;
            let asked = Instant::now();
            let message = format!("{client} {n} {}", "x".repeat(JOB_BYTES));
            let (status, body, _) = app
                .register(json!({"message": message, "delay": "0s"}))
                .await;
            assert!(
                asked.elapsed() <= ANSWERED,
                "{status} after {:?}",
                asked.elapsed()
            );
            *statuses.entry(status.as_u16()).or_default() += 1;
            match status.as_u16() {
                201 => drop(accepted.insert(message)),
                503 => assert!(body["detail"].is_string(), "{body}"),
                other => panic!("{other} is not an answer to this: {body}"),
            }
        }
        (statuses, accepted)
    };
    let all = futures_util::future::join_all((0..clients).map(client)).await;
    let (mut statuses, mut accepted) = (BTreeMap::new(), BTreeSet::new());
    for (some, messages) in all {
        for (status, count) in some {
            *statuses.entry(status).or_default() += count;
        }
        accepted.extend(messages);
    }
    (statuses, accepted)
}

/// Sends more registrations than the line carries, and checks their replies.
async fn overload(clients: usize) {
    const LENGTH: Duration = Duration::from_secs(8);
    let redis = Redis::start().await;
    let line = SlowLine::to(redis.addr()).await;
    let server = Process::server(&redis).redis_addr(line.addr()).start();
    let app = TestApp::around(redis, server).await;
    app.server.wait_ready(PATIENCE).await;
    line.set_rate(Rate::Together(MBIT));
    let (statuses, accepted) = burst(&app, clients, LENGTH).await;
    eventually("a registration after the burst", PATIENCE, async || {
        let last = json!({"message": "last", "delay": "0s"});
        (app.register(last).await.0 == 201).then_some(())
    })
    .await;
    let entries = app.redis.entries().await;
    let stored: BTreeSet<String> = entries
        .iter()
        .map(|(_, fields)| {
            let job: Value = serde_json::from_slice(&fields["job"]).unwrap();
            job["payload"]["message"].as_str().unwrap().to_owned()
        })
        .collect();
    let missing = accepted.difference(&stored).count();
    assert_eq!(missing, 0, "accepted and not stored");
    // The jobs use at least half of the line. The other half is for names and replies.
    let carries = usize::try_from(MBIT * LENGTH.as_secs()).unwrap() / JOB_BYTES;
    assert!(
        accepted.len() >= carries / 2,
        "{} of {carries} accepted: {statuses:?}",
        accepted.len()
    );
    assert_eq!(
        app.server.count_log("redis is unavailable"),
        0,
        "{statuses:?}"
    );
}

#[tokio::test]
async fn registrations_beyond_what_the_line_carries_are_answered_and_the_others_stored() {
    overload(20).await;
}

#[tokio::test]
async fn a_flood_of_registrations_leaves_the_line_its_rate() {
    overload(500).await;
}
