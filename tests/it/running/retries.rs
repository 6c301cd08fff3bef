//! Failed attempts: how many times a job runs, when it runs again by Redis' clock, and how it is
//! stored meanwhile.

use serde_json::{Value, json};

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis, eventually};

/// How late an event may be on a busy machine.
const SLACK_MS: u64 = 400;

fn with_backoff(worker: ProcessBuilder, initial: &str, max: &str, jitter: &str) -> ProcessBuilder {
    worker
        .env("APP__JOBQUEUE__RETRY__INITIAL", initial)
        .env("APP__JOBQUEUE__RETRY__MAX", max)
        .env("APP__JOBQUEUE__RETRY__JITTER", jitter)
}

/// A job of the test worker that fails before attempt number `succeeds_at`.
fn failing(n: u64, succeeds_at: u64, max_retry: Option<u64>) -> String {
    let mut job = json!({"type": "test:fail", "payload": {"n": n, "ms": succeeds_at}});
    if let Some(max_retry) = max_retry {
        job["max_retry"] = max_retry.into();
    }
    job.to_string()
}

/// Waits until the worker has finished all of the jobs. Returns how many times each job was
/// started.
async fn starts<const N: usize>(redis: &Redis, worker: &Process, jobs: [u64; N]) -> [usize; N] {
    redis.drained(PATIENCE).await;
    worker.term();
    // At the worker's end its output has been read completely.
    worker.wait_exit(PATIENCE).await;
    let lines = worker.stdout();
    jobs.map(|n| {
        let start = format!("start {n}");
        lines.iter().filter(|line| line.text == start).count()
    })
}

fn entry_ms(entry_id: &str) -> u64 {
    entry_id.split_once('-').unwrap().0.parse().unwrap()
}

/// A scheduled job: the entry that it came from, the job itself, and its due time.
fn parsed((member, due_ms): (String, u64)) -> (String, Value, u64) {
    let (entry, job) = member.split_once(':').unwrap();
    (entry.to_owned(), serde_json::from_str(job).unwrap(), due_ms)
}

/// Waits until the scheduled set has the job after `attempt` failed attempts.
async fn scheduled_after(redis: &Redis, attempt: u64) -> (String, Value, u64) {
    let what = format!("the job is scheduled after failure {attempt}");
    eventually(what, PATIENCE, async || {
        let mut jobs = redis.scheduled_jobs().await.into_iter().map(parsed);
        jobs.find(|(_, job, _)| job["attempt"] == attempt)
    })
    .await
}

