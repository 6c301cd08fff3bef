//! How many jobs a worker takes. It takes short jobs ahead of its free slots, but no long jobs. It
//! takes no more jobs while it cannot settle.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::support::{
    GROUP, LEASE, LONG_LEASE, PATIENCE, Pending, Process, ProcessBuilder, Redis, STREAM, SlowLine,
    eventually, within,
};

const LEASE_MS: u64 = 15_000;
/// The largest number of jobs that a worker fetches ahead of its slots from a Redis that is near.
const MAX_AHEAD: usize = 512;

fn sleep(n: usize, ms: u64) -> String {
    json!({"type": "test:sleep", "payload": {"n": n, "ms": ms}}).to_string()
}

fn quiet(_: usize) -> String {
    r#"{"type":"test:quiet"}"#.to_owned()
}

fn worker(redis: &Redis, concurrency: &str) -> ProcessBuilder {
    Process::test_worker(redis)
        .envs(&LONG_LEASE)
        .env("APP__JOBQUEUE__CONCURRENCY", concurrency)
        .env("APP__JOBQUEUE__AHEAD", &MAX_AHEAD.to_string())
}

fn is_put_back(entry: &Pending) -> bool {
    entry.idle_ms >= LEASE_MS
}

fn starts(worker: &Process) -> BTreeMap<usize, usize> {
    let mut starts = BTreeMap::new();
    for line in worker.stdout() {
        if let Some(n) = line.text.strip_prefix("start ") {
            *starts.entry(n.parse().unwrap()).or_default() += 1;
        }
    }
    starts
}

