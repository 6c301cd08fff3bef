//! A job's trail. At debug level, the logs of all processes together show each step of a job by its
//! `job_id`. At the default level they show only what goes wrong.

use serde_json::{Value, json};

use crate::support::{
    LEASE, PATIENCE, Process, ProcessBuilder, Redis, eventually, http_client, test_job,
};

/// One line of a JSON log.
struct Told(Value);

impl Told {
    fn field(&self, name: &str) -> &Value {
        &self.0.get("fields").unwrap_or(&self.0)[name]
    }

    fn message(&self) -> &str {
        self.field("message").as_str().unwrap()
    }
}

fn telling(worker: ProcessBuilder) -> ProcessBuilder {
    worker
        .env("LOG_FORMAT", "json")
        .env("RUST_LOG", "info,dm_jobqueue=debug,it=debug")
        .env("APP__JOBQUEUE__RETRY__INITIAL", "5ms")
}

/// The log lines about a job.
fn trail(process: &Process, job_id: &str) -> Vec<Told> {
    let lines = process.stderr();
    let lines = lines
        .iter()
        .filter_map(|line| serde_json::from_str(&line.text).ok().map(Told));
    lines
        .filter(|told| *told.field("job_id") == job_id)
        .collect()
}

/// Waits until the lines of one level about a job are these. The worker that promotes a job may get
/// Redis' reply later than another worker gets the job. So only the number of `promoted` lines
/// counts, and not their place.
async fn wait_for_steps(process: &Process, job_id: &str, level: &str, steps: &[&str]) {
    let mut found = Vec::new();
    let same = async || {
        let lines = trail(process, job_id).into_iter();
        let lines = lines.filter(|told| told.0["level"] == level);
        found = lines.map(|told| told.message().to_owned()).collect();
        let promoted = |step: &&str| *step == "promoted";
        let times = steps.iter().copied().filter(promoted).count();
        let others = steps.iter().copied().filter(|step| !promoted(step));
        let found = found.iter().map(String::as_str);
        let same = found.clone().filter(|step| !promoted(step)).eq(others);
        (same && found.filter(promoted).count() == times).then_some(())
    };
    let same = crate::support::within(PATIENCE, same).await;
    assert!(same.is_some(), "found {found:?}, expected {steps:?}");
}

#[tokio::test]
async fn a_delayed_job_is_followed_from_its_registration_to_its_end() {
    let redis = Redis::start().await;
    let server = telling(Process::server(&redis)).start();
    let worker = telling(Process::jobqueue(&redis)).start();
    server.wait_ready(PATIENCE).await;
    let url = format!(
        "http://{}/api/dm-jobqueue/register",
        server.http_addr().await
    );
    let body = json!({"message": "hi", "delay": "300ms"});
    let reply = http_client().post(url).json(&body).send().await.unwrap();
    let reply: Value = reply.json().await.unwrap();
    let job_id = reply["job_id"].as_str().unwrap();
    worker
        .wait_for_line(|line| line.ends_with("] hi"), PATIENCE)
        .await;
    wait_for_steps(&server, job_id, "DEBUG", &["registered"]).await;
    let steps = [
        "delivered",
        "parked",
        "promoted",
        "delivered",
        "started",
        "finished",
    ];
    wait_for_steps(&worker, job_id, "DEBUG", &steps).await;

    let registered = trail(&server, job_id);
    let first = registered[0].field("entry_id");
    assert!(first.as_str().unwrap().contains('-'), "{first}");
    let lines = trail(&worker, job_id);
    let (promoted, lines): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line.message() == "promoted");
    let second = promoted[0].field("entry_id");
    assert_eq!(promoted[0].field("left_entry_id"), first);
    assert_ne!(first, second);
    for (line, entry_id) in lines.iter().zip([first, first, second, second, second]) {
        assert_eq!(line.field("entry_id"), entry_id, "{}", line.0);
        assert_eq!(line.field("job_type"), "demo:delay_print");
        assert_eq!(line.field("attempt"), 0);
    }
}

#[tokio::test]
async fn a_promoted_job_is_followed_wherever_its_id_stands() {
    let redis = Redis::start().await;
    let worker = telling(Process::jobqueue(&redis)).start();
    let job = r#"{"type":"demo:delay_print","payload":{"a":[{"id":"other"}]},"id":"mine","delay_ms":500}"#;
    worker.wait_ready(PATIENCE).await;
    redis.add_job(job).await;
    let steps = [
        "delivered",
        "parked",
        "promoted",
        "delivered",
        "started",
        "finished",
    ];
    wait_for_steps(&worker, "mine", "DEBUG", &steps).await;
}

#[tokio::test]
async fn a_failing_job_is_seen_at_each_attempt_and_its_trail_ends_with_its_burial() {
    let redis = Redis::start().await;
    let worker = telling(Process::test_worker(&redis)).start();
    let fails = r#"{"id":"mine","type":"test:fail","payload":{"n":1,"ms":9},"max_retry":1}"#;
    redis.add_job(fails).await;
    let steps = [
        "delivered",
        "started",
        "retried",
        "promoted",
        "delivered",
        "started",
        "buried",
    ];
    wait_for_steps(&worker, "mine", "DEBUG", &steps).await;
    let warnings = [
        "job failed; it will be tried again",
        "job failed for the last time; moving it to the dead letters",
    ];
    wait_for_steps(&worker, "mine", "WARN", &warnings).await;
    let lines = trail(&worker, "mine");
    let warned = lines.iter().filter(|told| told.0["level"] == "WARN");
    for (attempt, line) in warned.enumerate() {
        assert_eq!(line.field("attempt"), attempt);
        assert_eq!(line.field("error"), "failed as asked");
        assert_eq!(line.field("job_type"), "test:fail");
        assert_eq!(line.field("suppressed"), 0);
    }
}

