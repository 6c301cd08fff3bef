//! Leases, their renewal, and what a worker can still do when it has lost a lease. Only the holder
//! of a lease may say how a job ended. A test takes a lease away by freezing the process, or by an
//! `XCLAIM` of another consumer.

use std::time::Duration;

use crate::support::{
    GROUP, LEASE, PATIENCE, Process, Redis, STREAM, eventually, test_job, within,
};

const LEASE_TIME: Duration = Duration::from_secs(2);

/// Another consumer takes the entry over.
async fn steal(redis: &Redis, id: &str) {
    redis
        .cmd(&["XCLAIM", STREAM, GROUP, "stranger", "0", id])
        .await;
}

async fn owner(redis: &Redis, id: &str) -> Option<String> {
    let pending = redis.pending_entries().await;
    pending
        .into_iter()
        .find(|entry| entry.id == id)
        .map(|entry| entry.consumer)
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_cannot_retry_the_job() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    let id = redis.add_job(&test_job("malformed", 0, 0)).await;
    redis.drained(PATIENCE).await;
    assert_eq!(
        redis.dead_letters().await.len(),
        1,
        "the owner may bury a job: {id}"
    );

    // Each of these handlers ends in its own way after its lease was lost.
    for (n, kind) in [(1, "fail"), (2, "malformed"), (3, "panic")] {
        let slow =
            format!(r#"{{"type":"test:slow_{kind}","payload":{{"n":{n},"ms":400,"limit":9}}}}"#);
        let id = redis.add_job(&slow).await;
        let start = format!("start {n}");
        worker.wait_for_line(|line| line == start, PATIENCE).await;
        steal(&redis, &id).await;
        let end = format!("ending {n}");
        worker.wait_for_line(|line| line == end, PATIENCE).await;
        // This is longer than the settler needs to send its outcomes.
        let moved = within(Duration::from_millis(300), async || {
            let moved = owner(&redis, &id).await.as_deref() != Some("stranger")
                || redis.scheduled().await > 0
                || redis.dead_letters().await.len() > 1;
            moved.then_some(())
        });
        assert!(moved.await.is_none(), "{kind}: {:?}", redis.backlog().await);
    }
    assert_eq!(redis.xlen().await, 3);
}

#[tokio::test]
async fn a_heartbeat_does_not_steal_a_job_back() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    let id = redis.add_test_job("sleep", 1, 2500).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    steal(&redis, &id).await;
    // The time has three heartbeats.
    let stolen = within(LEASE_TIME, async || {
        (owner(&redis, &id).await.as_deref() != Some("stranger")).then_some(())
    });
    assert!(stolen.await.is_none());
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_cannot_put_the_job_back() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", "100ms")
        .start();
    let id = redis.add_test_job("hang", 1, 0).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    steal(&redis, &id).await;
    worker.term();
    worker.wait_exit(PATIENCE).await;
    let entry = redis.pending_entries().await.remove(0);
    assert_eq!(entry.consumer, "stranger");
    assert!(entry.idle_ms < 10_000, "{entry:?}");
}

#[tokio::test]
async fn a_success_counts_from_whoever_ran_the_job() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    let id = redis.add_test_job("sleep", 1, 300).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    steal(&redis, &id).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn a_job_of_ten_leases_runs_once() {
    let redis = Redis::start().await;
    let env = [("APP__JOBQUEUE__LEASE", "400ms")];
    let workers = [(); 2].map(|()| Process::test_worker(&redis).envs(&env).start());
    redis.add_test_job("sleep", 1, 4000).await;
    redis.drained(PATIENCE).await;
    let starts: usize = workers.iter().map(|worker| worker.count("start 1")).sum();
    assert_eq!(starts, 1);
}