#[tokio::test]
async fn what_waits_behind_a_long_job_is_put_back_and_run_by_an_idle_worker() {
    let redis = Redis::start().await;
    // The short jobs set a pace. At this pace the worker fetches ahead, up to the long job and the
    // jobs behind it.
    let jobs = (0..4_000).map(quiet).chain([sleep(0, 60_000)]);
    let ids = redis
        .add_jobs(jobs.chain((1..=40).map(|n| sleep(n, 0))))
        .await;
    let long = ids[4_000].clone();
    let first = worker(&redis, "1").start();
    first
        .wait_for_line(|line| line == "start 0", PATIENCE)
        .await;
    let before = redis.entries().await;
    let put_back = eventually("all but the long one are put back", PATIENCE, async || {
        let mut entries = redis.pending_entries().await;
        entries.retain(|entry| entry.id != long);
        entries.iter().all(is_put_back).then_some(entries)
    })
    .await;
    eprintln!("{} had been fetched ahead", put_back.len());
    assert!(
        !put_back.is_empty(),
        "nothing was fetched ahead: the test shows nothing"
    );
    assert!(
        put_back.iter().all(|entry| entry.deliveries == 0),
        "{put_back:?}"
    );
    redis.reclaiming().await;
    let second = worker(&redis, "1").start();
    second.wait_for_log("connected to redis", PATIENCE).await;
    for n in 1..=40 {
        let end = format!("end {n}");
        // The reclaim interval is 300 ms, and the lease is fifteen seconds.
        second
            .wait_for_line(|line| line == end, Duration::from_secs(4))
            .await;
    }
    assert_eq!(starts(&second).len(), 40);
    assert!(starts(&second).values().all(|count| *count == 1));
    assert_eq!(starts(&first), BTreeMap::from([(0, 1)]));
    eventually("only the long one is left", PATIENCE, async || {
        (redis.entries().await == before[before.len() - 41..before.len() - 40]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_waits_behind_a_long_job_is_put_back_as_soon_as_the_worker_stops() {
    let redis = Redis::start().await;
    let jobs = (0..4_000).map(quiet).chain([sleep(0, 60_000)]);
    let ids = redis
        .add_jobs(jobs.chain((1..=200).map(|n| sleep(n, 0))))
        .await;
    let worker = worker(&redis, "1").start();
    worker
        .wait_for_line(|line| line == "start 0", PATIENCE)
        .await;
    worker.term();
    // This is long before the running job ends or is cut off.
    let put_back = eventually(
        "those that wait are put back",
        Duration::from_secs(4),
        async || {
            let mut entries = redis.pending_entries().await;
            entries.retain(|entry| entry.id != ids[4_000]);
            entries.iter().all(is_put_back).then_some(entries)
        },
    )
    .await;
    assert!(
        !put_back.is_empty(),
        "nothing was fetched ahead: the test shows nothing"
    );
    assert!(
        put_back.iter().all(|entry| entry.deliveries == 0),
        "{put_back:?}"
    );
    assert!(worker.exited().is_none());
    assert_eq!(starts(&worker), BTreeMap::from([(0, 1)]));
}

#[tokio::test]
async fn a_worker_holds_no_more_long_jobs_than_it_has_slots() {
    let redis = Redis::start().await;
    let jobs = (0..4_000)
        .map(quiet)
        .chain((0..1_200).map(|n| sleep(n, 60_000)));
    redis.add_jobs(jobs).await;
    let worker = worker(&redis, "2").start();
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let held = async || {
        let entries = redis.pending_entries().await;
        let held = entries.iter().filter(|entry| !is_put_back(entry)).count();
        (held, entries.len())
    };
    let (_, touched) = eventually("it holds what it runs", PATIENCE, async || {
        let (held, all) = held().await;
        (held == 2).then_some((held, all))
    })
    .await;
    assert!(touched <= 2 + MAX_AHEAD, "{touched}");
    // The worker leaves alone the jobs that it has put back, and fetches no others in their place.
    let more = within(Duration::from_secs(2), async || {
        let now = held().await;
        (now != (2, touched)).then_some(now)
    });
    if let Some((held, all)) = more.await {
        panic!("holds {held}, and has touched {all}; had touched {touched}");
    }
}

#[tokio::test]
async fn a_worker_that_cannot_settle_stops_fetching() {
    const JOBS: u64 = 2_000;
    let redis = Redis::start().await;
    redis.cmd(&["ACL", "SETUSER", "default", "-xack"]).await;
    let worker = worker(&redis, "10").start();
    let message = |n| format!(r#"{{"type":"demo:delay_print","payload":{{"message":"job {n}"}}}}"#);
    redis.add_jobs((0..JOBS).map(message)).await;
    worker.wait_for_log("acknowledge", PATIENCE).await;
    let bound = 2 * (MAX_AHEAD + 10) as u64;
    let over = within(Duration::from_secs(2), async || {
        let pending = redis.pending().await;
        (pending > bound).then_some(pending)
    });
    if let Some(pending) = over.await {
        panic!("{pending} are pending, expected at most {bound}");
    }
    let pending = redis.pending().await;
    eprintln!("{pending} pending, {bound} at most");
    assert!(
        pending >= MAX_AHEAD as u64,
        "it stopped too early: {pending}"
    );
    redis.cmd(&["ACL", "SETUSER", "default", "+xack"]).await;
    redis.drained(PATIENCE * 2).await;
    worker.term();
    worker.wait_exit(PATIENCE).await;
    let lines = worker.stdout().into_iter();
    let lines = lines.filter(|line| line.text.contains("] job ")).count();
    assert_eq!(lines as u64, JOBS, "each ran once");
    let groups: Vec<redis::Value> = redis.query(&["XPENDING", STREAM, GROUP]).await;
    assert_eq!(groups[0], redis::Value::Int(0));
}

/// Long jobs behind short ones, and two workers that are `ROUND_TRIP` away from Redis.
#[tokio::test]
async fn long_jobs_are_shared_with_another_worker_when_redis_is_far_away() {
    const ROUND_TRIP: Duration = Duration::from_millis(5);
    for (long_ms, count, at_least) in [(1_000, 20, 10), (5, 1_000, 300)] {
        let redis = Redis::start().await;
        let line = SlowLine::to(redis.addr()).await;
        line.set_delay(ROUND_TRIP / 2);
        let workers = [(); 2].map(|()| {
            let worker = Process::test_worker(&redis).envs(&[LEASE]);
            worker.redis_addr(line.addr()).start()
        });
        for worker in &workers {
            worker.wait_for_log("connected to redis", PATIENCE).await;
        }
        let jobs = (0..4_000).map(quiet);
        let jobs = jobs.chain((0..count).map(|n| sleep(n, long_ms)));
        redis.add_jobs(jobs).await;
        redis.drained(PATIENCE).await;
        let shares = [&workers[0], &workers[1]].map(|worker| starts(worker).len());
        eprintln!("jobs of {long_ms} ms: {shares:?}");
        assert_eq!(shares[0] + shares[1], count, "each ran once");
        assert!(shares.iter().all(|share| *share >= at_least), "{shares:?}");
    }
}
