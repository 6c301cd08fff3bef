//! What a job type has of its own: its timeout, the pauses between its attempts, and how many of its
//! jobs run at once.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis, test_job};

#[tokio::test]
async fn a_job_type_in_a_few_lines_registers_fails_once_and_runs() {
    let redis = Redis::start().await;
    // Cargo builds the examples before it runs a test.
    let bins = PathBuf::from(env!("CARGO_BIN_EXE_jobqueue"));
    let example = bins.parent().unwrap().join("examples/own_job_type");
    let program = ProcessBuilder::program(example)
        .args(&[&redis.addr()])
        .named("own job type")
        .start();
    let printed = "logo.png has 640 pixels at attempt 1";
    program
        .wait_for_line(|line| line == printed, PATIENCE)
        .await;
    let lines: Vec<String> = program.stdout().into_iter().map(|line| line.text).collect();
    assert_eq!(lines, [printed]);
    program.int();
    assert!(program.wait_exit(PATIENCE).await.success());
}

#[tokio::test]
async fn a_type_with_a_timeout_of_its_own_is_not_given_the_time_of_others() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__RETRY__INITIAL", "1h")
        .env("APP__JOBQUEUE__RETRY__MAX", "1h")
        .start();
    let short = r#"{"type":"test:short","max_retry":2,"payload":{"n":1,"ms":60000}}"#;
    redis.add_job(short).await;
    redis.add_test_job("sleep", 2, 1_000).await;
    let log = worker
        .wait_for_log("no result within 300ms", PATIENCE)
        .await;
    assert!(log.text.contains(r#"job_type="test:short""#), "{log:?}");
    // It waits for its next attempt by pauses of its own, and not for an hour.
    worker
        .wait_for_log("moving it to the dead letters", PATIENCE)
        .await;
    assert_eq!(worker.count("start 1"), 3);
    worker.wait_for_line(|line| line == "end 2", PATIENCE).await;
}

/// How many jobs of the type that has a limit run at once in the test worker.
const LIMIT: i32 = 2;

#[tokio::test]
async fn a_burst_of_a_limited_type_keeps_to_its_limit_and_holds_up_no_other_type() {
    others_pass_a_burst(10).await;
}

/// Then a job that waited here would be in the only slot that the limit leaves to others.
#[tokio::test]
async fn a_burst_leaves_the_last_slot_to_other_types() {
    others_pass_a_burst(3).await;
}

async fn others_pass_a_burst(concurrency: u64) {
    const LIMITED: u64 = 40;
    const TIME_MS: u64 = 100;
    let redis = Redis::start().await;
    for n in 0..LIMITED {
        redis.add_test_job("limited", n, TIME_MS).await;
    }
    for n in 100..110 {
        redis.add_test_job("sleep", n, 10).await;
    }
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__CONCURRENCY", &concurrency.to_string())
        .start();
    redis.drained(PATIENCE).await;
    worker.term();
    assert!(worker.wait_exit(PATIENCE).await.success());

    let (mut running, mut ended, mut others_at) = (0, 0_u64, Vec::new());
    for line in worker.stdout() {
        let Some((what, n)) = line.text.split_once(' ') else {
            continue;
        };
        let limited = n.parse::<u64>().is_ok_and(|n| n < LIMITED);
        match (what, limited) {
            ("start", true) => running += 1,
            ("end", true) => (running, ended) = (running - 1, ended + 1),
            ("end", false) => others_at.push(ended),
            _ => {}
        }
        assert!(running <= LIMIT, "{running} run at once");
    }
    assert_eq!((running, ended), (0, LIMITED), "each ran once");
    // All of the others came after all of the burst.
    assert_eq!(others_at.len(), 10);
    assert!(
        others_at.iter().all(|ended| *ended < LIMITED / 2),
        "{others_at:?}"
    );
}

#[tokio::test]
async fn a_limit_is_used_to_the_full() {
    const JOBS: u64 = 40;
    const TIME_MS: u64 = 100;
    let redis = Redis::start().await;
    for n in 0..JOBS {
        redis.add_job(&test_job("limited", n, TIME_MS)).await;
    }
    let worker = Process::test_worker(&redis).start();
    let first = worker
        .wait_for_line(|line| line.starts_with("start"), PATIENCE)
        .await;
    redis.drained(PATIENCE).await;
    let took = first.at.elapsed();
    let least = Duration::from_millis(JOBS * TIME_MS / u64::try_from(LIMIT).unwrap());
    eprintln!("{JOBS} jobs took {took:?}, {least:?} at least");
    assert!(took < 2 * least, "{took:?}");
}

#[tokio::test]
async fn a_job_that_waits_for_its_type_is_put_back_when_the_worker_stops() {
    let redis = Redis::start().await;
    for n in 0..4 {
        redis.add_test_job("limited", n, 60_000).await;
    }
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__SHUTDOWN_TIMEOUT", "200ms")
        .env("RUST_LOG", "dm_jobqueue=debug")
        .start();
    // Two run, one waits for its type, and one finds that another waits.
    worker.wait_for_log("type is full", PATIENCE).await;
    assert_eq!(worker.count_log("type is full"), 1, "it waits for a second");
    worker.term();
    worker.wait_exit(PATIENCE).await;
    // Nothing is lost, and no attempt is charged.
    assert_eq!(
        (redis.xlen().await, redis.scheduled_jobs().await.len()),
        (3, 1)
    );
    for (member, _) in redis.scheduled_jobs().await {
        assert!(!member.contains("attempt"), "{member}");
    }
    assert_eq!(redis.dead_letters().await.len(), 0);
}
