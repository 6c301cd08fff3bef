//! Workers whose looks for expired leases are far apart, and workers with different leases. No
//! worker waits for ever, and no living worker's job is taken.

use std::time::{Duration, Instant};

use crate::support::{
    Delay, Direction, FaultProxy, GROUP, LEASES, PATIENCE, Process, Redis, STATE, STREAM,
    eventually, test_job, within,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn text(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// A connection to Redis with this round trip.
async fn far(redis: &Redis, round_trip: Duration) -> FaultProxy {
    let proxy = redis.proxy().await;
    for direction in [Direction::ClientToUpstream, Direction::UpstreamToClient] {
        proxy.set_delay(direction, Delay::Fixed(round_trip / 2));
    }
    proxy
}

/// How long no worker claims after a stall. The settings decide it.
fn hold(lease: Duration) -> Duration {
    lease / 3 + ms(512) + ms(1000)
}

/// A worker with this lease that reaches Redis through this proxy.
fn worker(redis: &Redis, lease: Duration, proxy: Option<&FaultProxy>) -> Process {
    let builder = Process::test_worker(redis).env("APP__JOBQUEUE__LEASE", &text(lease));
    match proxy {
        Some(proxy) => builder.redis_addr(proxy.addr()).start(),
        None => builder.start(),
    }
}

/// How many of these jobs a worker has started.
fn starts(worker: &Process, jobs: std::ops::Range<u64>) -> usize {
    jobs.map(|n| worker.count(&format!("start {n}"))).sum()
}

/// Waits until a worker has started these jobs.
async fn begun(worker: &Process, jobs: std::ops::Range<u64>) {
    let count = usize::try_from(jobs.end - jobs.start).unwrap();
    eventually("it has begun its jobs", PATIENCE, async || {
        (starts(worker, jobs.clone()) == count).then_some(())
    })
    .await;
}

/// In a queue that is new to them, workers with this lease and this round trip run jobs that nobody
/// holds any more.
async fn far_workers_take_over(lease: Duration, round_trip: Duration, count: usize) {
    let redis = Redis::start().await;
    let proxy = far(&redis, round_trip).await;
    let jobs: Vec<String> = (0..5).map(|n| test_job("sleep", n, 0)).collect();
    redis.add_abandoned(&jobs, 1).await;
    let workers: Vec<_> = (0..count)
        .map(|_| worker(&redis, lease, Some(&proxy)))
        .collect();
    // Connecting takes some round trips, and each look takes one or two.
    let bound = lease + hold(lease) + 20 * round_trip + ms(3000);
    eventually(
        format!("{lease:?} {round_trip:?}: they run"),
        bound,
        async || {
            let ends = |n| {
                workers
                    .iter()
                    .map(|w| w.count(&format!("end {n}")))
                    .sum::<usize>()
            };
            (0..5).all(|n| ends(n) == 1).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn workers_whose_looks_are_far_apart_take_over_from_a_dead_one() {
    tokio::join!(
        far_workers_take_over(ms(2000), ms(400), 1),
        far_workers_take_over(ms(100), ms(60), 4),
        far_workers_take_over(ms(100), ms(500), 2),
        far_workers_take_over(ms(1000), ms(300), 3),
    );
}

#[tokio::test]
async fn a_lease_that_no_heartbeat_can_keep_costs_a_far_worker_no_job() {
    let redis = Redis::start().await;
    let proxy = far(&redis, ms(500)).await;
    let busy = worker(&redis, ms(100), Some(&proxy));
    busy.wait_for_log("connected to redis", PATIENCE).await;
    redis.wait_for_reader().await;
    for n in 0..5 {
        redis.add_test_job("sleep", n, 8000).await;
    }
    begun(&busy, 0..5).await;
    let near = worker(&redis, ms(100), None);
    redis.drained(PATIENCE + ms(8000)).await;
    assert!(
        starts(&near, 0..5) == 0,
        "a living worker's jobs were taken"
    );
    let far_away = "redis is too far away for this lease";
    busy.wait_for_log(far_away, PATIENCE).await;
    assert_eq!(busy.count_log(far_away), 1);
}

/// One worker with a lease of `long` is busy, one with a lease of `short` is idle, and a third one
/// with a lease of `dies` dies. The living worker keeps its jobs. The dead worker's jobs are taken
/// within its own lease and a hold.
async fn beside_each_other(long: Duration, short: Duration, dies: Duration, way: Duration) {
    let redis = Redis::start().await;
    let proxy = far(&redis, way).await;
    let length = u64::try_from((dies + hold(dies) + ms(12_000)).as_millis()).unwrap();
    let busy = worker(&redis, long, Some(&proxy));
    busy.wait_for_log("connected to redis", PATIENCE).await;
    redis.wait_for_reader().await;
    for n in 0..5 {
        redis.add_test_job("sleep", n, length).await;
    }
    begun(&busy, 0..5).await;
    busy.stop();
    let doomed = worker(&redis, dies, None);
    for n in 5..10 {
        redis.add_test_job("sleep", n, 60_000).await;
    }
    busy.cont();
    eventually("all are begun", PATIENCE, async || {
        (starts(&busy, 5..10) + starts(&doomed, 5..10) == 5).then_some(())
    })
    .await;
    let doomed_has: Vec<u64> = (5..10)
        .filter(|n| doomed.count(&format!("start {n}")) > 0)
        .collect();
    let heir = worker(&redis, short, None);
    heir.wait_for_log("connected to redis", PATIENCE).await;
    heir.wait_for_log("different leases", PATIENCE).await;
    doomed.kill();
    let bound = dies + hold(dies) + 6 * way + ms(3000);
    eventually(
        format!("{dies:?} beside {long:?}: taken"),
        bound,
        async || {
            let taken =
                |n: &u64| heir.count(&format!("start {n}")) + busy.count(&format!("start {n}"));
            doomed_has.iter().all(|n| taken(n) == 1).then_some(())
        },
    )
    .await;
    // This is longer than the short lease and longer than a hold.
    let stolen = within(ms(3000), async || (starts(&heir, 0..5) > 0).then_some(()));
    assert!(
        stolen.await.is_none(),
        "{long:?} beside {short:?}: taken from a living worker"
    );
    heir.wait_for_log("different leases", PATIENCE).await;
    assert_eq!(heir.count_log("different leases"), 1);
}

#[tokio::test]
async fn workers_with_different_leases_take_only_what_a_dead_one_had() {
    tokio::join!(
        beside_each_other(ms(60_000), ms(2000), ms(2000), ms(1)),
        beside_each_other(ms(60_000), ms(100), ms(400), ms(20)),
        beside_each_other(ms(2000), ms(100), ms(1000), ms(100)),
    );
}

#[tokio::test]
async fn a_worker_with_a_short_lease_takes_nothing_from_one_with_a_long_one() {
    // This is longer than the short lease and a hold after it.
    const LENGTH: u64 = 6_000;
    let redis = Redis::start().await;
    let busy = worker(&redis, ms(60_000), None);
    for n in 0..10 {
        redis.add_test_job("sleep", n, LENGTH).await;
    }
    begun(&busy, 0..10).await;
    let idle = worker(&redis, ms(2000), None);
    redis.drained(PATIENCE + ms(LENGTH)).await;
    assert_eq!(starts(&idle, 0..10), 0);
}

#[tokio::test]
async fn a_dead_worker_with_a_short_lease_makes_no_hold_endless() {
    let redis = Redis::start().await;
    let doomed = worker(&redis, ms(300), None);
    for n in 0..3 {
        redis.add_test_job("sleep", n, 60_000).await;
    }
    begun(&doomed, 0..3).await;
    doomed.kill();
    // This worker's looks are a second apart, which is longer than the other worker's stall.
    let heir = worker(&redis, ms(30_000), None);
    let bound = ms(300) + hold(ms(30_000)) + ms(4000);
    eventually("they are taken", bound, async || {
        (starts(&heir, 0..3) == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn stalls_without_end_hold_nobody_for_ever() {
    let redis = Redis::start().await;
    let lease = ms(300);
    let heir = worker(&redis, lease, None);
    heir.wait_for_log("connected to redis", PATIENCE).await;
    redis.reclaiming().await;
    // Every second look comes after an unusual gap. Without a limit, each of these gaps would begin
    // the hold again. The first one comes before the job, which nobody is to take before it.
    let began = Instant::now();
    let stall = "redis.call('HINCRBY', KEYS[1], 'reclaim_seen_ms', -1000)";
    redis.cmd(&["EVAL", stall, "1", STATE]).await;
    redis.add_abandoned(&[test_job("sleep", 1, 0)], 1).await;
    let bound = 12 * hold(lease) + PATIENCE;
    eventually("it is taken all the same", bound, async || {
        redis.cmd(&["EVAL", stall, "1", STATE]).await;
        tokio::time::sleep(ms(200)).await;
        (heir.count("start 1") == 1).then_some(())
    })
    .await;
    assert!(began.elapsed() > hold(lease), "it was held at first");
    let held_back = "nobody takes over from dead workers";
    heir.wait_for_log(held_back, PATIENCE).await;
    assert_eq!(heir.count_log(held_back), 1);
}

#[tokio::test]
async fn what_is_known_of_a_workers_lease_goes_with_it() {
    let redis = Redis::start().await;
    let (stopped, killed) = (worker(&redis, ms(500), None), worker(&redis, ms(600), None));
    let known = async |count: u64| {
        eventually(format!("{count} leases are known"), PATIENCE, async || {
            let leases: u64 = redis.query(&["ZCARD", LEASES]).await;
            (leases == count).then_some(())
        })
        .await;
    };
    known(2).await;
    stopped.term();
    stopped.wait_exit(PATIENCE).await;
    known(1).await;
    killed.kill();
    let survivor = worker(&redis, ms(700), None);
    let gone = ["XGROUP", "CREATECONSUMER", STREAM, GROUP, "stranger"];
    redis.cmd(&gone).await;
    redis.cmd(&["ZADD", LEASES, "1", "removed by hand"]).await;
    known(1).await;
    let leases: Vec<(String, u64)> = redis
        .query(&["ZRANGE", LEASES, "0", "-1", "WITHSCORES"])
        .await;
    assert_eq!(leases[0].1, 700);
    drop(survivor);
}
