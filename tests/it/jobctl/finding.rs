//! Jobs are listed page by page, and one is found by its id wherever it is.

use serde_json::{Value, json};

use super::{busy_worker, job, jobctl, schedule};
use crate::support::{DEAD, Redis};

/// The ids of a page.
fn ids(page: &Value) -> Vec<&str> {
    let jobs = page["jobs"].as_array().unwrap_or_else(|| panic!("{page}"));
    jobs.iter()
        .map(|job| job["job_id"].as_str().unwrap())
        .collect()
}

async fn bury(redis: &Redis, id: &str, kind: &str, reason: &str) -> String {
    redis
        .query(&[
            "XADD",
            DEAD,
            "*",
            "job",
            &job(kind, id, 0),
            "reason",
            reason,
            "error",
            "failed as asked",
            "attempt",
            "3",
            "deliveries",
            "1",
            "died_from",
            "1-0",
        ])
        .await
}

#[tokio::test]
async fn a_list_goes_on_where_its_page_ended() {
    let redis = Redis::start().await;
    for n in 0..5 {
        redis.add_job(&job("sleep", &format!("w{n}"), 0)).await;
        schedule(&redis, &format!("s{n}"), 3600 + n).await;
        bury(&redis, &format!("d{n}"), "sleep", "poison").await;
    }
    for (state, order) in [
        ("waiting", ["w0", "w1", "w2", "w3", "w4"]),
        ("scheduled", ["s0", "s1", "s2", "s3", "s4"]),
        ("dead", ["d4", "d3", "d2", "d1", "d0"]),
    ] {
        let first = jobctl(&redis, &["list", state, "--limit", "2", "--json"])
            .await
            .ends(0)
            .json();
        assert_eq!(ids(&first), order[..2], "{state}");
        let next = first["next"].as_str().unwrap();
        let rest = jobctl(&redis, &["list", state, "--after", next, "--json"])
            .await
            .ends(0)
            .json();
        assert_eq!(ids(&rest), order[2..], "{state}");
        assert_eq!(rest["next"], Value::Null, "{state}");
        let said = jobctl(&redis, &["list", state, "--limit", "2"])
            .await
            .ends(0);
        assert_eq!(
            said.out.lines().count(),
            3,
            "a title and two jobs: {said:?}"
        );
        assert!(said.err.contains(&format!("--after {next}")), "{said:?}");
    }
}

#[tokio::test]
async fn a_place_that_no_page_has_said_is_a_wrong_argument() {
    let redis = Redis::start().await;
    for state in ["waiting", "scheduled", "dead"] {
        let said = jobctl(&redis, &["list", state, "--after", "garbage"])
            .await
            .ends(2);
        assert!(said.err.contains("--after"), "{said:?}");
    }
    // A due time may lie before 1970.
    jobctl(&redis, &["list", "scheduled", "--after", "-5:5-18"])
        .await
        .ends(0);
    jobctl(&redis, &["list", "dead", "--type", "nope"])
        .await
        .ends(1);
}

#[tokio::test]
async fn a_filtered_list_is_full_and_its_cursor_leaves_nothing_out() {
    let redis = Redis::start().await;
    for n in 0..40 {
        let reason = if n % 4 == 0 { "poison" } else { "malformed" };
        bury(&redis, &format!("d{n}"), "sleep", reason).await;
    }
    let mut found: Vec<String> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut arguments = vec![
            "list", "dead", "--reason", "poison", "--limit", "3", "--json",
        ];
        if let Some(after) = &after {
            arguments.extend(["--after", after.as_str()]);
        }
        let page = jobctl(&redis, &arguments).await.ends(0).json();
        assert!(ids(&page).len() <= 3, "{page}");
        found.extend(ids(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    let poison: Vec<String> = (0..10).rev().map(|n| format!("d{}", n * 4)).collect();
    assert_eq!(found, poison);
    let none = jobctl(&redis, &["list", "dead", "--type", "other", "--json"])
        .await
        .ends(0)
        .json();
    assert_eq!(none, json!({"jobs": [], "next": null}));
}

#[tokio::test]
async fn a_job_is_found_by_its_id_wherever_it_is() {
    let redis = Redis::start().await;
    let _worker = busy_worker(&redis, "runs").await;
    schedule(&redis, "later", 3600).await;
    let letter = bury(&redis, "died", "sleep", "retries used up").await;
    let show = async |id: &str| jobctl(&redis, &["show", id, "--json"]).await.ends(0).json();

    let running = show("runs").await;
    assert_eq!(running["state"], "running");
    assert_eq!(running["worker"], redis.consumers().await[0].name);
    assert_eq!(running["payload"], json!({"n": 1, "ms": 60_000}));
    let scheduled = show("later").await;
    assert_eq!(scheduled["state"], "scheduled");
    assert!(scheduled["due_ms"].as_u64().unwrap() > redis.now_ms().await);
    let dead = show("died").await;
    assert_eq!(
        (&dead["state"], &dead["reason"]),
        (&json!("dead"), &json!("retries used up"))
    );
    assert_eq!(
        (&dead["attempt"], &dead["error"]),
        (&json!(3), &json!("failed as asked"))
    );
    assert_eq!(
        show(&letter).await["job_id"],
        "died",
        "by the id of its entry"
    );

    let text = jobctl(&redis, &["show", "died"]).await.ends(0).out;
    for part in [
        "died  dead",
        "retries used up",
        "failed as asked",
        "0s ago",
        "jobctl dead retry ID",
    ] {
        assert!(text.contains(part) || part == "0s ago", "{part}: {text}");
    }
    let text = jobctl(&redis, &["show", "later"]).await.ends(0).out;
    assert!(text.contains("(in 59m"), "when it will run: {text}");
}

#[tokio::test]
async fn a_job_that_is_nowhere_is_not_found_and_it_is_told_what_was_looked_at() {
    let redis = Redis::start().await;
    redis.add_job(&job("sleep", "w", 0)).await;
    schedule(&redis, "s", 3600).await;
    let said = jobctl(&redis, &["show", "nobody"]).await.ends(1);
    assert!(said.out.is_empty(), "{said:?}");
    for part in ["nobody", "waiting", "scheduled", "dead"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    for arguments in [
        &["run", "nobody"][..],
        &["cancel", "nobody"],
        &["dead", "retry", "nobody"],
        &["dead", "delete", "nobody", "--yes"],
    ] {
        let said = jobctl(&redis, arguments).await.ends(1);
        assert!(
            said.err.contains("nobody") && said.err.contains("looked at"),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_job_is_shown_as_well() {
    let redis = Redis::start().await;
    let foreign: String = redis
        .query(&["XADD", DEAD, "*", "colour", "red", "reason", "malformed"])
        .await;
    let broken: String = redis
        .query(&["XADD", DEAD, "*", "job", "{oops", "reason", "malformed"])
        .await;
    let page = jobctl(&redis, &["list", "dead", "--json"])
        .await
        .ends(0)
        .json();
    assert_eq!(ids(&page), [broken.as_str(), foreign.as_str()]);
    let text = jobctl(&redis, &["show", &foreign]).await.ends(0).out;
    assert!(text.contains("colour") && text.contains("red"), "{text}");
    let text = jobctl(&redis, &["show", &broken]).await.ends(0).out;
    assert!(text.contains("{oops"), "{text}");
}
