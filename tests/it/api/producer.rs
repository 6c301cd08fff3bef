//! The producer as a library: many jobs in one call, many callers at once, and the results that
//! callers get when Redis or the client is gone.

use std::time::{Duration, Instant};

use dm_jobqueue::{Client, EnqueueError, Job, RedisConfig};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Redis, Wire, eventually};

const DEADLINE: Duration = Duration::from_secs(5);
/// How late a result may be on a busy machine.
const LATE: Duration = Duration::from_millis(500);
/// More jobs than one batch can have.
const JOBS: usize = 1_000;

fn jobs() -> Vec<Job> {
    (0..JOBS)
        .map(|n| Job::new("test:quiet", &json!({"n": n})).unwrap())
        .collect()
}

fn client(addr: String) -> Client {
    let config = RedisConfig {
        addr,
        // This is longer than any test here waits.
        read_timeout: Duration::from_secs(30),
        ..RedisConfig::default()
    };
    Client::new(&config, "default").unwrap()
}

async fn connected(addr: String) -> Client {
    let client = client(addr);
    let connected = tokio::time::timeout(PATIENCE, client.connected()).await;
    connected.expect("no connection").unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn no_batch_overtakes_another() {
    let redis = Redis::start().await;
    let client = connected(redis.addr()).await;
    let jobs: Vec<Job> = (0..30).flat_map(|_| jobs()).collect();
    let results = client.enqueue_all(&jobs, PATIENCE).await;
    assert!(results.iter().all(Result::is_ok));
    let entries = redis.entries().await;
    assert_eq!(entries.len(), jobs.len());
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
    // These are more jobs than can be on their way at once.
    let jobs: Vec<Job> = (0..10).flat_map(|_| jobs()).collect();
    let time = Duration::from_millis(300);
    let start = Instant::now();
    let results = client.enqueue_all(&jobs, time).await;
    let took = start.elapsed();
    assert!((time..time + LATE).contains(&took), "{took:?}");
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
    let client = client(redis.addr());
    let results = client.enqueue_all(&jobs(), DEADLINE).await;
    for result in results {
        assert!(
            matches!(result, Err(EnqueueError::NotConnected)),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn no_caller_waits_longer_than_it_said_however_many_wait() {
    let redis = Redis::start().await;
    let client = connected(redis.addr()).await;
    redis.freeze();
    // All places are taken by jobs that may wait for long. Then a job comes that may wait only for
    // a short time.
    let (patient, jobs) = (client.clone(), jobs());
    let job = jobs[0].clone();
    let patient = tokio::spawn(async move {
        let jobs: Vec<Job> = jobs.iter().cycle().take(10 * JOBS).cloned().collect();
        patient.enqueue_all(&jobs, Duration::from_secs(20)).await
    });
    tokio::time::sleep(LATE).await;
    for milliseconds in [50, 100, 300] {
        let time = Duration::from_millis(milliseconds);
        let start = Instant::now();
        let result = client.enqueue(&job, time).await;
        assert!(matches!(result, Err(EnqueueError::NotSent)), "{result:?}");
        let took = start.elapsed();
        assert!((time..time + LATE).contains(&took), "{took:?}");
    }
    redis.resume();
    let results = patient.await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(redis.xlen().await, results.len() as u64);
}

#[tokio::test]
async fn a_job_does_not_wait_for_the_reply_to_another_when_that_takes_long() {
    let redis = Redis::start().await;
    let client = connected(redis.addr()).await;
    redis.freeze();
    let jobs = jobs();
    let second = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        client.enqueue(&jobs[1], Duration::from_millis(100)).await
    };
    let (_, second) = tokio::join!(client.enqueue(&jobs[0], DEADLINE), async {
        let second = second.await;
        redis.resume();
        second
    });
    // The second job was sent.
    assert!(
        matches!(second, Err(EnqueueError::OutcomeUnknown)),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_job_whose_caller_has_gone_before_it_could_be_sent_is_not_sent() {
    // Each of these jobs is a batch of its own. They are as many as can be on their way at once.
    const SENT: usize = 16;
    let redis = Redis::start().await;
    let client = connected(redis.addr()).await;
    redis.freeze();
    let jobs = jobs();
    let call = |n: usize| {
        let (client, job) = (client.clone(), jobs[n].clone());
        async move { client.enqueue(&job, DEADLINE).await }
    };
    let mut sent = JoinSet::new();
    for n in 0..SENT {
        sent.spawn(call(n));
        // This is longer than a job waits to share a batch with the next one.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut gone: JoinSet<_> = (SENT..2 * SENT).map(call).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    gone.shutdown().await;
    redis.resume();
    assert!(sent.join_all().await.iter().all(Result::is_ok));
    client.enqueue(&jobs[0], DEADLINE).await.unwrap();
    assert_eq!(redis.xlen().await, SENT as u64 + 1);
}

#[tokio::test]
async fn when_the_client_ends_everybody_is_answered() {
    for closed in [true, false] {
        let redis = Redis::start().await;
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = runtime.spawn(connected(redis.addr())).await.unwrap();
        redis.freeze();
        let jobs = jobs();
        let calls: JoinSet<_> = (0..10 * JOBS)
            .map(|n| {
                let (client, job) = (client.clone(), jobs[n % JOBS].clone());
                async move { client.enqueue(&job, Duration::from_secs(60)).await }
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if closed {
            client.close().await;
        }
        runtime.shutdown_background();
        let answers = tokio::time::timeout(PATIENCE, calls.join_all()).await;
        let answers = answers.expect("somebody still waits");
        assert!(answers.iter().all(Result::is_err));
        let late = client.enqueue(&jobs[0], Duration::from_secs(60)).await;
        assert!(matches!(late, Err(EnqueueError::NotConnected)), "{late:?}");
        // No job that was sent got an error which says that it was not sent.
        redis.resume();
        let unknown = |answer: &&_| matches!(answer, Err(EnqueueError::OutcomeUnknown));
        let unknown = answers.iter().filter(|answer| unknown(answer)).count();
        assert!(unknown > 0);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(redis.xlen().await <= unknown as u64);
    }
}

#[tokio::test]
async fn jobs_on_a_connection_that_vanished_hold_up_no_others() {
    // These are more batches than can be on their way at once.
    const LOST: usize = 20;
    let redis = Redis::start().await;
    let wire = Wire::to(&redis).await;
    let client = connected(wire.addr().to_string()).await;
    wire.vanish();
    let mut lost = JoinSet::new();
    for job in jobs().into_iter().take(LOST) {
        let client = client.clone();
        let deadline = Duration::from_millis(600);
        lost.spawn(async move { client.enqueue(&job, deadline).await });
        // This is longer than a job waits to share a batch with the next one.
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

#[tokio::test]
async fn a_client_that_is_dropped_disconnects_and_one_that_is_closed_says_so() {
    let redis = Redis::start().await;
    let clients = async || {
        let list: String = redis.query(&["CLIENT", "LIST"]).await;
        list.matches(" name=jobqueue-").count()
    };
    let client = connected(redis.addr()).await;
    let clone = client.clone();
    drop(client);
    let job = &jobs()[0];
    clone.enqueue(job, DEADLINE).await.unwrap();
    assert!(clients().await > 0);
    drop(clone);
    eventually("the connection is closed", PATIENCE, async || {
        (clients().await == 0).then_some(())
    })
    .await;

    redis.kill();
    let client = self::client(redis.addr());
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.connected().await }
    });
    client.close().await;
    let waited = waiting.await.unwrap();
    assert!(
        matches!(waited, Err(EnqueueError::NotConnected)),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_job_that_workers_would_bury_is_not_sent() {
    let redis = Redis::start().await;
    let client = connected(redis.addr()).await;
    let new = |payload: &str| Job::new("test:quiet", payload).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    for (job, found) in [
        (new(&"x".repeat(300_000)), "has 300078 bytes"),
        (new("").delay(367 * day), "found delay_ms 31708800000"),
        (new("").max_retry(1001), "found max_retry 1001"),
    ] {
        let result = client.enqueue(&job, DEADLINE).await;
        let Err(EnqueueError::Malformed(error)) = result else {
            panic!("{result:?}");
        };
        assert!(
            error.contains(found) && error.contains("expected"),
            "{error}"
        );
    }
    assert_eq!(redis.xlen().await, 0);
}
