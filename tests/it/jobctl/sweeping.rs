//! What is done to all jobs that match a filter.

use serde_json::json;

use super::{job, jobctl, schedule};
use crate::support::{DEAD, Redis};

async fn bury(redis: &Redis, age_s: u64, id: &str, reason: &str) {
    let at = redis.now_ms().await - age_s * 1000;
    let id_of_entry = format!("{at}-*");
    let fields = [
        "XADD",
        DEAD,
        &id_of_entry,
        "job",
        &job("sleep", id, 0),
        "reason",
        reason,
    ];
    redis.cmd(&fields).await;
}

#[tokio::test]
async fn all_dead_letters_of_one_reason_run_again() {
    let redis = Redis::start().await;
    for n in 0..250 {
        let reason = if n % 2 == 0 {
            "retries used up"
        } else {
            "poison"
        };
        bury(&redis, 0, &format!("d{n}"), reason).await;
    }
    let said = jobctl(&redis, &["dead", "retry", "--reason", "retries used up"])
        .await
        .ends(0);
    assert_eq!(said.out, "125 dead letters sent to run again");
    let now = redis.backlog().await;
    assert_eq!((now.stream, now.dead), (125, 125));
    let said = jobctl(&redis, &["dead", "retry", "--reason", "retries used up"])
        .await
        .ends(1);
    assert!(said.err.contains("nothing matches"), "{said:?}");
}

#[tokio::test]
async fn dead_letters_older_than_a_week_are_deleted() {
    let redis = Redis::start().await;
    let day = 24 * 3600;
    for (age, id) in [
        (30 * day, "old"),
        (8 * day, "older"),
        (6 * day, "young"),
        (0, "new"),
    ] {
        bury(&redis, age, id, "poison").await;
    }
    let older = ["dead", "delete", "--older", "7d"];
    let said = jobctl(&redis, &older).await.ends(2);
    assert!(
        said.err.contains("delete 2 dead letters older than 7d?"),
        "{said:?}"
    );
    assert!(said.err.contains("--yes"), "{said:?}");
    assert_eq!(redis.dead_letters().await.len(), 4, "nothing was changed");
    let said = jobctl(&redis, &[&older[..], &["--yes", "--json"]].concat())
        .await
        .ends(0)
        .json();
    assert_eq!(
        (&said["action"], &said["state"]),
        (&json!("delete"), &json!("dead"))
    );
    assert_eq!(
        (&said["done"], &said["complete"]),
        (&json!(2), &json!(true))
    );
    let page = jobctl(&redis, &["list", "dead", "--json"])
        .await
        .ends(0)
        .json();
    assert_eq!(page["jobs"][0]["job_id"], "new");
    assert_eq!(page["jobs"][1]["job_id"], "young");
}

#[tokio::test]
async fn scheduled_and_waiting_jobs_are_cancelled_by_type_or_text() {
    let redis = Redis::start().await;
    for n in 0..3 {
        schedule(&redis, &format!("s{n}"), 3600).await;
        redis.add_job(&job("sleep", &format!("w{n}"), n)).await;
    }
    redis.add_job(&job("fail", "other", 0)).await;
    let cancel = async |filter: &[&str]| {
        let arguments = [&["cancel", "--yes"], filter].concat();
        jobctl(&redis, &arguments).await
    };
    let said = cancel(&["--state", "scheduled", "--type", "test:fail"])
        .await
        .ends(1);
    assert!(said.err.contains("nothing matches"), "{said:?}");
    let said = cancel(&["--state", "scheduled", "--all"]).await.ends(0);
    assert_eq!(said.out, "3 scheduled jobs cancelled");
    let said = cancel(&["--state", "waiting", "--text", "\"ms\":2"])
        .await
        .ends(0);
    assert_eq!(said.out, "1 waiting job cancelled");
    let said = cancel(&["--state", "waiting", "--type", "test:sleep"])
        .await
        .ends(0);
    assert_eq!(said.out, "2 waiting jobs cancelled");
    let now = redis.backlog().await;
    assert_eq!((now.stream, now.scheduled), (1, 0));
}

#[tokio::test]
async fn many_scheduled_jobs_run_now_after_a_question() {
    let redis = Redis::start().await;
    for n in 0..3 {
        schedule(&redis, &format!("s{n}"), 3600).await;
    }
    let said = jobctl(&redis, &["run", "--all"]).await.ends(2);
    assert!(said.err.contains("run 3 scheduled jobs?"), "{said:?}");
    assert_eq!(redis.scheduled().await, 3);
    jobctl(&redis, &["run", "--all", "--yes"]).await.ends(0);
    assert_eq!((redis.scheduled().await, redis.xlen().await), (0, 3));
}
