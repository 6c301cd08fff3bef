//! The schema: made by whoever comes first, whatever was there before.

use std::process::Command;

use crate::support::{GROUP, PATIENCE, Process, Redis, STATE, STREAM, eventually};

const PRINT: &str = r#"{"type":"demo:delay_print","payload":{"message":"x"}}"#;

#[tokio::test]
async fn jobs_that_were_there_before_the_group_are_run() {
    let redis = Redis::start().await;
    for _ in 0..3 {
        redis.add_job(PRINT).await;
    }
    let worker = Process::jobqueue(&redis).start();
    worker.wait_for_lines(3, PATIENCE).await;
    assert_eq!(redis.state().await["version"], "1");
}

#[tokio::test]
async fn programs_that_start_at_once_make_one_schema() {
    let redis = Redis::start().await;
    let workers = [(); 4].map(|()| Process::jobqueue(&redis).start());
    let server = Process::server(&redis).start();
    for process in workers.iter().chain([&server]) {
        process.wait_ready(PATIENCE).await;
    }
    let processes = workers.iter().chain([&server]);
    let made: usize = processes.map(|each| each.count_log("consumer group")).sum();
    assert_eq!(made, 1);
    let errors: String = redis.query(&["INFO", "errorstats"]).await;
    assert!(!errors.contains("BUSYGROUP"), "{errors}");
}

#[tokio::test]
async fn a_newer_version_is_not_lowered() {
    let redis = Redis::start().await;
    redis.cmd(&["HSET", STATE, "version", "7"]).await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    assert_eq!(redis.state().await["version"], "7");
}

#[tokio::test]
async fn the_migration_runs_by_hand_as_its_readme_says() {
    let redis = Redis::start().await;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/migrations/0001_create_consumer_group.lua"
    );
    for created in ["1", "0"] {
        let out = Command::new("redis-cli")
            .args([
                "-p",
                &redis.port().to_string(),
                "--eval",
                script,
                STREAM,
                STATE,
                ",",
                GROUP,
            ])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), created);
    }
}

#[tokio::test]
async fn a_group_that_is_deleted_under_workers_is_made_anew_at_the_beginning() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    redis.cmd(&["XGROUP", "DESTROY", STREAM, GROUP]).await;
    redis.add_job(PRINT).await;
    worker.wait_for_lines(1, PATIENCE).await;
    redis.drained(PATIENCE).await;
    eventually("it is ready again", PATIENCE, async || {
        (worker.get("/ready").await.0 == 200).then_some(())
    })
    .await;
}
