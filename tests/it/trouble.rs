//! A Redis that answers, but not what the queue needs: permissions, passwords, full
//! memory, a full disk, a read-only replica, keys of a wrong type.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    DEAD, PATIENCE, Process, Redis, SCHEDULED, STATE, TestApp, eventually, within,
};

/// How soon a queue goes on after somebody mended what it waited for.
const MENDED: Duration = Duration::from_secs(6);
const SLACK: Duration = Duration::from_secs(2);

fn print_job(message: &str) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"{message}"}}}}"#)
}

#[tokio::test]
async fn a_wrong_password_is_named_and_waited_for() {
    let redis = Redis::builder().password("right").start().await;
    let worker = Process::jobqueue(&redis)
        .env(
            "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD",
            "wrong-secret",
        )
        .start();
    let reason = worker.wait_not_ready(PATIENCE).await;
    let reason = eventually("the reason", PATIENCE, async || {
        let (_, reason) = worker.get("/ready").await;
        reason.contains("WRONGPASS").then_some(reason)
    })
    .await
        + &reason;
    assert!(!reason.contains("wrong-secret"));
    let connections = async || {
        let stats: String = redis.query(&["INFO", "stats"]).await;
        let line = stats
            .lines()
            .find(|line| line.starts_with("total_connections_received:"));
        line.unwrap()
            .rsplit(':')
            .next()
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    let before = connections().await;
    let ended = within(Duration::from_secs(6), async || worker.exited());
    assert!(ended.await.is_none(), "it lives");
    // This look is a connection as well.
    let attempts = connections().await - before - 1;
    assert!((1..=2).contains(&attempts), "{attempts} attempts in 6 s");
    assert_eq!(worker.count_log("WRONGPASS"), 1, "{:#?}", worker.stderr());

    redis
        .cmd(&["CONFIG", "SET", "requirepass", "wrong-secret"])
        .await;
    worker.wait_ready(MENDED + SLACK).await;
    assert!(
        worker
            .stderr()
            .iter()
            .all(|line| !line.text.contains("wrong-secret"))
    );
}

#[tokio::test]
async fn a_missing_password_is_waited_for_too() {
    let redis = Redis::builder().password("right").start().await;
    let worker = Process::jobqueue(&redis)
        .env_remove("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD")
        .start();
    worker.wait_for_log("NOAUTH", PATIENCE).await;
    worker.wait_not_ready(PATIENCE).await;
    redis.cmd(&["CONFIG", "SET", "requirepass", ""]).await;
    worker.wait_ready(MENDED + SLACK).await;
}

#[tokio::test]
async fn a_permission_taken_away_is_named_and_waited_for() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    let mark = worker.log_mark();
    redis
        .cmd(&["ACL", "SETUSER", "default", "-xreadgroup"])
        .await;
    worker
        .wait_for_log_since(mark, "xreadgroup", PATIENCE)
        .await;
    let (status, reason) = worker.get("/ready").await;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("NOPERM"), "{reason}");
    redis.add_job(&print_job("waiting")).await;
    let more = within(Duration::from_secs(6), async || {
        (worker.log_mark() > mark + 1).then_some(())
    });
    assert!(more.await.is_none(), "{:#?}", worker.stderr());
    redis
        .cmd(&["ACL", "SETUSER", "default", "+xreadgroup"])
        .await;
    worker
        .wait_for_line(|line| line.ends_with("waiting"), MENDED + SLACK)
        .await;
    worker.wait_ready(PATIENCE).await;
}

