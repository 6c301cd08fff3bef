//! The group's list of consumers stays short, however many workers come and go, and no job is lost
//! with a worker.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{
    Clock, GROUP, LEASE, LEASES, PATIENCE, Process, Redis, STREAM, eventually, stays, test_job,
};

fn worker(redis: &Redis) -> Process {
    Process::test_worker(redis).envs(&[LEASE]).start()
}

/// Starts and kills `width` workers with jobs in hand, `rounds` times.
async fn come_and_go(rounds: u64, width: u64) {
    let redis = Redis::start().await;
    let survivor = worker(&redis);
    let mut known = BTreeSet::new();
    for round in 0..rounds {
        let victims: Vec<_> = (0..width).map(|_| worker(&redis)).collect();
        for victim in &victims {
            victim.wait_for_log("connected to redis", PATIENCE).await;
        }
        let jobs = (0..width).map(|n| test_job("sleep", round * width + n, 300));
        redis.add_jobs(jobs).await;
        eventually("some of them have jobs", PATIENCE, async || {
            let consumers = redis.consumers().await;
            let busy = consumers.iter().filter(|consumer| consumer.pending > 0);
            (busy.count() > 1).then_some(())
        })
        .await;
        victims.iter().for_each(Process::kill);
        known.extend(
            redis
                .consumers()
                .await
                .into_iter()
                .map(|consumer| consumer.name),
        );
    }
    assert!(
        known.len() as u64 > rounds,
        "too few of them became consumers"
    );
    redis.drained(PATIENCE * 2).await;
    assert_eq!(redis.backlog().await.dead, 0);
    eventually("only the survivor is left", PATIENCE * 2, async || {
        (redis.consumers().await.len() == 1).then_some(())
    })
    .await;
    assert!(survivor.exited().is_none());
}

#[tokio::test]
async fn sixty_starts_and_kills_leave_no_consumer_behind() {
    come_and_go(6, 10).await;
}

#[tokio::test]
#[ignore = "long: starts and kills a thousand workers"]
async fn a_thousand_starts_and_kills_leave_no_consumer_behind() {
    come_and_go(100, 10).await;
}

#[tokio::test]
async fn a_worker_that_exits_with_a_job_unsettled_stays_in_the_group() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis)
        .envs(&[LEASE, ("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", "100ms")])
        .start();
    let id = redis.add_test_job("hang", 1, 0).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(1));
    let entry = redis
        .pending_entry(&id)
        .await
        .expect("the job is still there");
    let consumers = redis.consumers().await;
    assert_eq!(consumers.len(), 1);
    assert_eq!(
        (&consumers[0].name, consumers[0].pending),
        (&entry.consumer, 1)
    );
    assert!(entry.idle_ms >= 2_000, "it is put back: {entry:?}");
}

#[tokio::test]
async fn an_idle_worker_is_listed_from_its_start_and_again_after_it_was_deleted() {
    let redis = Redis::start().await;
    let workers = [(); 2].map(|()| {
        let worker = Process::test_worker(&redis);
        worker.env("APP__JOBQUEUE__LEASE", "300ms").start()
    });
    let soon = Duration::from_millis(1500);
    let listed = async || {
        let consumers = redis.consumers().await;
        (consumers.len() == 2).then_some(consumers)
    };
    for worker in &workers {
        worker.wait_for_log("connected to redis", PATIENCE).await;
    }
    let consumers = eventually("both are listed", soon, listed).await;
    let delete = ["XGROUP", "DELCONSUMER", STREAM, GROUP, &consumers[0].name];
    redis.cmd(&delete).await;
    eventually("both are listed again", soon, listed).await;
    redis.cmd(&["XGROUP", "DESTROY", STREAM, GROUP]).await;
    eventually("both are in the new group", soon * 2, listed).await;
    // This is longer than a living worker may be idle.
    stays("both are listed", Duration::from_millis(5500), async || {
        listed().await.is_some()
    })
    .await;
    for worker in &workers {
        assert_eq!(worker.count_log("removed consumers"), 0);
        worker.term();
        worker.wait_exit(PATIENCE).await;
    }
    assert_eq!(redis.consumers().await, [], "they have left");
}

#[tokio::test]
async fn a_clock_that_leaps_removes_no_living_consumer() {
    let clock = Clock::new();
    let redis = Redis::builder().clock(&clock).start().await;
    let workers = [(); 4].map(|()| worker(&redis));
    for worker in &workers {
        worker.wait_for_log("connected to redis", PATIENCE).await;
    }
    let listed = async || (redis.consumers().await.len() == 4).then_some(());
    eventually("all are listed", PATIENCE, listed).await;
    for hour in 1..30 {
        clock.set(hour * 3_600_000);
        // The looks are 333 ms apart, and each step comes at a random time between two of them.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..250))).await;
    }
    eventually("all are listed", PATIENCE, listed).await;
    for worker in &workers {
        assert_eq!(worker.count_log("removed consumers"), 0);
    }
}

#[tokio::test]
async fn a_worker_with_a_short_lease_removes_no_consumer_with_a_long_one() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__LEASE", "300ms")
        .start();
    worker.wait_for_log("connected to redis", PATIENCE).await;
    for (name, lease_ms) in [("far", "60000"), ("gone", "300")] {
        let create = ["XGROUP", "CREATECONSUMER", STREAM, GROUP, name];
        redis.cmd(&create).await;
        redis.cmd(&["ZADD", LEASES, lease_ms, name]).await;
    }
    let known = async |name: &str| {
        let consumers = redis.consumers().await;
        let lease: Option<f64> = redis.query(&["ZSCORE", LEASES, name]).await;
        let listed = consumers.iter().any(|consumer| consumer.name == name);
        (listed, lease.is_some())
    };
    eventually("the one that is gone is removed", PATIENCE, async || {
        (known("gone").await == (false, false)).then_some(())
    })
    .await;
    let far = known("far").await;
    assert_eq!(far, (true, true), "it has two leases of its own");
}
