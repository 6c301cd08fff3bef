//! The clock of Redis goes back, or forward and back, in a restart, in a failover, or while the
//! server runs. A dead worker's jobs do not wait until the clock shows the old time again, and a
//! living worker's jobs are not taken.

use std::time::{Duration, Instant};

use crate::support::{Clock, GROUP, LEASE, PATIENCE, Process, Redis, STREAM, eventually, test_job};

const LEASE_TIME: Duration = Duration::from_secs(2);
/// The latest time at which a dead worker's jobs run: a lease, a hold of 2.2 s, and time for the
/// looks and for a busy machine.
const TAKEOVER: Duration = Duration::from_secs(2 + 3 + 2);
const HOUR_MS: i64 = 3_600_000;

/// A worker that has started `jobs` of the test worker.
async fn busy(redis: &Redis, jobs: &[String]) -> Process {
    let worker = Process::test_worker(redis).envs(&[LEASE]).start();
    redis.add_jobs(jobs.iter().cloned()).await;
    begun(&worker, jobs.len()).await;
    worker
}

async fn begun(worker: &Process, count: usize) {
    eventually("it has begun its jobs", PATIENCE, async || {
        let lines = worker.stdout().into_iter();
        let starts = lines.filter(|line| line.text.starts_with("start"));
        (starts.count() == count).then_some(())
    })
    .await;
}

fn jobs(kind: &str, numbers: std::ops::Range<u64>, ms: u64) -> Vec<String> {
    numbers.map(|n| test_job(kind, n, ms)).collect()
}

fn starts(worker: &Process, numbers: std::ops::Range<u64>) -> usize {
    numbers.map(|n| worker.count(&format!("start {n}"))).sum()
}

/// Kills a Redis whose clock is `step_ms` ahead, together with a worker. The Redis comes back with
/// the right time.
async fn restarted_with_its_clock_back(step_ms: i64) {
    let clock = Clock::new();
    clock.set(step_ms);
    // The data comes from a snapshot. When Redis loads an append-only file, it moves the file's
    // times to its present time.
    let redis = Redis::builder().clock(&clock).start().await;
    let doomed = busy(&redis, &jobs("hang", 0..10, 0)).await;
    let heir = Process::test_worker(&redis).envs(&[LEASE]).start();
    heir.wait_for_log("connected to redis", PATIENCE).await;
    doomed.kill();
    redis.cmd(&["SAVE"]).await;
    redis.kill();
    clock.set(0);
    redis.up().await;
    let up = Instant::now();
    let what = format!("its jobs run after {step_ms} ms");
    eventually(what, TAKEOVER, async || {
        (starts(&heir, 0..10) == 10).then_some(())
    })
    .await;
    assert!(up.elapsed() >= LEASE_TIME, "the lease was respected");
}

#[tokio::test]
async fn a_dead_workers_jobs_run_after_a_restart_with_the_clock_back() {
    tokio::join!(
        restarted_with_its_clock_back(8000),
        restarted_with_its_clock_back(HOUR_MS)
    );
}

/// A worker dies, and another worker is busy, while the clock of Redis takes these steps with a
/// moment between them.
async fn stepped_while_it_runs(offsets: &[i64]) {
    let clock = Clock::new();
    let redis = Redis::builder().clock(&clock).start().await;
    let doomed = busy(&redis, &jobs("hang", 0..10, 0)).await;
    let length = u64::try_from((TAKEOVER + PATIENCE).as_millis()).unwrap();
    let living = busy(&redis, &jobs("sleep", 10..20, length)).await;
    let heir = Process::test_worker(&redis).envs(&[LEASE]).start();
    heir.wait_for_log("connected to redis", PATIENCE).await;
    redis.reclaiming().await;
    doomed.kill();
    for offset in offsets {
        clock.set(*offset);
        // The time between two steps. Every worker looks at the clock in this time.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let what = format!("its jobs run after {offsets:?}");
    eventually(what, TAKEOVER, async || {
        (starts(&heir, 0..10) == 10).then_some(())
    })
    .await;
    redis.reclaiming().await;
    assert_eq!(starts(&heir, 10..20), 0, "{offsets:?}");
    assert_eq!(starts(&living, 10..20), 10, "{offsets:?}");
    assert_eq!(heir.count_log("different leases"), 0);
}

#[tokio::test]
async fn a_clock_that_steps_back_frees_a_dead_workers_jobs_and_no_others() {
    tokio::join!(
        stepped_while_it_runs(&[-1000]),
        stepped_while_it_runs(&[-HOUR_MS]),
        stepped_while_it_runs(&[-5000, -9000, -9100, -13_000]),
    );
}

#[tokio::test]
async fn a_clock_that_steps_forward_and_back_frees_a_dead_workers_jobs_and_no_others() {
    tokio::join!(
        stepped_while_it_runs(&[HOUR_MS, 0]),
        stepped_while_it_runs(&[1500, 0, 60_000, -60_000]),
    );
}

#[tokio::test]
async fn a_hundred_thousand_deliveries_in_the_future_are_reset_within_seconds() {
    let clock = Clock::new();
    clock.set(HOUR_MS);
    let redis = Redis::builder().clock(&clock).start().await;
    let worker = Process::test_worker(&redis).start();
    worker.wait_for_log("connected to redis", PATIENCE).await;
    // All slots are busy, so the worker claims nothing. It still mends the times of the entries.
    redis.add_jobs(jobs("hang", 0..10, 0)).await;
    begun(&worker, 10).await;
    let script = "for _ = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'job', '{}') end
        redis.call('XREADGROUP', 'GROUP', ARGV[1], 'dead', 'STREAMS', KEYS[1], '>')
        return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1]";
    let last: String = redis.query(&["EVAL", script, "1", STREAM, GROUP]).await;
    let idle_ms = async || {
        let row = ["XPENDING", STREAM, GROUP, &last, &last, "1"];
        let rows: Vec<(String, String, u64, u64)> = redis.query(&row).await;
        rows[0].2
    };
    clock.set(0);
    assert_eq!(idle_ms().await, 0);
    eventually("the last one ages", Duration::from_secs(8), async || {
        (idle_ms().await > 0).then_some(())
    })
    .await;
}
