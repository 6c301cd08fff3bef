//! What a queue tells people of its workers, of what became of its jobs, and of those that have finished.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::{
    DONE, Entry, LEASE, PATIENCE, Process, Redis, TOTALS, WORKERS, eventually, test_job,
};

fn worker(redis: &Redis) -> Process {
    Process::test_worker(redis).envs(&[LEASE]).start()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis().try_into().unwrap()
}

/// What each worker tells of itself, by its name.
async fn told(redis: &Redis) -> BTreeMap<String, Value> {
    let told: BTreeMap<String, String> = redis.query(&["HGETALL", WORKERS]).await;
    let told = told.into_iter();
    told.map(|(name, json)| (name, serde_json::from_str(&json).unwrap()))
        .collect()
}

/// The counts of today, by what is counted.
async fn totals(redis: &Redis) -> BTreeMap<String, u64> {
    let day = format!(":{}", now_ms() / 86_400_000);
    let totals: BTreeMap<String, u64> = redis.query(&["HGETALL", TOTALS]).await;
    let today = totals.into_iter().filter_map(|(field, count)| {
        let what = field.strip_suffix(&day)?;
        Some((what.to_owned(), count))
    });
    today.collect()
}

async fn counted(redis: &Redis, expected: &[(&str, u64)]) {
    let expected = expected
        .iter()
        .map(|(what, count)| ((*what).to_owned(), *count));
    let expected: BTreeMap<_, _> = expected.collect();
    let mut found = BTreeMap::new();
    let within = crate::support::within(PATIENCE, async || {
        found = totals(redis).await;
        (found == expected).then_some(())
    });
    let all = within.await;
    assert!(all.is_some(), "{found:?}, expected {expected:?}");
}

async fn done(redis: &Redis) -> Vec<Entry> {
    redis.query(&["XRANGE", DONE, "-", "+"]).await
}

fn number(entry: &Entry, field: &str) -> u64 {
    let text = std::str::from_utf8(&entry.1[field]).unwrap();
    text.parse().unwrap_or_else(|_| panic!("{field}: {text}"))
}

#[tokio::test]
async fn a_worker_tells_of_itself_while_it_lives() {
    let redis = Redis::start().await;
    let (began, first) = (now_ms(), worker(&redis));
    eventually(
        "it tells of itself, though it has no job",
        PATIENCE,
        async || (told(&redis).await.len() == 1).then_some(()),
    )
    .await;
    redis.add_test_job("sleep", 1, 4000).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let (name, told_of) = eventually("it tells of its job", PATIENCE, async || {
        let told = told(&redis).await.into_iter().next()?;
        (told.1["running"] == 1).then_some(told)
    })
    .await;
    let consumers = redis.consumers().await;
    assert_eq!(consumers[0].name, name, "the group knows it by that name");
    assert_eq!(told_of["pid"], first.pid());
    assert_eq!(told_of["concurrency"], 10);
    assert_eq!(told_of["held"], 1);
    assert!(name.starts_with(told_of["host"].as_str().unwrap()));
    assert!(told_of["version"].as_str().unwrap().starts_with("0."));
    let time = |field: &str| told_of[field].as_u64().unwrap();
    assert!(
        (began..=time("seen_ms")).contains(&time("started_ms")),
        "{told_of}"
    );
    assert!(time("seen_ms") <= now_ms(), "{told_of}");

    first.term();
    first.wait_exit(PATIENCE).await;
    assert_eq!(told(&redis).await, BTreeMap::new(), "it has left");
}

#[tokio::test]
async fn what_a_dead_worker_has_told_is_removed_when_its_jobs_are_taken_over() {
    let redis = Redis::start().await;
    let first = worker(&redis);
    redis.add_test_job("sleep", 1, 60_000).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    eventually("it tells of itself", PATIENCE, async || {
        (!told(&redis).await.is_empty()).then_some(())
    })
    .await;
    let [dead] = told(&redis)
        .await
        .into_keys()
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    first.kill();
    let second = worker(&redis);
    second
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    eventually(
        "only the one that lives is there",
        PATIENCE * 2,
        async || {
            let told = told(&redis).await;
            (told.len() == 1 && !told.contains_key(&dead)).then_some(())
        },
    )
    .await;
    counted(&redis, &[("reclaimed", 1)]).await;
}

#[tokio::test]
async fn what_became_of_jobs_is_counted() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    redis
        .add_jobs((0..5).map(|n| test_job("sleep", n, 0)))
        .await;
    let fails_twice = r#"{"type":"test:refuse","max_retry":1}"#;
    redis.add_job(fails_twice).await;
    redis.add_test_job("malformed", 9, 0).await;
    redis
        .add_job(r#"{"type":"test:sleep","payload":{"n":8},"delay_ms":100}"#)
        .await;
    redis.drained(PATIENCE).await;
    let ran = [
        ("completed", 6),
        ("dead.malformed", 1),
        ("dead.retries used up", 1),
        ("failed", 2),
        ("retried", 1),
    ];
    counted(&redis, &ran).await;
    // A worker that stops gives back what it has not started, and its last counts come as well.
    redis.add_test_job("sleep", 10, 60_000).await;
    worker
        .wait_for_line(|line| line == "start 10", PATIENCE)
        .await;
    let stops = Process::test_worker(&redis)
        .envs(&[LEASE, ("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", "0s")])
        .start();
    redis
        .add_jobs((11..40).map(|n| test_job("sleep", n, 30_000)))
        .await;
    stops
        .wait_for_line(|line| line.starts_with("start"), PATIENCE)
        .await;
    stops.term();
    stops.wait_exit(PATIENCE).await;
    let put_back = totals(&redis).await.remove("put_back");
    assert!(put_back.is_some_and(|count| count > 0), "{put_back:?}");
}