#[tokio::test]
async fn a_renewal_leaves_the_delivery_count_alone() {
    let redis = Redis::start().await;
    let env = [("APP__JOBQUEUE__LEASE", "600ms")];
    let worker = Process::test_worker(&redis).envs(&env).start();
    redis.add_test_job("sleep", 1, 3000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let renewals = eventually("five renewals", PATIENCE, async || {
        let entry = redis.pending_entries().await.pop()?;
        assert_eq!(entry.deliveries, 1);
        let stats: String = redis.query(&["INFO", "commandstats"]).await;
        let xclaims = stats
            .lines()
            .find(|line| line.starts_with("cmdstat_xclaim:"))?;
        let calls = xclaims.split(['=', ',']).nth(1)?.parse::<u64>().ok()?;
        (calls >= 5).then_some(calls)
    });
    renewals.await;
}

#[tokio::test]
async fn handlers_that_burn_every_thread_lose_no_lease() {
    let redis = Redis::start().await;
    let env = [
        ("APP__JOBQUEUE__LEASE", "1s"),
        ("TOKIO_WORKER_THREADS", "2"),
    ];
    let burner = Process::test_worker(&redis).envs(&env).start();
    for n in 1..=3 {
        redis.add_test_job("burn", n, 2500).await;
    }
    for n in 1..=2 {
        let start = format!("start {n}");
        burner.wait_for_line(|line| line == start, PATIENCE).await;
    }
    // It starts now, so that the first worker has all three jobs.
    let other = Process::test_worker(&redis).envs(&env).start();
    redis.drained(Duration::from_secs(30)).await;
    let starts = |n| burner.count(&format!("start {n}")) + other.count(&format!("start {n}"));
    assert_eq!([starts(1), starts(2), starts(3)], [1, 1, 1]);
}

#[tokio::test]
async fn a_zombie_changes_nothing_when_it_wakes() {
    let redis = Redis::start().await;
    let env = [LEASE, ("APP__JOBQUEUE__CONCURRENCY", "4")];
    let zombie = Process::test_worker(&redis).envs(&env).start();
    let (fails, sleeps) = (
        r#"{"type":"test:slow_fail","payload":{"n":1,"ms":500,"limit":1}}"#,
        test_job("sleep", 2, 500),
    );
    redis.add_job(fails).await;
    redis.add_job(&sleeps).await;
    for start in ["start 1", "start 2"] {
        zombie.wait_for_line(|line| line == start, PATIENCE).await;
    }
    let heir = Process::test_worker(&redis).envs(&env).start();
    heir.wait_for_log("worker started", PATIENCE).await;
    zombie.stop();
    // The time has three leases and the hold of a new queue.
    heir.wait_for_line(|line| line == "start 2", 3 * LEASE_TIME + PATIENCE)
        .await;
    heir.wait_for_line(|line| line == "start 1", PATIENCE).await;
    zombie.cont();
    redis.drained(PATIENCE).await;
    // The heir's attempt failed and was retried. The zombie's attempt added none.
    let attempts = zombie.count("start 1") + heir.count("start 1");
    assert_eq!(attempts, 3, "the zombie's, the heir's and its retry");
    assert!(redis.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_process_that_gets_its_own_entry_again_does_not_start_it_again() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    let id = redis.add_test_job("sleep", 1, 5000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let me = owner(&redis, &id).await.unwrap();
    steal(&redis, &id).await;
    // The thief dies and its lease ends, so the entry comes back to the worker.
    redis
        .cmd(&[
            "XCLAIM", STREAM, GROUP, "stranger", "0", &id, "IDLE", "60000", "JUSTID",
        ])
        .await;
    eventually("the worker owns its entry again", PATIENCE, async || {
        (owner(&redis, &id).await? == me).then_some(())
    })
    .await;
    // The claim counted a delivery that did not happen.
    eventually("the delivery count is put right", PATIENCE, async || {
        let entry = redis.pending_entries().await.pop()?;
        (entry.deliveries == 2).then_some(())
    })
    .await;
    redis.drained(PATIENCE).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    assert_eq!((worker.count("start 1"), worker.count("end 1")), (1, 1));
}

#[tokio::test]
async fn a_handler_that_hangs_is_given_up_and_its_slot_is_free() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__JOB_TIMEOUT", "200ms")
        .env("APP__JOBQUEUE__CONCURRENCY", "1")
        .start();
    redis
        .add_job(r#"{"type":"test:hang","payload":{"n":1},"max_retry":0}"#)
        .await;
    redis.add_test_job("sleep", 2, 0).await;
    worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
    redis.drained(PATIENCE).await;
    let (_, letter) = redis.dead_letters().await.remove(0);
    assert_eq!(letter["reason"], b"retries used up");
    assert_eq!(letter["error"], b"no result within 200ms");
}

#[tokio::test]
async fn a_handler_that_blocks_for_ever_does_not_hold_its_job_for_ever() {
    let redis = Redis::start().await;
    let env = [LEASE, ("APP__JOBQUEUE__JOB_TIMEOUT", "500ms")];
    let blocked = Process::test_worker(&redis).envs(&env).start();
    redis.add_test_job("block", 1, 60_000).await;
    blocked
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let other = Process::test_worker(&redis).envs(&env).start();
    // The lease is renewed for job_timeout + lease. Then come a lease and the hold of a new queue.
    let deadline = Duration::from_millis(500) + 2 * LEASE_TIME + PATIENCE;
    other
        .wait_for_line(|line| line == "start 1", deadline)
        .await;
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    redis
        .add_job(r#"{"type":"test:panic","payload":{"n":1},"max_retry":0}"#)
        .await;
    redis.add_test_job("sleep", 2, 0).await;
    worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
    redis.drained(PATIENCE).await;
    let (_, letter) = redis.dead_letters().await.remove(0);
    assert_eq!(letter["reason"], b"retries used up");
    assert_eq!(letter["attempt"], b"1");
    assert_eq!(letter["error"], b"the handler panicked: panicked as asked");
    assert!(worker.exited().is_none());
}
