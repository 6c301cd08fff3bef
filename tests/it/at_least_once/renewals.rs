//! Which leases a live process renews besides those of its running handlers. It renews the lease of
//! an outcome that waits for Redis. It does not renew the lease of a handler that hangs for ever.

use std::time::Duration;

use crate::support::{DEAD, LEASE, PATIENCE, Process, ProcessBuilder, Redis, stays, test_job};

const LEASE_TIME: Duration = Duration::from_secs(2);

fn worker(redis: &Redis, name: &str) -> ProcessBuilder {
    Process::test_worker(redis).envs(&[LEASE]).named(name)
}

#[tokio::test]
async fn an_outcome_that_cannot_be_settled_keeps_its_lease() {
    let redis = Redis::start().await;
    let holder = worker(&redis, "holder").start();
    redis.reclaiming().await;
    redis.cmd(&["SET", DEAD, "somebody's mistake"]).await;
    let id = redis.add_job(&test_job("malformed", 1, 0)).await;
    holder.wait_for_log("WRONGTYPE", PATIENCE).await;
    let owner = redis.pending_entry(&id).await.unwrap().consumer;
    let other = worker(&redis, "other").start();
    stays(
        "held by the worker that ran it",
        LEASE_TIME * 2,
        async || {
            let entry = redis.pending_entry(&id).await.expect("it is pending");
            entry.deliveries == 1 && entry.consumer == owner
        },
    )
    .await;
    redis.cmd(&["DEL", DEAD]).await;
    redis.settled(0, 1).await;
    assert_eq!((holder.count("start 1"), other.count("start 1")), (1, 0));
}

#[tokio::test]
async fn handlers_that_never_return_lose_their_jobs_when_their_time_is_over_and_no_sooner() {
    const JOBS: u64 = 6;
    let redis = Redis::start().await;
    // There are more threads than jobs, so that the process itself goes on and looks for expired
    // leases as the other one does.
    let env = [
        ("APP__JOBQUEUE__JOB_TIMEOUT", "1s"),
        ("TOKIO_WORKER_THREADS", "8"),
    ];
    let hung = worker(&redis, "hung").envs(&env).start();
    redis.reclaiming().await;
    redis
        .add_jobs((1..=JOBS).map(|n| test_job("block", n, 60_000)))
        .await;
    let mut starts = Vec::new();
    for n in 1..=JOBS {
        let start = format!("start {n}");
        starts.push((
            n,
            hung.wait_for_line(|line| line == start, PATIENCE).await.at,
        ));
    }
    let other = worker(&redis, "other").envs(&env).start();
    for (n, started) in starts {
        let start = format!("start {n}");
        let again = other.wait_for_line(|line| line == start, PATIENCE).await;
        let took = again.at - started;
        // The lease is renewed for job_timeout + lease. Then it runs out, and the job is reclaimed.
        let renewed = Duration::from_secs(1) + LEASE_TIME;
        // The last renewal may have been a heartbeat earlier.
        let lease_left = LEASE_TIME / 2;
        assert!(took > renewed + lease_left, "job {n} after {took:?}");
        let bound = renewed + LEASE_TIME + Duration::from_secs(2);
        assert!(took < bound, "job {n} after {took:?}");
        assert_eq!(hung.count(&start), 1);
    }
}

#[tokio::test]
async fn a_run_within_the_timeout_of_its_type_keeps_its_lease_beyond_job_timeout() {
    let redis = Redis::start().await;
    let env = [("APP__JOBQUEUE__JOB_TIMEOUT", "100ms")];
    let workers = ["a", "b"].map(|name| worker(&redis, name).envs(&env).start());
    redis.reclaiming().await;
    // Renewed for job_timeout + lease alone, it would be reclaimed within three leases.
    redis.add_test_job("long", 1, 7_000).await;
    redis.settled(0, 0).await;
    let starts = workers.iter().map(|worker| worker.count("start 1"));
    assert_eq!(starts.sum::<usize>(), 1);
}
