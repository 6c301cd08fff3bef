//! What is shown of the queue as a whole and of its workers.

use std::time::Duration;

use serde_json::{Value, json};

use super::{busy_worker, eventually_json, finished, job, jobctl, schedule};
use crate::support::{Clock, DEAD, LEASES, PATIENCE, Process, Redis};

const WORKERS: &str = "jobqueue:{default}:workers";
const DONE: &str = "jobqueue:{default}:done";
const TOTALS: &str = "jobqueue:{default}:totals";

/// Adds a finished job as a worker does. It stands for `count` of them.
async fn finish(redis: &Redis, id: &str, wait_ms: u64, run_ms: u64, count: u64) {
    let now = redis.now_ms().await;
    let [due, started] = [now - run_ms - wait_ms, now - run_ms].map(|ms| ms.to_string());
    let (now, count) = (now.to_string(), count.to_string());
    redis
        .cmd(&[
            "XADD",
            DONE,
            "*",
            "job_id",
            id,
            "type",
            "test:sleep",
            "attempt",
            "0",
            "registered_ms",
            &due,
            "due_ms",
            &due,
            "started_ms",
            &started,
            "finished_ms",
            &now,
            "consumer",
            "worker-1",
            "count",
            &count,
        ])
        .await;
}

#[tokio::test]
async fn stats_of_a_queue_that_nobody_has_used_are_all_zero() {
    let redis = Redis::start().await;
    let stats = jobctl(&redis, &["stats", "--json"]).await.ends(0).json();
    let nothing = json!({
        "queue": "default", "waiting": 0, "running": 0, "scheduled": 0, "due": 0, "dead": 0,
        "oldest_waiting_ms": null, "next_due_ms": null, "workers": 0, "slots": 0, "slots_busy": 0,
        "paused": false,
        "today": {"completed": 0, "failed": 0, "retried": 0, "dead": {}, "reclaimed": 0, "put_back": 0},
        "last_minute": {"completed": 0, "per_second": 0.0, "wait_ms": null, "run_ms": null},
    });
    assert_eq!(stats, nothing);
    let keys: Vec<String> = redis.query(&["KEYS", "*"]).await;
    assert!(keys.is_empty(), "looking creates nothing: {keys:?}");
}

