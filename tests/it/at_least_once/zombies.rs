//! A worker that was frozen until other workers took its jobs over, and then wakes. It must not
//! disturb them. When it is given one of its jobs again, it must not start the job again.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::support::{
    GROUP, LEASE, LONG_IDLE, PATIENCE, Process, ProcessBuilder, Redis, STREAM, Wire, eventually,
    stays, test_job,
};

const LEASE_TIME: Duration = Duration::from_secs(2);

/// A consumer that takes entries over and does nothing with them.
const THIEF: &str = "thief";

fn worker(redis: &Redis, name: &str) -> Process {
    // The first retry is so late that it does not run during a test, where it could be mistaken for
    // another run.
    let late = ("APP__JOBQUEUE__RETRY__INITIAL", "1m");
    let worker = Process::test_worker(redis).envs(&[LEASE, late]);
    worker.named(name).start()
}

/// A worker whose lease is longer than the test, and that renews and reclaims often.
fn watchful(redis: &Redis) -> ProcessBuilder {
    Process::test_worker(redis).envs(&[
        ("APP__JOBQUEUE__LEASE", "30s"),
        ("APP__JOBQUEUE__HEARTBEAT", "200ms"),
    ])
}

fn slow(kind: &str, n: u64, ms: u64) -> String {
    format!(r#"{{"type":"test:slow_{kind}","payload":{{"n":{n},"ms":{ms},"limit":99}}}}"#)
}

async fn started(worker: &Process, jobs: RangeInclusive<u64>) {
    for n in jobs {
        let start = format!("start {n}");
        worker.wait_for_line(|line| line == start, PATIENCE).await;
    }
}

/// Waits until a worker has settled all its outcomes. It has when it has exited.
async fn exited(worker: &Process, code: i32) {
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(code));
}

#[tokio::test]
async fn a_zombie_disturbs_nobody_who_runs_its_jobs_now() {
    let redis = Redis::start().await;
    let zombie = worker(&redis, "zombie");
    redis.reclaiming().await;
    // The jobs last longer than the freeze, and end here before they end at the heir.
    let ids = redis
        .add_jobs([
            slow("fail", 1, 8000),
            slow("malformed", 2, 8000),
            test_job("sleep", 3, 8000),
        ])
        .await;
    started(&zombie, 1..=3).await;
    let heir = worker(&redis, "heir");
    heir.wait_for_log("worker started", PATIENCE).await;
    zombie.stop();
    let thawed = tokio::time::Instant::now() + LEASE_TIME * 3;
    started(&heir, 1..=3).await;
    let heirs = redis.pending_entry(&ids[0]).await.unwrap().consumer;
    tokio::time::sleep_until(thawed).await;
    zombie.cont();
    zombie.wait_for_line(|line| line == "end 3", PATIENCE).await;
    exited(&zombie, 0).await;

    assert_eq!(
        heir.count("end 3"),
        0,
        "too slow: the heir should still run"
    );
    let pending = redis.pending_entries().await;
    let owned = pending
        .iter()
        .map(|entry| (entry.id.as_str(), entry.consumer.as_str(), entry.deliveries));
    let expected = [(ids[0].as_str(), heirs.as_str(), 2), (&ids[1], &heirs, 2)];
    assert_eq!(
        owned.collect::<Vec<_>>(),
        expected,
        "only the success counted"
    );
    assert_eq!(
        (redis.scheduled().await, redis.dead_letters().await.len()),
        (0, 0)
    );

    heir.wait_for_line(|line| line == "end 3", PATIENCE).await;
    redis.settled(1, 1).await;
    for n in 1..=3 {
        let start = format!("start {n}");
        assert_eq!(
            (zombie.count(&start), heir.count(&start)),
            (1, 1),
            "{start}"
        );
    }
}

