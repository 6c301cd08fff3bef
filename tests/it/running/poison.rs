//! Jobs that end their process, among other jobs.

use std::time::Duration;

use crate::support::{GROUP, PATIENCE, Process, Redis, STREAM, eventually, test_job, within};

const ENV: [(&str, &str); 2] = [
    ("APP__JOBQUEUE__LEASE", "1s"),
    ("APP__JOBQUEUE__CONCURRENCY", "10"),
];

/// An entry that has been delivered `deliveries` times to a consumer that died.
async fn delivered(redis: &Redis, job: &str, deliveries: u32) -> String {
    let script = "redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
        local id = redis.call('XADD', KEYS[1], '*', 'job', ARGV[2])
        redis.call('XREADGROUP', 'GROUP', ARGV[1], 'dead', 'STREAMS', KEYS[1], '>')
        redis.call('XCLAIM', KEYS[1], ARGV[1], 'dead', 0, id,
            'IDLE', 3600000, 'RETRYCOUNT', ARGV[3], 'JUSTID')
        return id";
    let count = deliveries.to_string();
    redis
        .query(&["EVAL", script, "1", STREAM, GROUP, job, &count])
        .await
}

#[tokio::test]
async fn a_job_that_aborts_the_process_buries_only_itself() {
    let redis = Redis::start().await;
    // The worker fetches the ten jobs together.
    for n in 1..=9 {
        redis.add_test_job("sleep", n, 400).await;
    }
    let poison = redis.add_test_job("abort", 10, 0).await;
    let mut crashes = 0;
    let mut worker = Process::test_worker(&redis).envs(&ENV).start();
    let buried = within(Duration::from_secs(60), async || {
        if worker.exited().is_some() {
            crashes += 1;
            worker = Process::test_worker(&redis).envs(&ENV).start();
        }
        let left = redis.xlen().await;
        (left == 0).then_some(())
    });
    assert!(buried.await.is_some(), "{:?}", redis.backlog().await);
    let letters = redis.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0].1;
    assert_eq!(letter["died_from"], poison.as_bytes());
    assert_eq!(
        (&letter["reason"][..], &letter["deliveries"][..]),
        (&b"poison"[..], &b"5"[..])
    );
    assert_eq!(letter["attempt"], b"0");
    assert_eq!(letter["job"], test_job("abort", 10, 0).as_bytes());
    assert_eq!(crashes, 5);
}

#[tokio::test]
async fn the_last_delivery_that_is_allowed_runs_and_the_next_is_buried() {
    let redis = Redis::start().await;
    delivered(&redis, &test_job("sleep", 1, 0), 4).await;
    delivered(&redis, &test_job("sleep", 2, 0), 5).await;
    let worker = Process::test_worker(&redis).envs(&ENV).start();
    redis.drained(PATIENCE).await;
    assert_eq!((worker.count("end 1"), worker.count("start 2")), (1, 0));
    let letters = redis.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].1["job"], test_job("sleep", 2, 0).as_bytes());
}

#[tokio::test]
async fn a_process_holds_one_suspect_at_a_time_and_others_freely() {
    let redis = Redis::start().await;
    for n in 1..=4 {
        delivered(&redis, &test_job("sleep", n, 600), 2).await;
    }
    for n in 5..=8 {
        delivered(&redis, &test_job("sleep", n, 600), 1).await;
    }
    let worker = Process::test_worker(&redis).envs(&ENV).start();
    let running = |from: usize, to: usize| {
        let count = |what: &str| {
            (from..=to)
                .map(|n| worker.count(&format!("{what} {n}")))
                .sum()
        };
        let (starts, ends): (usize, usize) = (count("start"), count("end"));
        starts - ends
    };
    let mut most_innocents = 0;
    eventually("all have run", Duration::from_secs(30), async || {
        most_innocents = most_innocents.max(running(5, 8));
        assert!(running(1, 4) <= 1, "two suspects at once");
        (redis.xlen().await == 0).then_some(())
    })
    .await;
    assert!(most_innocents > 1, "a first redelivery runs beside others");
    assert!(redis.dead_letters().await.is_empty());
}
