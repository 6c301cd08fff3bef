//! A worker and a client that are made of settings in code, without any file.

use std::time::Duration;

use dm_jobqueue::{Client, Context, Mux, RedisConfig, Worker, WorkerConfig};

/// The message of a worker that cannot be made.
fn refusal(config: &WorkerConfig, redis: &RedisConfig) -> String {
    Worker::new(config, redis, Mux::new())
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn the_defaults_make_a_worker_and_a_client() {
    let (config, redis) = (WorkerConfig::default(), RedisConfig::default());
    Worker::new(&config, &redis, Mux::new()).unwrap();
    Client::new(&redis, &config.queue).unwrap();
}

#[tokio::test]
async fn what_files_may_not_have_is_refused_in_code_too() {
    let (config, redis) = (WorkerConfig::default(), RedisConfig::default());
    let hasty = WorkerConfig {
        heartbeat: Some(config.lease / 2),
        ..config.clone()
    };
    assert!(refusal(&hasty, &redis).contains("less than half of jobqueue.lease"));
    let slow = RedisConfig {
        dial_timeout: Duration::from_secs(61),
        ..redis.clone()
    };
    let message = refusal(&config, &slow);
    assert!(
        message.contains("dial_timeout: found \"1m 1s\""),
        "{message}"
    );

    let error = Client::new(&slow, "default").unwrap_err();
    assert_eq!(error.to_string(), message);
    let error = Client::new(&redis, "{other}").unwrap_err();
    assert!(
        error.to_string().starts_with("jobqueue.queue: found "),
        "{error}"
    );
}

#[tokio::test]
async fn a_timeout_that_no_clock_can_tell_is_refused() {
    let mut mux = Mux::new();
    let options = mux.handle("x", async |(): (), _: Context| Ok(()));
    options.timeout(Duration::MAX);
    let error = Worker::new(&WorkerConfig::default(), &RedisConfig::default(), mux).unwrap_err();
    assert_eq!(error.key, r#"jobqueue.job_timeout of the job type "x""#);
}
