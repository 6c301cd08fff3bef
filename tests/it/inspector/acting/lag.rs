//! Deleting a waiting job leaves Redis' count of what the group has to read as it is in truth.

use std::collections::BTreeMap;

use dm_jobqueue::program::inside::{Acted, Action};

use crate::inspector::{act, inspect, named};
use crate::support::{GROUP, Redis, STREAM};

const RUNS: usize = 60;
const STEPS: usize = 60;

/// What is in the stream, by what the test has done.
#[derive(Default)]
struct Truth {
    waiting: Vec<String>,
    delivered: Vec<String>,
}

/// The lag of the group as XINFO tells it.
async fn lag(redis: &Redis) -> Option<u64> {
    redis.backlog().await.lag
}

#[tokio::test]
async fn a_cancelled_job_does_not_count_in_the_lag_whatever_happened_before() {
    let seed =
        std::env::var("LAG_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("LAG_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    let (mut known, mut cancelled) = (0, 0);
    for run in 0..RUNS {
        redis.cmd(&["DEL", STREAM]).await;
        redis.make_group().await;
        let mut truth = Truth::default();
        for step in 0..STEPS {
            match random.u32(0..10) {
                0..4 => truth.waiting.push(redis.add_job(&named("x")).await),
                4..6 => {
                    let got = redis.deliver("w", random.u64(1..4)).await;
                    truth.waiting.drain(..got.len());
                    truth.delivered.extend(got);
                }
                6..7 if !truth.delivered.is_empty() => {
                    let at = random.usize(..truth.delivered.len());
                    let id = truth.delivered.remove(at);
                    redis.cmd(&["XACK", STREAM, GROUP, &id]).await;
                    redis.cmd(&["XDEL", STREAM, &id]).await;
                }
                7..10 if !truth.waiting.is_empty() => {
                    // The last one and the first one more often than others.
                    let last = truth.waiting.len() - 1;
                    let any = random.usize(..=last);
                    let at = *random.choice(&[0, last, any]).unwrap();
                    let id = truth.waiting.remove(at);
                    let acted = act(&mut inspector, Action::Cancel, &id).await;
                    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");
                    cancelled += 1;
                }
                _ => {}
            }
            if let Some(lag) = lag(&redis).await {
                known += 1;
                assert_eq!(lag, truth.waiting.len() as u64, "run {run}, step {step}");
            }
        }
        drain(&redis, truth).await;
    }
    assert!(
        known > RUNS * STEPS / 4 && cancelled > RUNS,
        "{known} {cancelled}"
    );
}

/// Reads and acknowledges all that is left.
async fn drain(redis: &Redis, mut truth: Truth) {
    loop {
        let got = redis.deliver("w", 3).await;
        if got.is_empty() {
            break;
        }
        truth.waiting.drain(..got.len());
        truth.delivered.extend(got);
        if let Some(lag) = lag(redis).await {
            assert_eq!(lag, truth.waiting.len() as u64, "while it is drained");
        }
    }
    for id in truth.delivered {
        redis.cmd(&["XACK", STREAM, GROUP, &id]).await;
        redis.cmd(&["XDEL", STREAM, &id]).await;
    }
    let backlog = redis.backlog().await;
    let left = (backlog.stream, backlog.pending, backlog.lag);
    assert_eq!(left, (0, 0, Some(0)));
    // Redis counts on from there.
    let more: BTreeMap<_, _> = [(redis.add_job(&named("y")).await, ())].into();
    assert_eq!(lag(redis).await, Some(1));
    assert_eq!(
        redis.deliver("w", 5).await,
        more.into_keys().collect::<Vec<_>>()
    );
    assert_eq!(lag(redis).await, Some(0));
}
