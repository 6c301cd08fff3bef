//! A worker that a program embeds, and ends by dropping the future of its `run`.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use dm_jobqueue::{Client, Context, JobError, Mux, RedisConfig, Worker, WorkerConfig};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{PATIENCE, Redis, eventually, test_job};

#[tokio::test]
async fn a_run_that_is_dropped_starts_nothing_more_and_leaves_nothing_behind() {
    let redis = Redis::start().await;
    for n in 0..20 {
        redis.add_job(&test_job("hang", n, 0)).await;
    }
    let (started, mut starts) = mpsc::unbounded_channel();
    let alive = Arc::new(());
    let parts = Arc::downgrade(&alive);
    let mut mux = Mux::new();
    mux.handle("test:hang", move |_: IgnoredAny, _: Context| {
        let _alive = &alive;
        started.send(()).unwrap();
        async { pending::<Result<(), JobError>>().await }
    });
    let settings = WorkerConfig {
        concurrency: 1,
        ..WorkerConfig::default()
    };
    let config = RedisConfig {
        addr: redis.addr(),
        ..RedisConfig::default()
    };
    let worker = Worker::new(&settings, &config, mux).unwrap();
    let run = tokio::spawn(async move { worker.run(pending::<()>()).await });
    timeout(PATIENCE, starts.recv()).await.unwrap();
    run.abort();
    eventually("all parts have ended", PATIENCE, async || {
        (parts.strong_count() == 0).then_some(())
    })
    .await;
    assert!(starts.recv().await.is_none(), "no other job was started");
}

#[tokio::test]
async fn a_client_takes_any_timeout_and_is_not_ready_once_it_is_closed() {
    let redis = Redis::start().await;
    let config = RedisConfig {
        addr: redis.addr(),
        ..RedisConfig::default()
    };
    let client = Client::new(&config, "default").unwrap();
    client.connected().await.unwrap();
    let job = dm_jobqueue::Job::new("x", &()).unwrap();
    client.enqueue(&job, Duration::MAX).await.unwrap();
    client.ready().await.unwrap();
    client.close().await;
    assert_eq!(client.ready().await, Err("the client is closed".to_owned()));
}
