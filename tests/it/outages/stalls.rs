//! A stalled Redis makes all leases look expired at once. No worker then claims a running job, and
//! a dead worker's jobs are still found.

use std::time::{Duration, Instant};

use crate::support::{GROUP, LEASE, PATIENCE, Process, Redis, STATE, STREAM, eventually, within};

const LEASE_TIME: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_millis(667);
/// How long no worker claims after a stall: a heartbeat, the longest backoff and a second.
const HOLD: Duration = Duration::from_millis(667 + 512 + 1000);

/// Two workers. The first one runs `jobs` jobs that take `ms` each, and the second one is idle.
async fn busy_and_idle(redis: &Redis, jobs: u64, ms: u64) -> (Process, Process) {
    let busy = Process::test_worker(redis).envs(&[LEASE]).start();
    for n in 0..jobs {
        redis.add_test_job("sleep", n, ms).await;
    }
    eventually("all run", PATIENCE, async || {
        (starts(&busy) == jobs).then_some(())
    })
    .await;
    let idle = Process::test_worker(redis).envs(&[LEASE]).start();
    idle.wait_for_log("connected to redis", PATIENCE).await;
    // The hold of a new queue must be over, because it would hide the effect of the stall.
    eventually("the workers may claim", PATIENCE, async || {
        let state = redis.state().await;
        let hold: u64 = state.get("reclaim_hold_ms")?.parse().unwrap();
        (redis.now_ms().await > hold).then_some(())
    })
    .await;
    (busy, idle)
}

/// The number of handlers that were started.
fn starts(worker: &Process) -> u64 {
    let lines = worker.stdout().into_iter();
    lines.filter(|line| line.text.starts_with("start")).count() as u64
}

/// Makes every lease look an hour old, and runs the Lua code `mark` on the state hash in the same
/// step.
async fn age_leases(redis: &Redis, mark: &str) {
    let script = format!(
        "local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        {mark}
        for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 100)) do
            redis.call('XCLAIM', KEYS[1], ARGV[1], entry[2], 0, entry[1],
                'IDLE', 3600000, 'JUSTID')
        end"
    );
    redis
        .cmd(&["EVAL", &script, "2", STREAM, STATE, GROUP])
        .await;
}

/// Spoils the mark and the leases of a halted worker, which therefore cannot renew. Checks that the
/// other worker claims nothing for as long as a renewal may take.
async fn nobody_claims_after(mark: &str) {
    let redis = Redis::start().await;
    let job_ms = u64::try_from(HOLD.as_millis()).unwrap() + 3000;
    let (busy, idle) = busy_and_idle(&redis, 10, job_ms).await;
    busy.stop();
    age_leases(&redis, mark).await;
    let claimed = within(HOLD - Duration::from_millis(500), async || {
        let pending = redis.pending_entries().await;
        pending
            .iter()
            .any(|entry| entry.deliveries > 1)
            .then_some(pending)
    });
    assert_eq!(claimed.await, None, "{mark}");
    busy.cont();
    redis.drained(2 * PATIENCE).await;
    assert_eq!((starts(&busy), starts(&idle)), (10, 0), "{mark}");
}

#[tokio::test]
async fn leases_that_look_an_hour_old_after_a_stall_are_not_claimed() {
    tokio::join!(
        nobody_claims_after("redis.call('HSET', KEYS[2], 'reclaim_seen_ms', now - 3600000)"),
        nobody_claims_after("redis.call('HSET', KEYS[2], 'reclaim_seen_ms', now + 3600000)"),
        nobody_claims_after("redis.call('HDEL', KEYS[2], 'reclaim_seen_ms')"),
    );
}

#[tokio::test]
async fn a_lease_that_is_over_without_a_stall_is_claimed_at_once() {
    let redis = Redis::start().await;
    let (busy, idle) = busy_and_idle(&redis, 10, 10_000).await;
    busy.stop();
    age_leases(&redis, "").await;
    let aged = Instant::now();
    let line = idle
        .wait_for_line(|line| line.starts_with("start"), PATIENCE)
        .await;
    assert!(line.at - aged < HOLD, "{:?}", line.at - aged);
}

#[tokio::test]
async fn a_frozen_redis_costs_no_running_job_its_lease() {
    let redis = Redis::start().await;
    let (busy, idle) = busy_and_idle(&redis, 10, 9000).await;
    redis.freeze();
    // This is the length of the fault: two leases.
    tokio::time::sleep(2 * LEASE_TIME).await;
    redis.resume();
    redis.drained(2 * PATIENCE).await;
    for n in 0..10 {
        let starts = busy.count(&format!("start {n}")) + idle.count(&format!("start {n}"));
        assert_eq!(starts, 1, "job {n}");
    }
}

#[tokio::test]
async fn a_worker_that_died_before_a_freeze_is_inherited_after_it() {
    let redis = Redis::start().await;
    let (doomed, heir) = busy_and_idle(&redis, 10, 60_000).await;
    doomed.kill();
    redis.freeze();
    tokio::time::sleep(2 * LEASE_TIME).await;
    redis.resume();
    let resumed = Instant::now();
    eventually("all are inherited", 2 * PATIENCE, async || {
        (starts(&heir) == 10).then_some(())
    })
    .await;
    let bound = LEASE_TIME + HEARTBEAT + Duration::from_secs(4);
    assert!(resumed.elapsed() <= bound, "{:?}", resumed.elapsed());
}

#[tokio::test]
async fn a_cursor_that_is_no_entry_id_keeps_nobody_from_reclaiming() {
    let redis = Redis::start().await;
    let (busy, idle) = busy_and_idle(&redis, 1, 60_000).await;
    for cursor in ["", "x", "99999999999999999999-0"] {
        redis.cmd(&["HSET", STATE, "reclaim_cursor", cursor]).await;
        eventually(format!("{cursor:?} is replaced"), PATIENCE, async || {
            (redis.state().await["reclaim_cursor"] == "0-0").then_some(())
        })
        .await;
    }
    busy.kill();
    idle.wait_for_line(|line| line == "start 0", PATIENCE).await;
    assert_eq!(idle.count_log("redis refuses"), 0);
}