#[tokio::test]
async fn a_job_of_a_killed_worker_is_followed_into_the_next_one() {
    let redis = Redis::start().await;
    let start = || telling(Process::test_worker(&redis)).envs(&[LEASE]).start();
    let first = start();
    // A bare job has no id of its own, so its entry's id is its id.
    let id = redis.add_test_job("hang", 1, 0).await;
    first
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    wait_for_steps(&first, &id, "DEBUG", &["delivered", "started"]).await;
    let second = start();
    first.kill();
    second
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    wait_for_steps(&second, &id, "DEBUG", &["taken over", "started"]).await;
    assert_eq!(trail(&second, &id)[0].field("deliveries"), 2);
}

#[tokio::test]
async fn a_job_that_is_put_back_says_so() {
    let redis = Redis::start().await;
    let worker = telling(Process::test_worker(&redis));
    let worker = worker
        .env("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", "100ms")
        .start();
    let id = redis.add_test_job("hang", 1, 0).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    worker.term();
    worker.wait_exit(PATIENCE).await;
    wait_for_steps(&worker, &id, "DEBUG", &["delivered", "started", "put back"]).await;
}

#[tokio::test]
async fn a_job_of_an_unknown_type_says_that_it_is_left_to_others() {
    let redis = Redis::start().await;
    let worker = telling(Process::jobqueue(&redis));
    let worker = worker
        .env("APP__JOBQUEUE__UNKNOWN_TYPE_GRACE", "100ms")
        .start();
    let id = redis.add_job(r#"{"type":"no:such"}"#).await;
    let steps = [
        "delivered",
        "left to others",
        "promoted",
        "delivered",
        "buried",
    ];
    wait_for_steps(&worker, &id, "DEBUG", &steps).await;
}

#[tokio::test]
async fn a_job_of_a_type_that_is_full_says_so() {
    let redis = Redis::start().await;
    let worker = telling(Process::test_worker(&redis)).start();
    // Two run at once, and a third one waits here for a moment.
    redis
        .add_jobs((1..=3).map(|n| test_job("limited", n, 60_000)))
        .await;
    worker.wait_for_lines(2, PATIENCE).await;
    let id = redis.add_test_job("limited", 4, 1).await;
    wait_for_steps(
        &worker,
        &id,
        "DEBUG",
        &["delivered", "type is full", "left to others"],
    )
    .await;
}

#[tokio::test]
async fn what_a_handler_logs_stands_in_the_span_of_its_job() {
    let redis = Redis::start().await;
    let worker = telling(Process::test_worker(&redis)).start();
    let jobs = (0..20).map(|n| {
        let ms = 20 - n;
        test_job("sleep", n, ms).replacen('{', &format!(r#"{{"id":"job-{n}","#), 1)
    });
    redis.add_jobs(jobs).await;
    let panics = r#"{"id":"bad","type":"test:panic","payload":{"n":99}}"#;
    redis.add_job(panics).await;
    eventually("all have told", PATIENCE, async || {
        let told = worker.count_log("slept") + worker.count_log("\"panicked\"");
        (told == 21).then_some(())
    })
    .await;
    let mut of = Vec::new();
    for line in worker.stderr() {
        let Ok(line) = serde_json::from_str(&line.text).map(Told) else {
            continue;
        };
        if ["slept", "panicked"].contains(&line.message()) {
            let span = &line.0;
            assert!(
                span["entry_id"].as_str().unwrap().contains('-'),
                "{}",
                line.0
            );
            assert!(span["job_type"].as_str().unwrap().starts_with("test:"));
            assert_eq!(span["attempt"], 0);
            of.push(span["job_id"].as_str().unwrap().to_owned());
        }
    }
    of.sort();
    let mut expected: Vec<_> = (0..20).map(|n| format!("job-{n}")).collect();
    expected.push("bad".to_owned());
    expected.sort();
    assert_eq!(of, expected);
}

#[tokio::test]
async fn at_the_default_level_a_job_that_goes_well_is_not_told() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    // The two lines of a start come in any order.
    worker.wait_for_log("connected to redis", PATIENCE).await;
    worker.wait_for_log("worker started", PATIENCE).await;
    let lines = worker.stderr().len();
    redis
        .add_jobs((0..50).map(|n| test_job("sleep", n, 1)))
        .await;
    worker
        .wait_for_line(|line| line == "end 49", PATIENCE)
        .await;
    redis.drained(PATIENCE).await;
    worker.term();
    worker.wait_exit(PATIENCE).await;
    for line in &worker.stderr()[lines..] {
        let of_the_end = ["asked to stop", "worker stopping", "worker stopped"];
        let is_it = of_the_end.iter().any(|words| line.text.contains(words));
        assert!(is_it, "{}", line.text);
    }
}
