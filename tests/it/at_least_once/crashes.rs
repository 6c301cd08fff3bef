//! Redis is killed again and again, at random points of every move of a job. At the end the account
//! must show that each job that was stored has exactly one outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{LEASE, PATIENCE, Process, Redis, STREAM, eventually};

/// The remainder of a job's number by this says how the job ends.
const KINDS: u64 = 4;

/// A job that waits, is parked, fails and is tried again, or fails and is buried.
fn job(n: u64) -> String {
    let (kind, ms, rest) = match n % KINDS {
        0 => ("sleep", n % 20, ""),
        1 => ("sleep", 0, r#","delay_ms":250"#),
        2 => ("fail", 1, ""),
        _ => ("malformed", 0, ""),
    };
    format!(r#"{{"type":"test:{kind}","payload":{{"n":{n},"ms":{ms}}}{rest}}}"#)
}

/// Adds jobs without a pause until the test stops it. Returns the jobs that Redis confirmed, and
/// how many jobs were tried.
async fn add_jobs(redis: Arc<Redis>, stop: Arc<AtomicBool>) -> (BTreeSet<u64>, u64) {
    let (mut stored, mut n) = (BTreeSet::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut connection) = redis.connect().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        loop {
            let mut add = redis::cmd("XADD");
            add.arg(STREAM).arg("*").arg("job").arg(job(n));
            let added = add.query_async::<String>(&mut connection).await;
            // A job whose reply did not come may be stored, so its number is not used again.
            n += 1;
            if added.is_err() || stop.load(Ordering::Relaxed) {
                stored.extend(added.is_ok().then_some(n - 1));
                break;
            }
            stored.insert(n - 1);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    (stored, n)
}

async fn redis_dies(times: u32) {
    let seed =
        std::env::var("TEST_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    eprintln!("TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let redis = Arc::new(Redis::durable().await);
    let env = [LEASE, ("APP__JOBQUEUE__RETRY__INITIAL", "100ms")];
    let workers = [(); 2].map(|()| Process::test_worker(&redis).envs(&env).start());
    let stop = Arc::new(AtomicBool::new(false));
    let adding = tokio::spawn(add_jobs(Arc::clone(&redis), Arc::clone(&stop)));

    for _ in 0..times {
        // The time is usually long enough that the workers are back at work.
        let at = Duration::from_millis(random.u64(20..900));
        tokio::time::sleep(at).await;
        redis.kill();
        tokio::time::sleep(Duration::from_millis(random.u64(0..100))).await;
        redis.up().await;
    }
    stop.store(true, Ordering::Relaxed);
    let (stored, tried) = adding.await.unwrap();
    redis.drained(3 * PATIENCE).await;

    let mut ends: BTreeMap<u64, usize> = BTreeMap::new();
    for line in workers.iter().flat_map(Process::stdout) {
        if let Some(n) = line.text.strip_prefix("end ") {
            *ends.entry(n.parse().unwrap()).or_default() += 1;
        }
    }
    for (_, letter) in redis.dead_letters().await {
        let job: serde_json::Value = serde_json::from_slice(&letter["job"]).unwrap();
        *ends
            .entry(job["payload"]["n"].as_u64().unwrap())
            .or_default() += 1;
    }
    let lost: Vec<_> = stored.iter().filter(|n| !ends.contains_key(n)).collect();
    assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
    // No worker died and no lease ran out, so nothing explains a second run.
    let twice: Vec<_> = ends.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "seed {seed}: more than once {twice:?}");
    assert!(ends.keys().all(|n| *n < tried), "seed {seed}: from nowhere");
    let kinds: BTreeSet<_> = ends.keys().map(|n| n % KINDS).collect();
    assert_eq!(kinds.len(), usize::try_from(KINDS).unwrap());
    eprintln!("{times} kills, {tried} jobs tried, {} stored", stored.len());
    eventually("the workers live", PATIENCE, async || {
        workers
            .iter()
            .all(|worker| worker.exited().is_none())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn fifteen_deaths_of_redis_lose_nothing_and_repeat_nothing() {
    redis_dies(15).await;
}

#[tokio::test]
#[ignore = "long: two hundred deaths of redis"]
async fn two_hundred_deaths_of_redis_lose_nothing_and_repeat_nothing() {
    redis_dies(200).await;
}