#[tokio::test]
async fn a_job_that_cannot_be_buried_stays_and_the_others_go_on() {
    let redis = Redis::start().await;
    redis.cmd(&["SET", DEAD, "a string"]).await;
    let worker = Process::jobqueue(&redis).start();
    redis.add_job("broken").await;
    worker.wait_for_log("WRONGTYPE", PATIENCE).await;
    for n in 0..20 {
        redis.add_job(&print_job(&n.to_string())).await;
    }
    worker.wait_for_lines(20, PATIENCE).await;
    eventually("only one is left", PATIENCE, async || {
        (redis.pending().await == 1).then_some(())
    })
    .await;
    let again = within(Duration::from_secs(6), async || {
        (worker.count_log("WRONGTYPE") > 1).then_some(())
    });
    assert!(again.await.is_none(), "{:#?}", worker.stderr());
    assert_eq!(redis.pending().await, 1);
    redis.cmd(&["DEL", DEAD]).await;
    redis.drained(MENDED + SLACK).await;
    assert_eq!(redis.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn a_job_that_cannot_be_parked_stays_and_the_others_go_on() {
    let redis = Redis::start().await;
    redis.cmd(&["SET", SCHEDULED, "a string"]).await;
    let worker = Process::jobqueue(&redis).start();
    redis
        .add_job(r#"{"type":"demo:delay_print","payload":{"message":"later"},"delay_ms":100}"#)
        .await;
    worker.wait_for_log("WRONGTYPE", PATIENCE).await;
    redis.add_job(&print_job("now")).await;
    worker
        .wait_for_line(|line| line.ends_with("now"), PATIENCE)
        .await;
    assert_eq!(redis.pending().await, 1);
    redis.cmd(&["DEL", SCHEDULED]).await;
    worker
        .wait_for_line(|line| line.ends_with("later"), MENDED + SLACK)
        .await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn jobs_go_on_while_the_state_is_broken() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    redis.cmd(&["DEL", STATE]).await;
    redis.cmd(&["SET", STATE, "a string"]).await;
    worker.wait_for_log("WRONGTYPE", PATIENCE).await;
    for n in 0..5 {
        redis.add_job(&print_job(&n.to_string())).await;
    }
    worker.wait_for_lines(5, PATIENCE).await;
    redis.cmd(&["DEL", STATE]).await;
    worker.wait_ready(MENDED + SLACK).await;
}

#[tokio::test]
async fn a_full_memory_refuses_registrations_and_lets_workers_drain() {
    let app = TestApp::start().await;
    for n in 0..5 {
        app.redis.add_job(&print_job(&n.to_string())).await;
    }
    app.redis
        .add_job(r#"{"type":"demo:delay_print","delay_ms":500}"#)
        .await;
    app.redis.add_test_job("fail", 1, 1).await;
    app.redis.add_job("broken").await;
    app.redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let (status, body, headers) = app.register(json!({"delay": "0s"})).await;
    assert_eq!(status, 503);
    assert!(headers.contains_key("retry-after"));
    assert!(
        body["detail"].as_str().unwrap().contains("out of memory"),
        "{body}"
    );
    // It starts, runs, parks, retries and buries all the same.
    let worker = Process::test_worker(&app.redis).start();
    app.drained(PATIENCE).await;
    assert_eq!((worker.count("start 1"), worker.count("end 1")), (2, 1));
    assert_eq!(app.redis.dead_letters().await.len(), 1);
    assert_eq!(worker.count_log("OOM"), 0);
    app.redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
    app.registered(json!({"delay": "0s"})).await;
}

#[tokio::test]
async fn an_eviction_policy_that_endangers_jobs_is_a_warning() {
    let redis = Redis::builder()
        .directive("maxmemory-policy", "allkeys-lru")
        .start()
        .await;
    for process in [
        Process::jobqueue(&redis).start(),
        Process::server(&redis).start(),
    ] {
        process.wait_for_log("allkeys-lru", PATIENCE).await;
        process.wait_ready(PATIENCE).await;
        let (_, body) = process.get("/ready").await;
        assert!(
            body.starts_with("OK\n") && body.contains("noeviction"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_read_only_replica_is_left_as_soon_as_it_is_a_master_again() {
    let app = TestApp::start().await;
    let worker = app.worker().start();
    worker.wait_ready(PATIENCE).await;
    let mark = worker.log_mark();
    // A replica of nobody: it keeps its data and refuses writes.
    app.redis.cmd(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let refused = eventually("a refusal", PATIENCE, async || {
        let (status, body, _) = app.register(json!({"delay": "0s"})).await;
        (status == 503).then_some(body)
    });
    let detail = refused.await["detail"].as_str().unwrap().to_owned();
    assert!(!detail.contains("unknown"), "nothing was written: {detail}");
    worker
        .wait_for_log_since(mark, "redis is unavailable", PATIENCE)
        .await;
    worker.wait_not_ready(PATIENCE).await;
    app.redis.cmd(&["REPLICAOF", "NO", "ONE"]).await;
    let back = Instant::now();
    eventually("a job is accepted", PATIENCE, async || {
        let (status, ..) = app.register(json!({"delay": "0s", "message": "on"})).await;
        (status == 201).then_some(())
    })
    .await;
    worker
        .wait_for_line(|line| line.ends_with("on"), PATIENCE)
        .await;
    let took = back.elapsed();
    assert!(took < Duration::from_secs(2) + SLACK, "{took:?}");
    let lines = worker.stderr().len() - mark;
    assert_eq!(lines, 2, "one line at each end: {:#?}", worker.stderr());
}

#[tokio::test]
async fn a_redis_that_cannot_write_to_its_disk_is_waited_for() {
    let redis = Redis::builder().directive("save", "3600 1").start().await;
    let app = TestApp::with(redis, &[]).await;
    app.server.wait_ready(PATIENCE).await;
    let worker = Process::test_worker(&app.redis).start();
    app.redis.add_test_job("sleep", 1, 1500).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    // A background save that fails makes Redis refuse writes.
    let dir = app.redis.dir();
    let dump = dir.join("dump.rdb");
    if dump.exists() {
        std::fs::remove_file(&dump).unwrap();
    }
    std::fs::create_dir(&dump).unwrap();
    app.redis.cmd(&["BGSAVE"]).await;
    eventually("a refusal", PATIENCE, async || {
        let (status, body, _) = app.register(json!({"delay": "0s"})).await;
        (status == 503 && body["detail"].as_str()?.contains("disk")).then_some(())
    })
    .await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    worker.wait_for_log("MISCONF", PATIENCE).await;
    std::fs::remove_dir(&dump).unwrap();
    app.redis.cmd(&["BGSAVE"]).await;
    app.drained(PATIENCE).await;
    app.registered(json!({"delay": "0s"})).await;
    assert_eq!(worker.count("start 1"), 1, "it was settled, not run again");
}

#[tokio::test]
async fn a_redis_that_is_loading_is_waited_for() {
    let redis = Redis::builder()
        .directive("save", "3600 1")
        // Answers after every few keys.
        .directive("loading-process-events-interval-bytes", "1024")
        .start()
        .await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_ready(PATIENCE).await;
    let script = "for i = 1, 3000 do redis.call('SET', 'other:' .. i, i) end";
    redis.cmd(&["EVAL", script, "0"]).await;
    redis
        .cmd(&["CONFIG", "SET", "key-load-delay", "1000"])
        .await;
    redis.cmd(&["CONFIG", "REWRITE"]).await;
    redis.stop().await;
    worker.wait_for_log("redis is unavailable", PATIENCE).await;
    let mark = worker.log_mark();
    redis.spawn();
    let reason = eventually("it is loading", PATIENCE, async || {
        let (_, reason) = worker.get("/ready").await;
        reason.contains("LOADING").then_some(reason)
    });
    reason.await;
    redis.wait_up(Duration::from_secs(20)).await;
    redis.add_job(&print_job("loaded")).await;
    worker
        .wait_for_line(|line| line.ends_with("loaded"), Duration::from_secs(3))
        .await;
    assert!(worker.log_mark() - mark <= 1, "{:#?}", worker.stderr());
}

#[tokio::test]
async fn a_redis_without_room_for_another_client_is_waited_for() {
    let redis = Redis::builder().directive("maxclients", "2").start().await;
    let first = redis.connect().await.unwrap();
    let second = redis.connect().await.unwrap();
    let worker = Process::jobqueue(&redis).start();
    worker.wait_for_log("redis is unavailable", PATIENCE).await;
    drop((first, second));
    eventually("room", PATIENCE, async || {
        redis
            .try_cmd(&["CONFIG", "SET", "maxclients", "100"])
            .await
            .ok()
    })
    .await;
    worker.wait_ready(PATIENCE).await;
}

#[tokio::test]
async fn a_permission_that_is_missing_from_the_start_is_waited_for() {
    let redis = Redis::start().await;
    redis.cmd(&["ACL", "SETUSER", "default", "-eval"]).await;
    let worker = Process::jobqueue(&redis).start();
    worker.wait_for_log("eval", PATIENCE).await;
    redis.add_job(&print_job("waiting")).await;
    redis.cmd(&["ACL", "SETUSER", "default", "+eval"]).await;
    worker
        .wait_for_line(|line| line.ends_with("waiting"), MENDED + SLACK)
        .await;
}