#[tokio::test]
async fn a_zombie_that_inherits_its_own_job_does_not_start_it_again() {
    let redis = Redis::start().await;
    let zombie = worker(&redis, "zombie");
    redis.reclaiming().await;
    let id = redis.add_test_job("sleep", 1, 9000).await;
    started(&zombie, 1..=1).await;
    let me = redis.pending_entry(&id).await.unwrap().consumer;
    let heir = worker(&redis, "heir");
    heir.wait_for_log("worker started", PATIENCE).await;
    zombie.stop();
    started(&heir, 1..=1).await;
    heir.kill();
    zombie.cont();
    eventually("the zombie has it back", PATIENCE, async || {
        let entry = redis.pending_entry(&id).await.expect("it is pending");
        // The claim counted a third delivery that did not happen.
        (entry.consumer == me && entry.deliveries == 2).then_some(())
    })
    .await;
    assert_eq!(
        zombie.count("end 1"),
        0,
        "too slow: the zombie should still run"
    );
    zombie.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
    assert_eq!(zombie.count("start 1"), 1);
}

#[tokio::test]
async fn a_claim_of_what_runs_here_renews_it_and_counts_no_delivery() {
    let redis = Redis::start().await;
    let worker = watchful(&redis).start();
    redis.reclaiming().await;
    let id = redis.add_test_job("sleep", 1, 2500).await;
    started(&worker, 1..=1).await;
    let me = redis.pending_entry(&id).await.unwrap().consumer;
    // This happens twice, because the delivery count must not grow each time.
    for _ in 0..2 {
        redis.hand_over(&id, THIEF, LONG_IDLE).await;
        eventually("it is the worker's, and renewed", PATIENCE, async || {
            let entry = redis.pending_entry(&id).await.expect("it is pending");
            let mine = entry.consumer == me && entry.idle_ms < LONG_IDLE;
            (mine && entry.deliveries == 1).then_some(())
        })
        .await;
    }
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count("start 1"), 1);
}

#[tokio::test]
async fn a_claim_that_arrives_after_the_job_has_ended_here_does_not_start_it_again() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = watchful(&redis).redis_addr(wire.addr()).start();
    redis.reclaiming().await;
    let id = redis.add_test_job("sleep", 7777, 1000).await;
    started(&worker, 7777..=7777).await;
    // The worker claims its own job back while the job runs. The claim's reply comes after the job
    // is settled.
    wire.delay_reply_with("7777", Duration::from_millis(1500));
    redis.hand_over(&id, THIEF, LONG_IDLE).await;
    wire.lost(PATIENCE).await;
    assert_eq!(worker.count("end 7777"), 0, "too slow: it should still run");
    redis.drained(PATIENCE).await;
    let late = Duration::from_secs(2);
    stays("started once", late, async || {
        worker.count("start 7777") == 1
    })
    .await;
    redis.add_test_job("sleep", 1, 0).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
}

#[tokio::test]
async fn a_zombie_cannot_park_or_bury_what_it_has_not_even_seen() {
    let redis = Redis::start().await;
    for unrun in [r#"{"type":"test:quiet","delay_ms":60000}"#, "no job"] {
        let worker = watchful(&redis).start();
        let id = redis.add_unseen(&worker, unrun).await;
        redis.hand_over(&id, THIEF, 0).await;
        worker.cont();
        redis.add_test_job("sleep", 1, 0).await;
        started(&worker, 1..=1).await;
        exited(&worker, 0).await;
        let entry = redis.pending_entry(&id).await.expect("it is pending");
        assert_eq!((entry.consumer.as_str(), entry.deliveries), (THIEF, 1));
        let backlog = redis.backlog().await;
        let places = (backlog.stream, backlog.scheduled, backlog.dead);
        assert_eq!(places, (1, 0, 0), "{unrun}");
        redis.cmd(&["FLUSHALL"]).await;
    }
}

#[tokio::test]
async fn a_zombie_does_not_blame_redis_for_what_another_worker_has_finished() {
    let redis = Redis::start().await;
    let proxy = redis.proxy().await;
    let zombie = Process::test_worker(&redis)
        .redis_addr(proxy.addr())
        .start();
    redis.reclaiming().await;
    let id = redis.add_test_job("sleep", 1, 60_000).await;
    started(&zombie, 1..=1).await;
    proxy.disable().await.unwrap();
    // This is what a worker does that takes the job over and finishes it.
    redis.hand_over(&id, THIEF, 0).await;
    redis.cmd(&["XACK", STREAM, GROUP, &id]).await;
    redis.cmd(&["XDEL", STREAM, &id]).await;
    proxy.enable().await.unwrap();
    let said = zombie.wait_for_log("are gone from redis", PATIENCE).await;
    let why = "another worker took them over and finished them";
    assert!(said.text.contains(why), "{}", said.text);
}
