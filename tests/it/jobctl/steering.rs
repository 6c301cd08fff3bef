//! What is done to jobs that are named, and what is said when it cannot be done.

use serde_json::json;

use super::{busy_worker, eventually_json, job, jobctl, schedule};
use crate::support::{DEAD, PATIENCE, Process, Redis};

async fn bury(redis: &Redis, id: &str, reason: &str) {
    let fields = [
        "XADD",
        DEAD,
        "*",
        "job",
        &job("sleep", id, 0),
        "reason",
        reason,
    ];
    redis.cmd(&fields).await;
}

#[tokio::test]
async fn a_scheduled_job_runs_now() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    schedule(&redis, "later", 3600).await;
    let said = jobctl(&redis, &["run", "later"]).await.ends(0);
    assert!(
        said.out
            .contains("later: sent to run now (it was scheduled)"),
        "{said:?}"
    );
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn a_scheduled_and_a_waiting_job_are_cancelled_at_once() {
    let redis = Redis::start().await;
    schedule(&redis, "later", 3600).await;
    for id in ["w1", "w2"] {
        redis.add_job(&job("sleep", id, 0)).await;
    }
    let said = jobctl(&redis, &["cancel", "later", "w1", "--json"])
        .await
        .ends(0)
        .json();
    let outcome = |place: usize| {
        let job = &said["jobs"][place];
        (
            job["id"].clone(),
            job["outcome"].clone(),
            job["job"]["state"].clone(),
        )
    };
    assert_eq!(
        outcome(0),
        (json!("later"), json!("done"), json!("scheduled"))
    );
    assert_eq!(outcome(1), (json!("w1"), json!("done"), json!("waiting")));
    let worker = Process::test_worker(&redis).start();
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count("start 1"), 1, "only w2 ran");
}

#[tokio::test]
async fn what_comes_too_late_says_what_the_job_is_instead() {
    let redis = Redis::start().await;
    let _worker = busy_worker(&redis, "runs").await;
    bury(&redis, "died", "poison").await;
    redis.add_job(&job("sleep", "waits", 0)).await;
    for (arguments, what) in [
        (&["run", "runs"][..], "running"),
        (&["run", "waits"], "it waits"),
        (&["run", "died"], "it is a dead letter; retry it instead"),
        (&["cancel", "died"], "dead"),
        (&["dead", "retry", "runs"], "running"),
        (
            &["dead", "delete", "waits", "--yes"],
            "it waits for the next free worker; cancel it instead",
        ),
    ] {
        let said = jobctl(&redis, arguments).await.ends(1);
        assert!(
            said.out.is_empty() && said.err.contains(what),
            "{arguments:?}: {said:?}"
        );
    }
    // What can be done is done nevertheless.
    let said = jobctl(&redis, &["dead", "retry", "runs", "died", "--json"])
        .await
        .ends(1)
        .json();
    assert_eq!(said["jobs"][0]["outcome"], "refused");
    assert_eq!(said["jobs"][1]["outcome"], "done");
}

#[tokio::test]
async fn a_running_job_is_asked_to_end() {
    let redis = Redis::start().await;
    let _worker = busy_worker(&redis, "runs").await;
    let said = jobctl(&redis, &["cancel", "runs", "--json"])
        .await
        .ends(0)
        .json();
    assert_eq!(said["jobs"][0]["outcome"], "asked");
    let cancel: Vec<String> = redis.query(&["HKEYS", "jobqueue:{default}:cancel"]).await;
    let entry = said["jobs"][0]["job"]["entry_id"].as_str().unwrap();
    assert_eq!(cancel, [entry]);
    // Its worker ends it at its next heartbeat.
    eventually_json(&redis, &["show", "runs", "--json"], |job| {
        job["reason"] == "cancelled" || job["cancelling"] == true
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_runs_again_with_its_own_id() {
    let redis = Redis::start().await;
    bury(&redis, "died", "retries used up").await;
    let said = jobctl(&redis, &["dead", "retry", "died"]).await.ends(0);
    assert!(said.out.contains("died: sent to run again"), "{said:?}");
    assert_eq!(redis.dead_letters().await.len(), 0);
    let again = jobctl(&redis, &["show", "died", "--json"])
        .await
        .ends(0)
        .json();
    assert_eq!(
        (&again["state"], &again["attempt"]),
        (&json!("waiting"), &json!(0))
    );
}

#[tokio::test]
async fn a_deletion_is_a_question_and_without_an_answer_nothing_is_done() {
    let redis = Redis::start().await;
    bury(&redis, "died", "poison").await;
    let said = jobctl(&redis, &["dead", "delete", "died"]).await.ends(2);
    assert!(
        said.err.contains("died") && said.err.contains("--yes"),
        "{said:?}"
    );
    assert_eq!(redis.dead_letters().await.len(), 1);
    jobctl(&redis, &["dead", "delete", "died", "--yes"])
        .await
        .ends(0);
    assert_eq!(redis.dead_letters().await.len(), 0);
}
