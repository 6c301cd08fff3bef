//! `/ready` and the log tell the present condition of Redis. They also tell conditions that do not
//! stop the programs. A warning appears with its cause and ends with it.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{LEASE, PATIENCE, Process, Redis, STATE, STREAM, TestApp, eventually, stays};

/// Twice the second between two questions to Redis, and a second for a busy machine.
const SOON: Duration = Duration::from_secs(3);
/// The longest time until a program looks at Redis when nobody asks `/ready`.
const UNASKED: Duration = Duration::from_secs(18);

fn both(redis: &Redis) -> [Process; 2] {
    [Process::server, Process::jobqueue].map(|program| program(redis).start())
}

/// Waits until `/ready` gives an answer that `is` accepts.
async fn answers(program: &Process, what: &str, is: impl Fn(StatusCode, &str) -> bool) -> String {
    eventually(what, SOON, async || {
        let (status, body) = program.get("/ready").await;
        is(status, &body).then_some(body)
    })
    .await
}

async fn is_fine(program: &Process) {
    answers(program, "all is well", |status, body| {
        status == 200 && body == "OK"
    })
    .await;
}

/// Waits until `/ready` warns of `part` with status 200.
async fn warns(program: &Process, part: &str) -> String {
    let warning = |line: &str| line.starts_with("warning: ") && line.contains(part);
    let body = answers(program, part, |status, body| {
        status == 200 && body.starts_with("OK\n") && body.lines().any(warning)
    });
    body.await
}

/// Checks that a warning begins after `cause` has run and ends after `cure` has run, in `/ready`
/// and in the log.
async fn comes_and_goes(cause: &[&str], part: &str, cure: &[&str], end: &str) {
    let redis = Redis::start().await;
    let programs = both(&redis);
    for program in &programs {
        program.wait_ready(PATIENCE).await;
        is_fine(program).await;
    }
    for _ in 0..2 {
        let marks = programs.each_ref().map(Process::log_mark);
        redis.cmd(cause).await;
        for (program, mark) in programs.iter().zip(marks) {
            let body = warns(program, part).await;
            assert!(body.contains(", since 20"), "{body}");
            let line = program.wait_for_log_since(mark, part, PATIENCE).await;
            assert!(line.text.contains(" WARN "), "{line:?}");
            assert!(line.text.contains(&redis.addr()), "{line:?}");
        }
        redis.cmd(cure).await;
        for (program, mark) in programs.iter().zip(marks) {
            is_fine(program).await;
            let line = program.wait_for_log_since(mark, end, PATIENCE).await;
            assert!(line.text.contains(" INFO "), "{line:?}");
        }
    }
    for program in &programs {
        assert_eq!(program.count_log(part), 2);
    }
}

#[tokio::test]
async fn a_pause_is_told_while_it_lasts() {
    comes_and_goes(
        &["HSET", STATE, "paused", "1"],
        "the queue is paused (jobqueue:{default}:state paused)",
        &["HDEL", STATE, "paused"],
        "the queue goes on",
    )
    .await;
}

#[tokio::test]
async fn an_eviction_policy_is_told_while_it_lasts() {
    comes_and_goes(
        &["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"],
        "maxmemory-policy is allkeys-lfu; set it to noeviction",
        &["CONFIG", "SET", "maxmemory-policy", "volatile-lru"],
        "no jobs are evicted any more",
    )
    .await;
}

