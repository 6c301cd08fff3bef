//! Another consumer takes an entry before this worker has started its job. Only the other consumer
//! may then run the job.

use std::time::Duration;

use crate::support::{PATIENCE, Process, Redis, Wire, test_job};

/// How long the handlers' threads are blocked, and how long the fetcher waits for a reply.
const BLOCKED_MS: u64 = 4_000;
const LATE: Duration = Duration::from_secs(8);

#[tokio::test]
async fn an_entry_that_was_taken_before_its_start_is_not_run() {
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let worker = Process::test_worker(&redis)
        .redis_addr(wire.addr())
        .envs(&[
            ("APP__JOBQUEUE__LEASE", "20s"),
            ("APP__JOBQUEUE__HEARTBEAT", "1s"),
            ("APP__JOBQUEUE__CONCURRENCY", "4"),
            ("APP__CACHE_SERVER__REDIS__JOBQUEUE__READ_TIMEOUT", "30s"),
            ("TOKIO_WORKER_THREADS", "2"),
            ("RUST_LOG", "info,dm_jobqueue::service::jobqueue=debug"),
        ])
        .start();
    redis.reclaiming().await;
    // Both threads for handlers are blocked. A job that comes now is ready, but no runner can take
    // it.
    for n in [1, 2] {
        redis.add_job(&test_job("block", n, BLOCKED_MS)).await;
        let start = format!("start {n}");
        worker.wait_for_line(|line| line == start, PATIENCE).await;
    }
    // The fetcher would soon put the job back. It waits for a late reply instead.
    wire.delay_reply_with("7777", LATE);
    redis.wait_for_reader().await;
    let id = redis.add_test_job("sleep", 3, 0).await;
    redis.add_test_job("sleep", 7777, 0).await;
    wire.lost(PATIENCE).await;
    let entry = redis.pending_entry(&id).await.expect("it was delivered");
    assert_ne!(entry.consumer, "stranger");

    redis.hand_over(&id, "stranger", 0).await;
    worker
        .wait_for_log("an entry is no longer pending for this worker", PATIENCE)
        .await;
    assert_eq!(
        (worker.count("end 1"), worker.count("start 7777")),
        (0, 0),
        "too slow: it should still be blocked"
    );
    // When the runners continue, they take the oldest job first.
    worker
        .wait_for_line(|line| line == "end 7777", LATE + PATIENCE)
        .await;
    assert_eq!(worker.count("end 1") + worker.count("end 2"), 2);
    assert_eq!(worker.count("start 3"), 0, "it is the stranger's");
    let entry = redis.pending_entry(&id).await.expect("it has no outcome");
    assert_eq!((entry.consumer.as_str(), entry.deliveries), ("stranger", 1));
    worker.wait_for_log("lease lost", PATIENCE).await;
}
