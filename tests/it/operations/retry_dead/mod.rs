//! Running dead letters again with `scripts/retry-dead.lua`, by redis-cli, as
//! `docs/operations.md` tells operators: which dead letters run again, and which cannot.

mod bytes;

use std::path::Path;
use std::process::Command;

use crate::support::{DEAD, Entry, PATIENCE, Process, Redis, STREAM, eventually};

/// Settings with which two attempts fail at once.
const TWO_ATTEMPTS: [(&str, &str); 2] = [
    ("APP__JOBQUEUE__RETRY__INITIAL", "5ms"),
    ("APP__JOBQUEUE__RETRY__MAX", "5ms"),
];

/// Text that a terminal, a shell or a JSON library might change.
const PAYLOAD: &str = r#"{ "n":1,"ms" : 99, "attempt": 7, "text":"it's \"attempt\":3, \\ 日本語 🎉 \u0007 \ud83c\udf89",
  "big": 123456789012345678901234567890, "exact":1.00, "empty":[], "none":{}, "deep":[[{"attempt":[2]}]] }"#;

/// The output of redis-cli, and its exit status.
fn retry(redis: &Redis, ids: &[&str]) -> (String, Option<i32>) {
    retry_with(redis, &["-e"], [DEAD, STREAM], ids)
}

fn retry_with(
    redis: &Redis,
    options: &[&str],
    keys: [&str; 2],
    ids: &[&str],
) -> (String, Option<i32>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/retry-dead.lua");
    let output = Command::new("redis-cli")
        .args(["-p", &redis.port().to_string()])
        .args(options)
        .arg("--eval")
        .arg(script)
        .args(keys)
        .arg(",")
        .args(ids)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.code())
}

/// A dead letter of a job with this JSON, as a worker writes it.
async fn bury(redis: &Redis, job: &str, died_from: &str) -> String {
    let letter = [
        "XADD",
        DEAD,
        "*",
        "job",
        job,
        "reason",
        "retries used up",
        "error",
        "e",
        "attempt",
        "11",
        "deliveries",
        "1",
        "died_from",
        died_from,
    ];
    redis.query(&letter).await
}

/// The jobs in the stream.
async fn jobs(redis: &Redis) -> Vec<String> {
    let entries = redis.entries().await.into_iter();
    let job = |(_, mut fields): Entry| String::from_utf8(fields.remove("job").unwrap()).unwrap();
    entries.map(job).collect()
}

