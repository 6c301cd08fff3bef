//! One job through the whole system.

use std::time::Duration;

use serde_json::json;

use crate::support::{PATIENCE, Process, Redis, TestApp};

#[tokio::test]
async fn a_registered_job_is_printed_and_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let worker = app.worker().start();
    app.registered(json!({"message": "hello", "delay": "200ms"}))
        .await;
    let line = worker
        .wait_for_line(|line| line.ends_with("] hello"), PATIENCE)
        .await;
    assert!(line.complete);
    app.drained(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn the_test_worker_runs_its_handlers() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    redis
        .add_job(r#"{"type":"test:sleep","payload":{"n":1,"ms":50}}"#)
        .await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
}