#[tokio::test]
async fn a_change_is_logged_also_when_nobody_asks() {
    let redis = Redis::start().await;
    let programs = both(&redis);
    for program in &programs {
        program.wait_for_log("connected to redis", PATIENCE).await;
    }
    redis
        .cmd(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await;
    redis.cmd(&["HSET", STATE, "paused", "1"]).await;
    for program in &programs {
        for part in ["maxmemory-policy is allkeys-lru", "the queue is paused"] {
            program.wait_for_log(part, UNASKED).await;
        }
    }
}

#[tokio::test]
async fn a_failed_snapshot_that_stops_no_write_is_told() {
    let redis = Redis::start().await;
    let programs = both(&redis);
    redis
        .cmd(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"])
        .await;
    let snapshot = redis.dir().join("dump.rdb");
    std::fs::create_dir(&snapshot).unwrap();
    redis.cmd(&["BGSAVE"]).await;
    for program in &programs {
        program.wait_ready(PATIENCE).await;
        warns(program, "last snapshot failed").await;
    }
    std::fs::remove_dir(&snapshot).unwrap();
    redis.cmd(&["BGSAVE"]).await;
    for program in &programs {
        is_fine(program).await;
    }
}

#[tokio::test]
async fn a_replica_that_takes_writes_is_told() {
    let (redis, nowhere) = (Redis::start().await, Redis::reserve());
    let programs = both(&redis);
    for program in &programs {
        program.wait_ready(PATIENCE).await;
    }
    redis
        .cmd(&["CONFIG", "SET", "replica-read-only", "no"])
        .await;
    let port = nowhere.port().to_string();
    redis.cmd(&["REPLICAOF", "127.0.0.1", &port]).await;
    for program in &programs {
        warns(program, "is a replica that takes writes").await;
    }
    redis.cmd(&["REPLICAOF", "NO", "ONE"]).await;
    for program in &programs {
        is_fine(program).await;
    }
}

#[tokio::test]
async fn a_memory_that_fills_is_told() {
    let redis = Redis::start().await;
    let programs = both(&redis);
    for program in &programs {
        program.wait_ready(PATIENCE).await;
    }
    // This is much more memory than connections use or free.
    redis.cmd(&["SET", "filler", &"x".repeat(20_000_000)]).await;
    let info: String = redis.query(&["INFO", "memory"]).await;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.unwrap().trim().parse().unwrap();
    let limit = (used * 107 / 100).to_string();
    redis.cmd(&["CONFIG", "SET", "maxmemory", &limit]).await;
    for program in &programs {
        warns(program, "memory is nearly full").await;
    }
    redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
    for program in &programs {
        is_fine(program).await;
    }
}

#[tokio::test]
async fn a_full_memory_makes_the_server_unready_and_warns_of_it_at_the_worker() {
    let redis = Redis::start().await;
    let [server, worker] = both(&redis);
    for full in ["1", "1"] {
        server.wait_ready(PATIENCE).await;
        redis.cmd(&["CONFIG", "SET", "maxmemory", full]).await;
        // No client registers a job meanwhile.
        let reason = server.wait_not_ready(SOON).await;
        let says = format!("Redis at {} is out of memory", redis.addr());
        assert!(reason.contains(&says), "{reason}");
        warns(&worker, "out of memory").await;
        server.wait_for_log("out of memory", PATIENCE).await;
        redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
        server.wait_ready(Duration::from_secs(2)).await;
        is_fine(&worker).await;
    }
    assert_eq!(redis.xlen().await, 0, "nothing was appended to find out");
    assert_eq!(server.count_log("redis is unavailable"), 0);
}

#[tokio::test]
async fn what_a_job_has_just_disproved_is_not_answered_again() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        app.redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
        let (status, ..) = app.register(json!({"delay": "0s"})).await;
        assert_eq!(status, 201);
        // This also asks, so that the program has a fresh answer when the memory fills.
        assert_eq!(app.server.get("/ready").await.0, 200);
        app.redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
        let (status, ..) = app.register(json!({"delay": "0s"})).await;
        assert_eq!(status, 503);
        let (status, body) = app.server.get("/ready").await;
        assert_eq!(status, 503, "{body}");
        assert!(body.contains("out of memory"), "{body}");
    }
}

#[tokio::test]
async fn a_server_that_starts_with_a_full_memory_is_unready_and_stays_connected() {
    let redis = Redis::builder().directive("maxmemory", "1").start().await;
    let app = TestApp::with(redis, &[]).await;
    let reason = eventually("it says that the memory is full", SOON, async || {
        let (status, body) = app.server.get("/ready").await;
        (status == 503 && body.contains("out of memory")).then_some(body)
    })
    .await;
    assert!(reason.contains(&app.redis.addr()), "{reason}");
    let (status, body, _) = app.register(json!({"delay": "0s"})).await;
    assert_eq!(status, 503);
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.contains("out of memory"), "{detail}");
    assert!(!detail.contains(&app.redis.addr()), "{detail}");
}