async fn dead_ids(redis: &Redis) -> Vec<String> {
    let letters = redis.dead_letters().await.into_iter();
    letters.map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_dead_letter_runs_again_with_all_its_attempts_and_its_bytes() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).envs(&TWO_ATTEMPTS).start();
    let job = format!(r#"{{"type":"test:fail","trace":"\"é","payload":{PAYLOAD},"max_retry":1}}"#);
    let job_id = redis.add_job(&job).await;
    let mut last = String::new();
    for time in 1..=3 {
        let (id, letter) = eventually("it is dead", PATIENCE, async || {
            let letter = redis.dead_letters().await.pop();
            letter.filter(|(id, _)| *id != last)
        })
        .await;
        worker.wait_for_lines(2 * time, PATIENCE).await;
        assert_eq!(worker.count("start 1"), 2 * time);
        assert_eq!(letter["attempt"], b"2");
        let job = String::from_utf8(letter["job"].clone()).unwrap();
        assert!(job.contains(PAYLOAD), "{job}");
        assert!(job.contains(r#""trace":"\"é""#), "{job}");
        assert!(job.contains(&format!(r#""id":"{job_id}""#)), "{job}");
        if time < 3 {
            let (said, status) = retry(&redis, &[&id]);
            assert!(
                said.contains(&format!("{id} runs again as entry ")),
                "{said}"
            );
            assert_eq!(status, Some(0));
        }
        last = id;
    }
    assert_eq!(dead_ids(&redis).await, [last], "the others are gone");
}

#[tokio::test]
async fn what_cannot_run_again_is_refused_and_all_stays() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    redis.add_entry(&[(b"task", br#"{"type":"x"}"#)]).await;
    redis.add_job("[1]").await;
    redis.drained(PATIENCE).await;
    worker.term();
    worker.wait_exit(PATIENCE).await;
    let [foreign, array] = dead_ids(&redis).await.try_into().unwrap();
    let good = bury(&redis, r#"{"type":"x"}"#, "1-1").await;
    let broken = bury(&redis, r#"{"type":"x",}"#, "1-1").await;
    let untyped = bury(&redis, r#"{"id":"x"}"#, "1-1").await;
    let large = format!(r#"{{"type":"x","payload":"{}"}}"#, "a".repeat(263_000));
    let large = bury(&redis, &large, "1-1").await;
    let letters = redis.dead_letters().await;
    for (id, why) in [
        (&*foreign, "it was a foreign entry and no job"),
        (&array, "its job is not a JSON object"),
        (&broken, "its job is not valid JSON"),
        (&untyped, "its job has no type"),
        (&large, "its job is larger than a job may be"),
        (
            "5-5",
            "there is no dead letter 5-5 in jobqueue:{default}:dead",
        ),
        ("99999999999999999999999-0", "there is no dead letter"),
        ("5", "expected ids of dead letters"),
        ("job-1", "expected ids of dead letters"),
    ] {
        let (said, status) = retry(&redis, &[&good, id]);
        assert!(said.contains(why) && said.contains(id), "{said}");
        assert!(said.contains("nothing was changed"), "{said}");
        assert_eq!(status, Some(1));
    }
    // The keys are in the wrong order, a comma has no space before it, or no id is given.
    for (keys, ids) in [
        ([STREAM, DEAD], &[&*good][..]),
        ([DEAD, "jobqueue:{default},"], &[&good]),
        ([DEAD, STREAM], &[]),
    ] {
        let (said, _) = retry_with(&redis, &[], keys, ids);
        assert!(
            said.contains("expected 'jobqueue:{default}:dead'"),
            "{said}"
        );
    }
    assert_eq!(redis.dead_letters().await, letters);
    assert_eq!(redis.xlen().await, 0);
}

#[tokio::test]
async fn a_dead_letter_stays_when_its_job_cannot_be_appended() {
    let redis = Redis::start().await;
    let id = bury(&redis, r#"{"type":"x"}"#, "1-1").await;
    redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let (said, _) = retry(&redis, &[&id]);
    assert!(said.contains("OOM"), "{said}");
    redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;

    // Without the permission to delete, the dead letter would run again and again.
    redis
        .cmd(&[
            "ACL", "SETUSER", "reader", "on", "nopass", "~*", "+@all", "-xdel",
        ])
        .await;
    let (said, _) = retry_with(
        &redis,
        &["--user", "reader", "--pass", "x"],
        [DEAD, STREAM],
        &[&id],
    );
    assert!(said.contains("no permission to run XDEL"), "{said}");
    redis.cmd(&["SET", STREAM, "a text"]).await;
    let (said, _) = retry(&redis, &[&id]);
    assert!(said.contains("is a string, expected a stream"), "{said}");
    assert_eq!(dead_ids(&redis).await, [&*id]);
    redis.cmd(&["DEL", STREAM]).await;
    // It runs once, also when it is named twice.
    let (said, _) = retry(&redis, &[&id, &id]);
    assert_eq!(jobs(&redis).await, [r#"{"id":"1-1","type":"x"}"#], "{said}");
    assert!(dead_ids(&redis).await.is_empty());
}

#[tokio::test]
async fn all_dead_letters_run_again_in_steps_that_pass_by_what_is_no_job() {
    let redis = Redis::start().await;
    for (id, field) in [
        ("1-1", "entry.a"),
        ("2-1", "job"),
        ("2-2", "job"),
        ("2-3", "job"),
        ("3-1", "entry.a"),
        ("4-1", "job"),
    ] {
        let job = format!(r#"{{"id":"{id}","type":"x"}}"#);
        redis.cmd(&["XADD", DEAD, id, field, &job]).await;
    }
    for (args, left, last) in [
        (
            &["all", "2"][..],
            &["1-1", "2-2", "2-3", "3-1", "4-1"][..],
            "1 run again, 5 dead letters are left; to go on: all 2 2-1",
        ),
        (
            &["all", "3", "2-1"],
            &["1-1", "3-1", "4-1"],
            "2 run again, 3 dead letters are left; to go on: all 3 3-1",
        ),
        (
            &["all"],
            &["1-1", "3-1"],
            "1 run again, 2 dead letters are left",
        ),
    ] {
        let (said, status) = retry(&redis, args);
        assert_eq!(said.trim_end().lines().last(), Some(last), "{said}");
        assert_eq!(status, Some(0));
        assert_eq!(dead_ids(&redis).await, left);
    }
    assert_eq!(redis.xlen().await, 4);
    for args in [
        &["all", "0"][..],
        &["all", "1001"],
        &["all", "1.5"],
        &["all", "x"],
        &["all", "5", "6"],
        &["all", "5", "1-1", "2-2"],
    ] {
        let (said, status) = retry(&redis, args);
        assert!(
            said.contains("after all") || said.contains("one id"),
            "{said}"
        );
        assert_eq!(status, Some(1));
    }
}
