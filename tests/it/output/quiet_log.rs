//! However many jobs go wrong, the log has a few lines for each kind of trouble, and the count of
//! the others.

use serde_json::Value;

use crate::support::{DEAD, GROUP, PATIENCE, Process, Redis, STREAM, eventually, test_job};

/// How many lines a minute one kind of trouble may take. The line with the count of the others is
/// one of them.
const A_FEW: usize = 4;

fn worker(redis: &Redis) -> Process {
    Process::test_worker(redis)
        .env("LOG_FORMAT", "json")
        .env("APP__JOBQUEUE__MAX_DELIVERIES", "2")
        .env("APP__JOBQUEUE__RETRY__INITIAL", "1h")
        .env("APP__JOBQUEUE__RETRY__MAX", "1h")
        .start()
}

/// Stops the worker. Returns the number of lines that contain `part`, and the number of troubles
/// that these lines report.
async fn told(worker: &Process, part: &str) -> (usize, u64) {
    worker.term();
    worker.wait_exit(PATIENCE).await;
    let lines = worker.stderr();
    let lines = lines.iter().filter(|line| line.text.contains(part));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(&line.text).unwrap())
        .collect();
    let troubles = lines.iter().map(|line| {
        let fields = line.get("fields").unwrap_or(line);
        let message = fields["message"].as_str().unwrap();
        let suppressed = fields["suppressed"].as_u64().unwrap();
        // The last line only counts others, and has no trouble of its own.
        suppressed + u64::from(!message.starts_with("more"))
    });
    (lines.len(), troubles.sum())
}

async fn wait_for_burials(redis: &Redis, count: u64) {
    eventually("all are buried", PATIENCE, async || {
        let buried: u64 = redis.query(&["XLEN", DEAD]).await;
        (buried == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn thousands_of_foreign_entries_are_a_few_lines_and_their_count() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    let add = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'task', i) end";
    redis.cmd(&["EVAL", add, "1", STREAM, "5000"]).await;
    wait_for_burials(&redis, 5000).await;
    let (lines, entries) = told(&worker, "malformed job").await;
    assert!(lines <= A_FEW, "{lines} lines");
    assert_eq!(entries, 5000);
}

#[tokio::test]
async fn each_kind_of_malformed_job_is_told_by_itself() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    let kinds = [r#"{"type":7}"#, "[]", r#"{"type":"x","max_retry":2000}"#];
    for n in 0..100 {
        redis.add_jobs(kinds.map(str::to_owned)).await;
        let payload = format!(r#"{{"type":"test:malformed","payload":{{"n":{n}}}}}"#);
        redis.add_job(&payload).await;
    }
    wait_for_burials(&redis, 400).await;
    let (lines, jobs) = told(&worker, "malformed job").await;
    assert!((4..=4 * A_FEW).contains(&lines), "{lines} lines");
    assert_eq!(jobs, 400);
    for kind in [
        "invalid type",
        "not a JSON object",
        "max_retry 2000",
        "malformed as asked",
    ] {
        assert!((1..=A_FEW).contains(&worker.count_log(kind)), "{kind}");
    }
}

#[tokio::test]
async fn failing_and_panicking_jobs_are_a_few_lines_and_their_count() {
    let redis = Redis::start().await;
    let worker = worker(&redis);
    let last = |job: String| job.replacen('{', r#"{"max_retry":0,"#, 1);
    redis
        .add_jobs((0..500).map(|n| test_job("fail", n, 99)))
        .await;
    redis
        .add_jobs((0..500).map(|n| last(test_job("panic", n, 0))))
        .await;
    wait_for_burials(&redis, 500).await;
    eventually("the others wait", PATIENCE, async || {
        (redis.scheduled().await == 500).then_some(())
    })
    .await;
    for (part, what) in [
        ("failed as asked", "failed attempts"),
        ("failed for the last time", "last attempts"),
    ] {
        worker.wait_for_log(part, PATIENCE).await;
        let count = worker.count_log(part);
        assert!((1..=A_FEW).contains(&count), "{count} lines of {what}");
    }
    worker.term();
    worker.wait_exit(PATIENCE).await;
    let total = worker.count_log("");
    assert!(total < 30, "{total} lines in all");
    for part in ["it will be tried again", "failed for the last time"] {
        let lines = worker.stderr();
        let rest = lines
            .iter()
            .find(|line| line.text.contains(part) && line.text.contains(r#""suppressed":497"#));
        rest.unwrap_or_else(|| panic!("nobody told the rest of {part:?}"));
    }
    // These lines come from the hook that handles all panics.
    let panics = worker.count_log(r#""message":"panicked""#);
    assert!((1..=A_FEW).contains(&panics), "{panics} lines of panics");
}

#[tokio::test]
async fn poison_jobs_are_a_few_lines_and_their_count() {
    let redis = Redis::start().await;
    let first = worker(&redis);
    first.wait_ready_to_read(&redis).await;
    first.term();
    first.wait_exit(PATIENCE).await;
    redis
        .add_jobs((0..200).map(|n| test_job("sleep", n, 0)))
        .await;
    // Another worker had received these jobs again and again, and died each time.
    let poison = "local entries = redis.call('XREADGROUP', 'GROUP', ARGV[1], 'dead', 'COUNT', 200,
            'STREAMS', KEYS[1], '>')[1][2]
        for _, entry in ipairs(entries) do
            redis.call('XCLAIM', KEYS[1], ARGV[1], 'dead', 0, entry[1], 'TIME', 1, 'RETRYCOUNT', 9)
        end";
    redis.cmd(&["EVAL", poison, "1", STREAM, GROUP]).await;
    let worker = worker(&redis);
    wait_for_burials(&redis, 200).await;
    let (lines, jobs) = told(&worker, "ends no delivery").await;
    assert!(lines <= A_FEW, "{lines} lines");
    assert_eq!(jobs, 200);
}

impl Process {
    async fn wait_ready_to_read(&self, redis: &Redis) {
        self.wait_for_log("connected to redis", PATIENCE).await;
        redis.wait_for_reader().await;
    }
}
