//! The producer as a library: many jobs in one call.

use std::time::Duration;

use dm_jobqueue::config::Config;
use dm_jobqueue::service::jobqueue::client::{Client, EnqueueError};
use dm_jobqueue::service::jobqueue::job::Job;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, Redis, Wire, eventually};

const DEADLINE: Duration = Duration::from_secs(5);
/// More than go out in one batch.
const JOBS: usize = 1_000;

fn jobs() -> Vec<Job> {
    let payload = |n| RawValue::from_string(format!("{{\"n\":{n}}}")).unwrap();
    (0..JOBS)
        .map(|n| Job::new("test:quiet", payload(n)))
        .collect()
}

fn client(addr: String) -> Client {
    let reply = "APP__CACHE_SERVER__REDIS__JOBQUEUE__READ_TIMEOUT".to_owned();
    let variables = [
        ("REDIS_JOBQUEUE_ADDR".to_owned(), addr),
        // Longer than any test here waits.
        (reply, "30s".to_owned()),
    ];
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let config = Config::from_sources("develop", dir.as_ref(), &variables.into()).unwrap();
    let client = Client::new(&config.redis, &config.jobqueue.queue).unwrap();
    let running = client.clone();
    tokio::spawn(async move { running.run(CancellationToken::new()).await });
    client
}

async fn connected(addr: String) -> Client {
    let client = client(addr);
    eventually("the client is connected", PATIENCE, async || {
        client.ready().await.ok()
    })
    .await;
    client
}

#[tokio::test]
async fn many_jobs_are_appended_in_their_order() {
    let redis = Redis::start().await;
    let client = connected(redis.addr()).await;
    let jobs = jobs();
    let results = client.enqueue_all(&jobs, DEADLINE).await;
    assert_eq!(results.len(), JOBS);
    assert!(results.iter().all(Result::is_ok));
    let entries = redis.entries().await;
    assert_eq!(entries.len(), JOBS);
    for ((_, fields), job) in entries.iter().zip(&jobs) {
        assert_eq!(fields["job"], job.to_json());
    }
}

#[tokio::test]
async fn each_of_many_jobs_is_answered_for() {
    let redis = Redis::start().await;
    let client = connected(redis.addr()).await;
    redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let results = client.enqueue_all(&jobs(), DEADLINE).await;
    assert_eq!(results.len(), JOBS);
    for result in results {
        assert!(
            matches!(result, Err(EnqueueError::Refused(_))),
            "{result:?}"
        );
    }
    redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let results = client.enqueue_all(&jobs(), DEADLINE).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(redis.xlen().await, JOBS as u64);
}

#[tokio::test]
async fn what_a_frozen_redis_was_not_sent_is_withdrawn() {
    let redis = Redis::start().await;
    let client = connected(redis.addr()).await;
    redis.freeze();
    // More than are on their way at once at most.
    let jobs: Vec<Job> = (0..10).flat_map(|_| jobs()).collect();
    let results = client.enqueue_all(&jobs, Duration::from_millis(300)).await;
    let count = |wanted: fn(&EnqueueError) -> bool| {
        let errors = results.iter().filter_map(|result| result.as_ref().err());
        errors.filter(|error| wanted(error)).count()
    };
    let unknown = count(|error| matches!(error, EnqueueError::OutcomeUnknown));
    let not_sent = count(|error| matches!(error, EnqueueError::NotSent));
    assert_eq!(unknown + not_sent, jobs.len());
    assert!(unknown > 0 && not_sent > 0, "{unknown} {not_sent}");
    redis.resume();
    eventually("what was sent is there", PATIENCE, async || {
        (redis.xlen().await == unknown as u64).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(redis.xlen().await, unknown as u64);
}

#[tokio::test]
async fn without_redis_nothing_is_sent() {
    let redis = Redis::start().await;
    redis.kill();
    let results = client(redis.addr()).enqueue_all(&jobs(), DEADLINE).await;
    for result in results {
        assert!(
            matches!(result, Err(EnqueueError::NotConnected)),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn jobs_on_a_connection_that_vanished_hold_up_no_others() {
    // As many batches as may be on their way at once, and more.
    const LOST: usize = 20;
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let client = connected(wire.addr().to_string()).await;
    wire.vanish();
    let mut lost = tokio::task::JoinSet::new();
    for job in jobs().into_iter().take(LOST) {
        let client = client.clone();
        let deadline = Duration::from_millis(600);
        lost.spawn(async move { client.enqueue(&job, deadline).await });
        // Longer than one waits to share a batch with the next.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for result in lost.join_all().await {
        assert!(result.is_err(), "nothing could be confirmed");
    }
    let job = &jobs()[LOST];
    let limit = Duration::from_secs(5);
    eventually("another one is appended", limit, async || {
        client.enqueue(job, DEADLINE).await.ok()
    })
    .await;
}
