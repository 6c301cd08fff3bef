//! Redis answers and refuses commands, because its disk or its memory is full, it has become a
//! replica, or a key has another type. Each cause has its own wait and its own words. Everything
//! that is not refused goes on.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    DEAD, LEASE, PATIENCE, Process, Redis, SCHEDULED, STATE, STREAM, TestApp, eventually, test_job,
};

/// The longest time from an operator's repair until all is well.
const MENDED: Duration = Duration::from_secs(6);

/// Registers jobs until one is refused with a detail that contains `part`.
async fn register_is_refused(app: &TestApp, part: &str) {
    eventually("a registration is refused", PATIENCE, async || {
        let (status, body, headers) = app.register(json!({"delay": "0s"})).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert!(headers.contains_key("retry-after"));
        body["detail"]
            .as_str()
            .unwrap()
            .contains(part)
            .then_some(())
    })
    .await;
}

async fn register_is_accepted(app: &TestApp) {
    eventually("a registration is accepted", MENDED, async || {
        let (status, ..) = app.register(json!({"delay": "0s"})).await;
        (status == StatusCode::CREATED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_outcomes_are_kept() {
    let app = TestApp::start().await;
    let redis = &app.redis;
    let worker = Process::test_worker(redis).start();
    redis.add_test_job("sleep", 1, 1500).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;

    // Redis cannot write a snapshot where a directory is. A full disk has the same effect.
    redis.cmd(&["CONFIG", "SET", "save", "3600 1"]).await;
    let snapshot = redis.dir().join("dump.rdb");
    std::fs::create_dir(&snapshot).unwrap();
    redis.cmd(&["BGSAVE"]).await;
    eventually("MISCONF", PATIENCE, async || {
        let error = redis.try_cmd(&["SET", "key", "value"]).await.err()?;
        (error.code() == Some("MISCONF")).then_some(())
    })
    .await;
    register_is_refused(&app, "job queue service is unavailable").await;
    let reason = app.server.wait_not_ready(PATIENCE).await;
    assert!(reason.contains("MISCONF"), "{reason}");
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    worker.wait_for_log("MISCONF", PATIENCE).await;
    assert_eq!(redis.pending().await, 1, "nothing could be settled");

    std::fs::remove_dir(&snapshot).unwrap();
    eventually("the snapshot succeeds", PATIENCE, async || {
        redis.try_cmd(&["BGSAVE"]).await.ok();
        let info: String = redis.query(&["INFO", "persistence"]).await;
        info.contains("rdb_last_bgsave_status:ok").then_some(())
    })
    .await;
    redis.drained(PATIENCE).await;
    assert_eq!(worker.count("start 1"), 1);
    register_is_accepted(&app).await;
    assert_eq!(worker.count_log("redis is unavailable"), 1);
}

#[tokio::test]
async fn a_full_memory_refuses_jobs_and_lets_workers_drain() {
    let app = TestApp::start().await;
    let redis = &app.redis;
    let jobs = [
        test_job("sleep", 1, 0),
        test_job("fail", 2, 1),
        test_job("malformed", 3, 0),
        r#"{"type":"test:sleep","payload":{"n":4},"delay_ms":1500}"#.to_owned(),
    ];
    for job in &jobs {
        redis.add_job(job).await;
    }
    redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    register_is_refused(&app, "out of memory").await;
    // The worker starts only now, because the creation of its group must not be refused either.
    redis.cmd(&["XGROUP", "DESTROY", STREAM, "jobqueue"]).await;
    let worker = Process::test_worker(redis).start();
    for end in ["end 1", "end 2", "end 4"] {
        worker.wait_for_line(|line| line == end, PATIENCE).await;
    }
    redis.drained(PATIENCE).await;
    assert_eq!(redis.dead_letters().await.len(), 1);
    assert_eq!(worker.count("start 2"), 2, "it was tried again");
    assert_eq!(worker.count_log("WARN redis"), 0);

    redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
    register_is_accepted(&app).await;
}

#[tokio::test]
async fn an_eviction_policy_that_endangers_jobs_is_warned_of() {
    let redis = Redis::builder()
        .directive("maxmemory-policy", "allkeys-lru")
        .start()
        .await;
    let programs = [
        Process::server(&redis).start(),
        Process::jobqueue(&redis).start(),
    ];
    for program in &programs {
        program.wait_ready(PATIENCE).await;
        let warning = "maxmemory-policy is allkeys-lru; set it to noeviction";
        program.wait_for_log(warning, PATIENCE).await;
        assert_eq!(program.count_log(warning), 1);
        let (status, body) = program.get("/ready").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains(warning), "{body}");
    }
    let safe = Redis::start().await;
    let worker = Process::jobqueue(&safe).start();
    worker.wait_ready(PATIENCE).await;
    assert_eq!(worker.get("/ready").await.1, "OK");
    assert_eq!(worker.count_log("evict"), 0);
}

#[tokio::test]
async fn a_redis_that_becomes_a_replica_and_a_primary_again_is_used_again() {
    let (app, nowhere) = (TestApp::start().await, Redis::reserve());
    let redis = &app.redis;
    let worker = Process::test_worker(redis).envs(&[LEASE]).start();
    redis.add_test_job("sleep", 1, 1500).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis
        .cmd(&["REPLICAOF", "127.0.0.1", &nowhere.port().to_string()])
        .await;
    register_is_refused(&app, "Redis").await;
    worker.wait_for_log("redis is unavailable", PATIENCE).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;

    redis.cmd(&["REPLICAOF", "NO", "ONE"]).await;
    let primary = Instant::now();
    redis.add_test_job("sleep", 2, 0).await;
    let (line, accepted) = tokio::join!(
        worker.wait_for_line(|line| line == "end 2", PATIENCE),
        async {
            register_is_accepted(&app).await;
            Instant::now()
        },
    );
    for resumed in [line.at - primary, accepted - primary] {
        assert!(resumed <= Duration::from_secs(2), "{resumed:?}");
    }
    eventually("both jobs are settled", PATIENCE, async || {
        (worker.count("start 1") == 1 && redis.pending().await == 0).then_some(())
    })
    .await;
}

/// Waits, and asserts that the program said once that a key has the wrong type.
async fn complains_once(worker: &Process, part: &str) {
    worker.wait_for_log(part, PATIENCE).await;
    eventually("it has tried again", PATIENCE, async || {
        let first = worker
            .stderr()
            .into_iter()
            .find(|line| line.text.contains(part))?;
        (first.at.elapsed() > MENDED).then_some(())
    })
    .await;
    assert_eq!(worker.count_log("WRONGTYPE"), 1);
}

#[tokio::test]
async fn a_job_that_cannot_be_buried_stays_pending_and_the_others_go_on() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    redis.cmd(&["SET", DEAD, "a string"]).await;
    let id = redis.add_test_job("malformed", 1, 0).await;
    worker.wait_for_log("WRONGTYPE", PATIENCE).await;
    redis.add_test_job("sleep", 2, 0).await;
    worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
    complains_once(&worker, DEAD).await;
    let pending = redis.pending_entries().await;
    assert_eq!(pending.len(), 1);
    assert_eq!((&pending[0].id, pending[0].deliveries), (&id, 1));

    redis.cmd(&["DEL", DEAD]).await;
    redis.drained(MENDED).await;
    assert_eq!(redis.dead_letters().await.len(), 1);
    assert_eq!(worker.count("start 1"), 1);
    worker
        .wait_for_log("redis is available again", PATIENCE)
        .await;
}

#[tokio::test]
async fn a_job_that_cannot_be_scheduled_stays_pending_and_the_others_go_on() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    redis.cmd(&["SET", SCHEDULED, "a string"]).await;
    redis
        .add_job(r#"{"type":"test:sleep","payload":{"n":1},"delay_ms":500}"#)
        .await;
    redis.add_test_job("fail", 2, 1).await;
    worker.wait_for_log("WRONGTYPE", PATIENCE).await;
    redis.add_test_job("sleep", 3, 0).await;
    worker.wait_for_line(|line| line == "end 3", PATIENCE).await;
    eventually("both wait", PATIENCE, async || {
        (redis.pending().await == 2).then_some(())
    })
    .await;

    redis.cmd(&["DEL", SCHEDULED]).await;
    redis.drained(MENDED + Duration::from_secs(2)).await;
    for (line, count) in [("start 1", 1), ("end 1", 1), ("start 2", 2), ("end 2", 1)] {
        assert_eq!(worker.count(line), count, "{line}");
    }
}

#[tokio::test]
async fn a_broken_state_hash_stops_reclaiming_and_nothing_else() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).envs(&[LEASE]).start();
    worker.wait_ready(PATIENCE).await;
    redis.cmd(&["DEL", STATE]).await;
    redis.cmd(&["SET", STATE, "a string"]).await;
    worker.wait_for_log("WRONGTYPE", PATIENCE).await;
    let reason = worker.wait_not_ready(PATIENCE).await;
    assert!(reason.contains("WRONGTYPE"), "{reason}");
    redis
        .add_job(r#"{"type":"demo:delay_print","delay_ms":300}"#)
        .await;
    worker.wait_for_lines(1, PATIENCE).await;
    redis.drained(PATIENCE).await;
    complains_once(&worker, "WRONGTYPE").await;
    redis.cmd(&["DEL", STATE]).await;
    worker.wait_ready(MENDED).await;
}