#[tokio::test]
async fn the_backoff_doubles_up_to_its_limit_by_redis_clock() {
    let redis = Redis::start().await;
    let worker = with_backoff(Process::test_worker(&redis), "500ms", "1200ms", "0").start();
    redis.add_job(&failing(1, 3, None)).await;
    let mut not_before = 0;
    for (attempt, backoff_ms) in [(1, 500), (2, 1000), (3, 1200)] {
        let (entry, _, due_ms) = scheduled_after(&redis, attempt).await;
        // The entry's id says when this attempt was ready to run.
        let promoted_ms = entry_ms(&entry);
        let waits_ms = due_ms - promoted_ms;
        eprintln!("failure {attempt}: due after {waits_ms} ms, expected {backoff_ms} ms");
        assert!(promoted_ms >= not_before, "attempt {attempt} ran early");
        assert!(waits_ms >= backoff_ms, "{waits_ms}");
        assert!(waits_ms <= backoff_ms + SLACK_MS, "{waits_ms}");
        not_before = due_ms;
    }
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    assert!(redis.now_ms().await >= not_before);
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn jitter_spreads_jobs_that_failed_together_within_its_share() {
    let redis = Redis::start().await;
    let _worker = with_backoff(Process::test_worker(&redis), "10s", "10s", "0.5").start();
    redis.add_jobs((0..60).map(|n| failing(n, 1, None))).await;
    let jobs = eventually("all have failed once", PATIENCE, async || {
        let jobs = redis.scheduled_jobs().await;
        (jobs.len() == 60).then_some(jobs)
    })
    .await;
    let waits = jobs.into_iter().map(parsed);
    let waits: Vec<u64> = waits
        .map(|(entry, _, due)| due - entry_ms(&entry))
        .collect();
    let (least, most) = (*waits.iter().min().unwrap(), *waits.iter().max().unwrap());
    // The jobs share the executor, so the last of them fails a little later.
    assert!(least >= 5_000 && most <= 15_000 + 4 * SLACK_MS, "{waits:?}");
    assert!(least < 8_000 && most > 12_000, "not spread: {waits:?}");
}

#[tokio::test]
async fn ten_retries_are_eleven_runs() {
    let redis = Redis::start().await;
    let worker = with_backoff(Process::test_worker(&redis), "5ms", "20ms", "0.2").start();
    redis.add_job(&failing(1, 99, None)).await;
    redis.add_job(&failing(2, 10, None)).await;
    assert_eq!(starts(&redis, &worker, [1, 2]).await, [11, 11]);
    let dead = redis.dead_letters().await;
    assert_eq!(dead.len(), 1, "the eleventh run of the other succeeded");
    let job: Value = serde_json::from_slice(&dead[0].1["job"]).unwrap();
    assert_eq!(job["payload"]["n"], 1);
    assert_eq!(dead[0].1["attempt"], b"11");
}

#[tokio::test]
async fn no_retries_are_one_run() {
    let redis = Redis::start().await;
    let worker = with_backoff(Process::test_worker(&redis), "5ms", "20ms", "0.2").start();
    redis.add_job(&failing(1, 99, Some(0))).await;
    redis.add_job(&failing(2, 99, Some(1))).await;
    assert_eq!(starts(&redis, &worker, [1, 2]).await, [1, 2]);
    assert_eq!(redis.dead_letters().await.len(), 2);
}

#[tokio::test]
async fn a_job_that_succeeds_at_last_leaves_nothing_behind() {
    let redis = Redis::start().await;
    let worker = with_backoff(Process::test_worker(&redis), "5ms", "20ms", "0.2").start();
    redis.add_job(&failing(1, 3, None)).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    assert_eq!(starts(&redis, &worker, [1]).await, [4]);
    assert_eq!(redis.dead_letters().await, []);
}

#[tokio::test]
async fn a_backoff_of_no_time_is_a_failed_attempt_all_the_same() {
    let redis = Redis::start().await;
    // The delay is at most twice a millisecond, so half of the delays are rounded down to 0.
    let worker = with_backoff(Process::test_worker(&redis), "1ms", "1ms", "1").start();
    redis.add_jobs((0..10).map(|n| failing(n, 99, None))).await;
    let jobs = std::array::from_fn(|n| n as u64);
    assert_eq!(starts(&redis, &worker, jobs).await, [11; 10]);
    for (_, letter) in redis.dead_letters().await {
        assert_eq!(letter["attempt"], b"11");
        assert_eq!(letter["reason"], b"retries used up");
    }
}

#[tokio::test]
async fn a_retry_keeps_what_the_producer_wrote() {
    let redis = Redis::start().await;
    let _worker = with_backoff(Process::test_worker(&redis), "1h", "1h", "0").start();
    let payload = r#"{ "n":1,"ms" : 9, "exact": 1.00, "big":1e400, "text":"\u00e9" }"#;
    let job = format!(r#"{{"type":"test:fail","trace":"00-ab","payload":{payload}}}"#);
    let id = redis.add_job(&job).await;
    let (member, _) = eventually("the job has failed", PATIENCE, async || {
        redis.scheduled_jobs().await.pop()
    })
    .await;
    assert!(member.contains(payload), "{member}");
    assert!(member.contains(r#""trace":"00-ab""#), "{member}");
    assert!(member.contains(&format!(r#""id":"{id}""#)), "{member}");
    assert!(member.contains(r#""attempt":1"#), "{member}");
}