#[tokio::test]
async fn stats_say_where_the_jobs_are() {
    let redis = Redis::start().await;
    let _worker = busy_worker(&redis, "runs").await;
    for id in ["w1", "w2"] {
        redis.add_job(&job("sleep", id, 0)).await;
    }
    schedule(&redis, "later", 3600).await;
    redis
        .cmd(&[
            "XADD",
            DEAD,
            "*",
            "job",
            &job("sleep", "d", 0),
            "reason",
            "poison",
        ])
        .await;
    // What was fetched ahead is put back after a while.
    let stats = eventually_json(&redis, &["stats", "--json"], |stats| {
        stats["running"] == 1 && stats["waiting"] == 2
    })
    .await;
    assert_eq!(stats["scheduled"], 1);
    assert_eq!(stats["due"], 0);
    assert_eq!(stats["dead"], 1);
    assert_eq!(stats["workers"], 1);
    assert!(
        stats["oldest_waiting_ms"].as_u64().unwrap() < 60_000,
        "{stats}"
    );
    let next = stats["next_due_ms"].as_u64().unwrap();
    assert!((3_500_000..=3_600_000).contains(&next), "{stats}");

    let text = jobctl(&redis, &["stats"]).await.ends(0).out;
    for line in [
        "queue default",
        "waiting",
        "busy in 1 worker",
        "the next in 59m",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn stats_have_throughput_latency_and_the_totals_of_the_day() {
    let redis = Redis::start().await;
    finish(&redis, "a", 10, 1000, 1).await;
    finish(&redis, "b", 30, 2000, 5).await;
    // A minute of the clock that ends meanwhile would count in part.
    while redis.now_ms().await % 60_000 > 55_000 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let minute = redis.now_ms().await / 60_000;
    for (minute, number) in [(minute, "6"), (minute - 2, "7000")] {
        let field = format!("completed@{minute}");
        redis.cmd(&["HSET", TOTALS, &field, number]).await;
    }
    let day = redis.now_ms().await / 86_400_000;
    for (kind, number) in [
        ("completed", "20783"),
        ("failed", "2"),
        ("dead.poison", "1"),
    ] {
        redis
            .cmd(&["HSET", TOTALS, &format!("{kind}:{day}"), number])
            .await;
    }
    redis
        .cmd(&["HSET", TOTALS, &format!("completed:{}", day - 1), "7"])
        .await;
    let stats = jobctl(&redis, &["stats", "--json"]).await.ends(0).json();
    assert_eq!(stats["today"]["completed"], 20_783);
    assert_eq!(stats["today"]["failed"], 2);
    assert_eq!(stats["today"]["dead"], json!({"poison": 1}));
    assert_eq!(stats["last_minute"]["completed"], 6);
    assert_eq!(stats["last_minute"]["per_second"], 0.1);
    assert_eq!(
        stats["last_minute"]["wait_ms"],
        json!({"p50": 30, "p95": 30, "max": 30})
    );
    assert_eq!(stats["last_minute"]["run_ms"]["max"], 2000);
    let text = jobctl(&redis, &["stats"]).await.ends(0).out;
    for part in [
        "20,783  done, 2 failed",
        "6  done, 0.1/s",
        "p50 30ms, p95 30ms",
        "1  poison 1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn stats_say_that_the_queue_is_paused_until_it_is_not() {
    let redis = Redis::start().await;
    let paused = jobctl(&redis, &["pause", "--json"]).await.ends(0).json();
    assert_eq!(
        paused,
        json!({"queue": "default", "paused": true, "changed": true})
    );
    let again = jobctl(&redis, &["pause"]).await.ends(0);
    assert!(again.out.contains("already paused"), "{again:?}");
    assert_eq!(redis.state().await["paused"], "1");
    assert_eq!(
        jobctl(&redis, &["stats", "--json"]).await.json()["paused"],
        true
    );
    assert!(jobctl(&redis, &["stats"]).await.out.contains("PAUSED"));
    let resumed = jobctl(&redis, &["resume", "--json"]).await.ends(0).json();
    assert_eq!(
        resumed,
        json!({"queue": "default", "paused": false, "changed": true})
    );
    assert!(!redis.state().await.contains_key("paused"));
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_and_goes_on_afterwards() {
    let redis = Redis::start().await;
    jobctl(&redis, &["pause"]).await.ends(0);
    let worker = Process::test_worker(&redis).start();
    worker.wait_ready(PATIENCE).await;
    redis.add_test_job("sleep", 1, 0).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(worker.count("start 1"), 0);
    jobctl(&redis, &["resume"]).await.ends(0);
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
}

#[tokio::test]
async fn workers_are_shown_with_what_each_runs() {
    let redis = Redis::start().await;
    let _worker = busy_worker(&redis, "runs").await;
    let workers = jobctl(&redis, &["workers", "--json"]).await.ends(0).json();
    let [worker] = workers["workers"].as_array().unwrap().as_slice() else {
        panic!("{workers}");
    };
    let name = redis.consumers().await[0].name.clone();
    assert_eq!(worker["name"], name);
    assert_eq!(worker["alive"], true);
    assert_eq!(worker["pending"], 1);
    assert_eq!(worker["jobs"][0]["job_id"], "runs");
    let text = jobctl(&redis, &["workers"]).await.ends(0).out;
    assert!(
        text.contains(&name) && text.contains("alive") && text.contains("runs"),
        "{text}"
    );
}

#[tokio::test]
async fn a_worker_tells_of_itself_and_an_old_one_is_gone() {
    let redis = Redis::start().await;
    let now = redis.now_ms().await;
    let tells = |seen: u64| {
        json!({
            "host": "host-1", "pid": 7, "version": "0.2.0", "concurrency": 10, "running": 3, "held": 4,
            "started_ms": now - 60_000, "seen_ms": seen,
        })
        .to_string()
    };
    redis
        .cmd(&["HSET", WORKERS, "host-1-7-aa", &tells(now)])
        .await;
    redis
        .cmd(&["HSET", WORKERS, "host-1-8-bb", &tells(now - 3_600_000)])
        .await;
    redis
        .cmd(&[
            "ZADD",
            LEASES,
            "15000",
            "host-1-7-aa",
            "15000",
            "host-1-8-bb",
        ])
        .await;
    let said = jobctl(&redis, &["workers", "--json"]).await.ends(0).json();
    let worker = |name: &str| -> Value {
        let all = said["workers"].as_array().unwrap();
        all.iter()
            .find(|it| it["name"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("{said}"))
    };
    let live = worker("host-1-7-aa");
    assert_eq!(live["alive"], true);
    for (field, value) in [("pid", 7), ("concurrency", 10), ("running", 3), ("held", 4)] {
        assert_eq!(live[field], value, "{live}");
    }
    assert_eq!(live["host"], "host-1");
    assert_eq!(worker("host-1-8-bb")["alive"], false);
    let stats = jobctl(&redis, &["stats", "--json"]).await.json();
    assert_eq!(
        (&stats["workers"], &stats["slots"], &stats["slots_busy"]),
        (&json!(1), &json!(10), &json!(3))
    );
    let text = jobctl(&redis, &["workers"]).await.ends(0).out;
    assert!(text.contains("host-1-8-bb  gone"), "{text}");
}

#[tokio::test]
async fn health_is_a_status_for_scripts() {
    let redis = Redis::start().await;
    let said = jobctl(&redis, &["health"]).await.ends(1);
    assert!(said.out.contains("no worker lives"), "{said:?}");
    let worker = Process::test_worker(&redis).start();
    worker.wait_ready(PATIENCE).await;
    let health = jobctl(&redis, &["health", "--json"]).await.ends(0).json();
    let well = json!({
        "queue": "default", "redis": redis.addr(), "healthy": true, "paused": false, "workers": 1,
        "warnings": [],
    });
    assert_eq!(health, well);
}

#[tokio::test]
async fn another_queue_is_another_backlog() {
    let redis = Redis::start().await;
    redis
        .cmd(&["XADD", "jobqueue:{mail}", "*", "job", &job("sleep", "m", 0)])
        .await;
    let waiting = |said: super::Said| said.ends(0).json()["waiting"].clone();
    assert_eq!(waiting(jobctl(&redis, &["stats", "--json"]).await), 0);
    assert_eq!(
        waiting(jobctl(&redis, &["stats", "--json", "--queue", "mail"]).await),
        1
    );
    let variable = Process::jobctl(&redis).env("APP__JOBQUEUE__QUEUE", "mail");
    assert_eq!(
        waiting(finished(variable.args(&["stats", "--json"])).await),
        1
    );
}

#[tokio::test]
async fn times_are_by_the_clock_of_redis() {
    let clock = Clock::new();
    clock.set(-24 * 3600 * 1000);
    let redis = Redis::builder().clock(&clock).start().await;
    schedule(&redis, "later", 3600).await;
    for arguments in [&["list", "scheduled"][..], &["show", "later"], &["stats"]] {
        let said = jobctl(&redis, arguments).await.ends(0);
        assert!(said.out.contains("in 59m"), "{said:?}");
    }
}