#[tokio::test]
async fn finished_jobs_are_kept_with_their_times() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    let began = now_ms();
    let job = r#"{"type":"test:sleep","id":"mine","payload":{"n":1,"ms":300},"delay_ms":400}"#;
    redis.add_job(job).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    let bare = redis.add_test_job("quiet", 2, 0).await;
    redis.drained(PATIENCE).await;
    let [mine, other] = done(&redis).await.try_into().unwrap();
    let fields = |entry: &Entry| -> Vec<String> { entry.1.keys().cloned().collect() };
    let expected = [
        "attempt",
        "consumer",
        "count",
        "due_ms",
        "finished_ms",
        "job_id",
        "registered_ms",
        "started_ms",
        "type",
    ];
    assert_eq!(fields(&mine), expected);
    assert_eq!(mine.1["job_id"], b"mine");
    assert_eq!(mine.1["type"], b"test:sleep");
    assert_eq!((number(&mine, "attempt"), number(&mine, "count")), (0, 1));
    assert_eq!(
        mine.1["consumer"],
        redis.consumers().await[0].name.as_bytes()
    );
    let times =
        ["registered_ms", "due_ms", "started_ms", "finished_ms"].map(|it| number(&mine, it));
    let [registered, due, started, finished] = times;
    assert!(
        (began..began + 300).contains(&registered),
        "{times:?} from {began}"
    );
    assert!((400..700).contains(&(due - registered)), "{times:?}");
    assert!(due <= started && started < due + 300, "{times:?}");
    assert!((300..600).contains(&(finished - started)), "{times:?}");
    assert!(finished <= now_ms(), "{times:?}");
    assert_eq!(other.1["job_id"], bare.as_bytes(), "by the id of its entry");
}

/// A worker keeps so many in a second, and those stand for all.
#[tokio::test]
async fn of_many_finished_jobs_a_sample_is_kept() {
    const JOBS: u64 = 30_000;
    let redis = Redis::start().await;
    redis
        .add_jobs((0..JOBS).map(|n| test_job("quiet", n, 0)))
        .await;
    let began = std::time::Instant::now();
    let worker = worker(&redis);
    redis.drained(PATIENCE * 3).await;
    let seconds = began.elapsed().as_secs() + 1;
    eventually("all are counted", PATIENCE, async || {
        (totals(&redis).await.get("completed") == Some(&JOBS)).then_some(())
    })
    .await;
    let kept = done(&redis).await;
    assert!(
        kept.len() as u64 <= 100 * (1 + seconds),
        "{} in {seconds} s",
        kept.len()
    );
    let stand_for: u64 = kept.iter().map(|entry| number(entry, "count")).sum();
    assert!(
        stand_for <= JOBS && stand_for > JOBS * 9 / 10,
        "{stand_for}"
    );
    drop(worker);
}

#[tokio::test]
async fn finished_jobs_are_bounded_and_may_be_off() {
    let redis = Redis::start().await;
    let bounded = [
        LEASE,
        ("APP__JOBQUEUE__DONE_MAX_LEN", "100"),
        ("APP__JOBQUEUE__DONE_PER_SECOND", "100000"),
    ];
    let first = Process::test_worker(&redis).envs(&bounded).start();
    redis
        .add_jobs((0..2000).map(|n| test_job("quiet", n, 0)))
        .await;
    redis.drained(PATIENCE).await;
    let kept = done(&redis).await.len();
    // Redis removes whole nodes of a stream, which have 100 entries.
    assert!((100..=300).contains(&kept), "{kept}");
    first.term();
    first.wait_exit(PATIENCE).await;
    redis.cmd(&["DEL", DONE]).await;
    let off = Process::test_worker(&redis)
        .envs(&[LEASE, ("APP__JOBQUEUE__DONE_MAX_LEN", "0")])
        .start();
    redis.add_test_job("quiet", 1, 0).await;
    redis.drained(PATIENCE).await;
    counted(&redis, &[("completed", 2001)]).await;
    assert_eq!(done(&redis).await, []);
    drop(off);
}

/// Figures are not worth a job.
#[tokio::test]
async fn jobs_go_on_when_nothing_can_be_recorded() {
    let redis = Redis::start().await;
    for key in [TOTALS, DONE, WORKERS] {
        redis.cmd(&["SET", key, "somebody else's"]).await;
    }
    let worker = worker(&redis);
    redis.run_each_kind(&worker).await;
    let log = worker.wait_for_log("cannot record", PATIENCE).await;
    assert!(log.text.contains("WRONGTYPE"), "{}", log.text);
    assert_eq!(worker.get("/ready").await.0, 200);
    worker.term();
    assert!(worker.wait_exit(PATIENCE).await.success());
}

#[tokio::test]
async fn counts_of_old_days_are_dropped() {
    let redis = Redis::start().await;
    let today = now_ms() / 86_400_000;
    for day in [1, today - 91, today - 89, today] {
        let field = format!("completed:{day}");
        redis.cmd(&["HSET", TOTALS, &field, "7"]).await;
    }
    redis.cmd(&["HSET", TOTALS, "somebody else's", "7"]).await;
    let worker = worker(&redis);
    eventually("the two old ones are dropped", PATIENCE, async || {
        let left: u64 = redis.query(&["HLEN", TOTALS]).await;
        (left == 3).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let left: u64 = redis.query(&["HLEN", TOTALS]).await;
    assert_eq!(left, 3);
    drop(worker);
}