#[tokio::test]
async fn a_user_who_may_not_ask_is_told_of_a_full_memory_all_the_same() {
    let redis = Redis::start().await;
    let user = "on nopass ~jobqueue:* +@read +@write +@scripting +hello +time";
    let command: Vec<_> = "ACL SETUSER app"
        .split(' ')
        .chain(user.split(' '))
        .collect();
    redis.cmd(&command).await;
    let programs = [Process::server, Process::jobqueue].map(|program| {
        let key = "APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME";
        program(&redis).env(key, "app").start()
    });
    for program in &programs {
        is_fine(program).await;
    }
    redis.cmd(&["HSET", STATE, "paused", "1"]).await;
    redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let [server, worker] = &programs;
    warns(worker, "out of memory").await;
    warns(worker, "the queue is paused").await;
    server.wait_not_ready(SOON).await;
    // Redis counts the commands that it refuses. A refused command must not be repeated again and
    // again: each program asked for the version once, and then once more.
    let stats: String = redis.query(&["INFO", "commandstats"]).await;
    let info = stats.lines().find(|line| line.starts_with("cmdstat_info:"));
    let (_, rejected) = info.unwrap().split_once("rejected_calls=").unwrap();
    let rejected: u64 = rejected.split(',').next().unwrap().parse().unwrap();
    assert_eq!(rejected, 2 * 2, "{info:?}");
}

#[tokio::test]
async fn registrations_that_are_refused_for_another_reason_make_the_server_unready() {
    let app = TestApp::start().await;
    let last = format!("{0}-{0}", u64::MAX);
    app.redis
        .cmd(&[
            "XADD",
            STREAM,
            &last,
            "job",
            r#"{"type":"demo:delay_print"}"#,
        ])
        .await;
    eventually("it is refused", PATIENCE, async || {
        let (status, body, _) = app.register(json!({"delay": "0s"})).await;
        assert_eq!(status, 503);
        body.to_string().contains("(ERR)").then_some(())
    })
    .await;
    // The connection works and is used again, but no job can be registered.
    app.server.wait_for_log("available again", PATIENCE).await;
    stays("/ready tells why", SOON, async || {
        let (status, reason) = app.server.get("/ready").await;
        let named = format!("Redis at {} answers ERR", app.redis.addr());
        status == 503 && reason.contains(&named) && reason.contains("exhausted")
    })
    .await;
    app.redis.cmd(&["DEL", STREAM]).await;
    eventually("it is accepted", PATIENCE, async || {
        let (status, ..) = app.register(json!({"delay": "0s"})).await;
        (status == 201).then_some(())
    })
    .await;
    app.server.wait_ready(SOON).await;
}

#[tokio::test]
async fn a_worker_that_cannot_work_says_so() {
    for (cause, part) in [
        ("SET jobqueue:{default}:dead string", "WRONGTYPE"),
        ("ACL SETUSER default -xack", "NOPERM"),
        ("ACL SETUSER default -xreadgroup", "NOPERM"),
    ] {
        let redis = Redis::start().await;
        let worker = Process::jobqueue(&redis).envs(&[LEASE]).start();
        worker.wait_ready(PATIENCE).await;
        redis.cmd(&cause.split(' ').collect::<Vec<_>>()).await;
        redis.add_job("no job").await;
        let reason = worker.wait_not_ready(PATIENCE).await;
        let named = format!("Redis at {} answers {part}", redis.addr());
        assert!(reason.contains(&named), "{cause}: {reason}");
    }
}

#[tokio::test]
async fn a_stream_that_is_none_makes_both_unready() {
    let redis = Redis::start().await;
    redis.cmd(&["SET", STREAM, "a string"]).await;
    for program in both(&redis) {
        let reason = eventually("it is told", PATIENCE, async || {
            let (status, body) = program.get("/ready").await;
            (status == 503 && body.contains("answers WRONGTYPE")).then_some(body)
        })
        .await;
        assert!(reason.contains(&redis.addr()), "{reason}");
    }
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_named() {
    let redis = Redis::start().await;
    for program in both(&redis) {
        program.wait_ready(PATIENCE).await;
        redis.freeze();
        let reason = program.wait_not_ready(PATIENCE).await;
        let named = format!("cannot reach Redis at {}: no ", redis.addr());
        assert!(reason.contains(&named), "{reason}");
        redis.resume();
    }
}
