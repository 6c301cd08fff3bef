//! Two operators at the same jobs.

use dm_jobqueue::program::inside::Action;

use super::{ROUNDS, Won, ids, operator};
use crate::inspector::named;
use crate::support::{DEAD, Redis, SCHEDULED, STREAM};

/// Two who do the same, for each action that moves or deletes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_who_do_the_same_wins() {
    let redis = Redis::start().await;
    redis.make_group().await;
    let ids = ids();
    for (action, key, left) in [
        (Action::RunNow, SCHEDULED, ROUNDS),
        (Action::Cancel, STREAM, 0),
        (Action::Retry, DEAD, ROUNDS),
        (Action::Cancel, STREAM, 0),
        (Action::Delete, DEAD, 0),
        (Action::Cancel, SCHEDULED, 0),
    ] {
        for (n, id) in ids.iter().enumerate() {
            match (action, key) {
                (_, SCHEDULED) => {
                    redis
                        .schedule(5_000_000_000_000, &format!("{n}-1:{}", named(id)))
                        .await;
                }
                (_, DEAD) => drop(redis.add_letter(&named(id), "poison", "9-1").await),
                // Those that were moved there before.
                _ => {}
            }
        }
        let both = [
            operator(&redis, action, &ids),
            operator(&redis, action, &ids),
        ];
        let [one, other] = both;
        let (one, other) = (one.await.unwrap(), other.await.unwrap());
        for (n, id) in ids.iter().enumerate() {
            let wins = [one[n], other[n]]
                .iter()
                .filter(|won| **won == Won::Done)
                .count();
            assert_eq!(wins, 1, "{action:?} of {id}: {:?} {:?}", one[n], other[n]);
        }
        let backlog = redis.backlog().await;
        let places = backlog.stream + backlog.scheduled + backlog.dead;
        assert_eq!(
            (backlog.stream, places),
            (left as u64, left as u64),
            "{action:?}"
        );
    }
    assert_eq!(redis.backlog().await.pending, 0);
}

/// A dead letter is retried and deleted at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_races_a_deletion() {
    let redis = Redis::start().await;
    let ids = ids();
    for id in &ids {
        redis.add_letter(&named(id), "poison", "9-1").await;
    }
    let retry = operator(&redis, Action::Retry, &ids);
    let delete = operator(&redis, Action::Delete, &ids);
    let (retry, delete) = (retry.await.unwrap(), delete.await.unwrap());
    for (n, id) in ids.iter().enumerate() {
        let wins = [retry[n], delete[n]]
            .iter()
            .filter(|won| **won == Won::Done)
            .count();
        assert_eq!(wins, 1, "{id}: {:?} {:?}", retry[n], delete[n]);
    }
    let retried = retry.iter().filter(|won| **won == Won::Done).count();
    assert_eq!(redis.xlen().await, retried as u64);
    assert_eq!(redis.dead_letters().await.len(), 0);
}
