//! Jobs that were delivered again and again. Several workers find the job that ends their
//! processes, and the other jobs lose no delivery for it.

use std::time::Duration;

use crate::support::{LEASE, LONG_LEASE, PATIENCE, Process, Redis, eventually, test_job, within};

#[tokio::test]
async fn several_workers_find_the_job_that_kills_them_and_finish_the_others() {
    const POISON: u64 = 5;
    let redis = Redis::start().await;
    let start = || {
        Process::test_worker(&redis)
            .env("APP__JOBQUEUE__LEASE", "1s")
            .start()
    };
    let jobs = (1..=10).map(|n| test_job(if n == POISON { "abort" } else { "sleep" }, n, 200));
    let ids = redis.add_jobs(jobs).await;
    let (mut alive, mut dead) = (vec![start()], Vec::new());
    let done = within(PATIENCE * 3, async || {
        if let Some(index) = alive.iter().position(|worker| worker.exited().is_some()) {
            if dead.is_empty() {
                assert_eq!(redis.pending().await, 10, "it had fetched them together");
            }
            dead.push(alive.remove(index));
        }
        // There is one worker until it has fetched the jobs, and then there are two.
        if alive.len() < 2 && !dead.is_empty() {
            alive.push(start());
        }
        (redis.xlen().await == 0).then_some(())
    });
    assert!(done.await.is_some(), "{:?}", redis.pending_entries().await);

    let letters = redis.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].1["reason"], b"poison");
    // The first of the ten jobs is number 1.
    assert_eq!(letters[0].1["died_from"], ids[4].as_bytes());
    assert_eq!(dead.len(), 5, "once for each delivery that is allowed");
    for n in (1..=10).filter(|n| *n != POISON) {
        let end = format!("end {n}");
        let count = |workers: &[Process]| -> usize {
            workers.iter().map(|worker| worker.count(&end)).sum()
        };
        // A worker may die before it has settled a job that has ended.
        let (living, died) = (count(&alive), count(&dead));
        assert!(living <= 1 && living + died >= 1, "{end}: {living}, {died}");
    }
}

#[tokio::test]
async fn a_suspect_that_waits_for_another_is_charged_nothing() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    redis.reclaiming().await;
    // The next delivery of these jobs is the third.
    let jobs = [test_job("sleep", 1, 4000), test_job("sleep", 2, 0)];
    let ids = redis.add_abandoned(&jobs, 2).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    // Meanwhile the second job is claimed and put back about ten times. That is more than the
    // number of deliveries that a job may have.
    let mut counts = Vec::new();
    eventually("the second one runs", PATIENCE, async || {
        let entry = redis.pending_entry(&ids[1]).await;
        counts.extend(entry.map(|entry| entry.deliveries));
        (worker.count("start 2") == 1).then_some(())
    })
    .await;
    assert!(worker.count("end 1") == 1, "not beside the first");
    assert!(
        counts.iter().all(|count| [2, 3].contains(count)),
        "{counts:?}"
    );
    redis.settled(0, 0).await;
}

#[tokio::test]
async fn a_suspect_that_waits_for_another_is_run_by_an_idle_worker() {
    let redis = Redis::start().await;
    let workers = [(); 2].map(|()| Process::test_worker(&redis).envs(&LONG_LEASE).start());
    redis.reclaiming().await;
    let jobs = [test_job("hang", 1, 0), test_job("sleep", 2, 0)];
    redis.add_abandoned(&jobs, 2).await;
    // A claim may bring the job to the worker that cannot run it. The next look is the other
    // worker's then. So the job waits for about two intervals of 300 ms, and never for a lease.
    eventually("the second one runs", Duration::from_secs(4), async || {
        (workers.iter().any(|worker| worker.count("end 2") == 1)).then_some(())
    })
    .await;
    let ran = |line: &str| workers.iter().position(|worker| worker.count(line) == 1);
    assert_ne!(ran("start 1").unwrap(), ran("start 2").unwrap());
}

#[tokio::test]
async fn an_ordinary_job_runs_beside_a_suspect() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    redis.reclaiming().await;
    redis.add_abandoned(&[test_job("sleep", 1, 1500)], 2).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis.add_test_job("sleep", 2, 0).await;
    let soon = Duration::from_secs(1);
    worker.wait_for_line(|line| line == "end 2", soon).await;
    redis.settled(0, 0).await;
}

/// A suspect that is put back must not make a worker look less often than it has room.
#[tokio::test]
async fn suspects_do_not_hold_up_what_a_dead_worker_had() {
    const OTHERS: u64 = 160;
    let redis = Redis::start().await;
    let jobs = |range: std::ops::Range<u64>| -> Vec<String> {
        range.map(|n| test_job("sleep", n, 0)).collect()
    };
    for n in (0..OTHERS).step_by(16) {
        redis.add_abandoned(&jobs(n..n + 16), 1).await;
        let suspects = OTHERS + n / 4;
        redis.add_abandoned(&jobs(suspects..suspects + 4), 2).await;
    }
    let worker = Process::test_worker(&redis).envs(&LONG_LEASE).start();
    let is_other = |line: &str| {
        let ended = line.strip_prefix("end ");
        ended.is_some_and(|n| n.parse::<u64>().unwrap() < OTHERS)
    };
    // Each look has room for ten, and 300 ms lie between two of them if nothing is left to claim.
    let soon = Duration::from_secs(6);
    eventually("all others have run", soon, async || {
        let lines = worker.stdout().into_iter();
        let ended = lines.filter(|line| is_other(&line.text)).count();
        (ended as u64 == OTHERS).then_some(())
    })
    .await;
}
