//! Jobs that will not run (again): which jobs these are, what their dead letters keep, and that
//! they do not hold up other jobs.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    DEAD, PATIENCE, Process, ProcessBuilder, Redis, eventually, hello, letter_of, text,
};

fn quick_retries(worker: ProcessBuilder) -> ProcessBuilder {
    worker
        .env("APP__JOBQUEUE__RETRY__INITIAL", "5ms")
        .env("APP__JOBQUEUE__RETRY__MAX", "20ms")
}

#[tokio::test]
async fn a_foreign_entry_keeps_its_fields_under_names_of_their_own() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    let (job, bytes) = (br#"{"type":"demo:delay_print"}"#, b"\xff\0\n");
    for fields in [
        &[(&b"task"[..], &job[..])][..],
        &[(b"job", job), (b"reason", b"mine")],
        &[(b"", b""), (b"\xff", bytes)],
        &[(b"error", b"not ours"), (b"died_from", b"1-1")],
    ] {
        let id = redis.add_entry(fields).await;
        let raw: Vec<(String, Vec<Vec<u8>>)> =
            eventually("its dead letter", PATIENCE, async || {
                let last = redis.query(&["XREVRANGE", DEAD, "+", "-", "COUNT", "1"]);
                let last: Vec<(String, Vec<Vec<u8>>)> = last.await;
                let has_id = |(_, strings): &(String, Vec<Vec<u8>>)| {
                    strings
                        .chunks(2)
                        .any(|pair| pair == [b"died_from".to_vec(), id.clone().into()])
                };
                last.iter().any(has_id).then_some(last)
            })
            .await;
        let pairs: Vec<&[Vec<u8>]> = raw[0].1.chunks(2).collect();
        for (pair, (field, value)) in pairs.iter().zip(fields) {
            assert_eq!(pair[0], [b"entry.", *field].concat());
            assert_eq!(pair[1], *value);
        }
        let ours: Vec<&[u8]> = pairs[fields.len()..]
            .iter()
            .map(|pair| &pair[0][..])
            .collect();
        assert_eq!(
            ours,
            [
                &b"reason"[..],
                b"error",
                b"attempt",
                b"deliveries",
                b"died_from"
            ]
        );
    }
    redis.drained(PATIENCE).await;
    assert!(worker.stdout().is_empty(), "a foreign entry ran");
}

#[tokio::test]
async fn a_job_field_given_twice_is_foreign_and_both_are_kept() {
    let redis = Redis::start().await;
    let _worker = Process::jobqueue(&redis).start();
    redis.add_entry(&[(b"job", b"one"), (b"job", b"two")]).await;
    let letters: Vec<(String, Vec<String>)> = eventually("a dead letter", PATIENCE, async || {
        let letters: Vec<_> = redis.query(&["XRANGE", DEAD, "-", "+"]).await;
        (!letters.is_empty()).then_some(letters)
    })
    .await;
    assert_eq!(letters[0].1[..4], ["entry.job", "one", "entry.job", "two"]);
}

#[tokio::test]
async fn thousands_of_foreign_fields_are_all_kept() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    for count in [3_000, 10_000] {
        let names: Vec<String> = (0..count).map(|n| format!("f{n}")).collect();
        let fields: Vec<(&[u8], &[u8])> = names
            .iter()
            .map(|name| (name.as_bytes(), name.as_bytes()))
            .collect();
        let id = redis.add_entry(&fields).await;
        let letter = letter_of(&redis, &id).await;
        let rest = letter
            .get("entries")
            .map_or("", |_| text(&letter, "entries"));
        for name in &names {
            let own = letter.get(&format!("entry.{name}"));
            let kept = own.is_some_and(|value| value == name.as_bytes())
                || rest.contains(&format!("{0}:{name},{0}:{name},", name.len()));
            assert!(kept, "{name} of {count} is lost");
        }
    }
    redis.add_job(&hello(1)).await;
    worker
        .wait_for_line(|line| line.ends_with("hello 1"), PATIENCE)
        .await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn a_buried_job_says_how_it_died() {
    let redis = Redis::start().await;
    let _worker = quick_retries(Process::test_worker(&redis)).start();
    let job = r#"{"type":"test:fail","payload":{"n":1,"ms":99},"max_retry":0,"x":"y"}"#;
    let id = redis.add_job(job).await;
    let letter = letter_of(&redis, &id).await;
    assert_eq!(text(&letter, "job"), job);
    assert_eq!(text(&letter, "reason"), "retries used up");
    assert_eq!(text(&letter, "error"), "failed as asked");
    assert_eq!(text(&letter, "attempt"), "1");
    assert_eq!(text(&letter, "deliveries"), "1");

    let job = r#"{"type":"test:malformed","payload":{"n":2},"attempt":3}"#;
    let id = redis.add_job(job).await;
    let letter = letter_of(&redis, &id).await;
    assert_eq!(text(&letter, "job"), job);
    assert_eq!(text(&letter, "reason"), "malformed");
    assert_eq!(text(&letter, "error"), "malformed as asked");
    assert_eq!(text(&letter, "attempt"), "3");
}

#[tokio::test]
async fn a_dead_letter_runs_when_its_job_is_added_again() {
    let redis = Redis::start().await;
    let worker = quick_retries(Process::test_worker(&redis)).start();
    // The retries are used up just before the attempt that would succeed.
    let job = r#"{"type":"test:fail","payload":{"n":1,"ms":2},"max_retry":1,"x":"y"}"#;
    let id = redis.add_job(job).await;
    redis.drained(PATIENCE).await;
    let dead = redis.dead_letters().await;
    let carried = text(&dead[0].1, "job");
    let parsed: Value = serde_json::from_str(carried).unwrap();
    assert_eq!(
        (parsed["id"].as_str(), parsed["x"].as_str()),
        (Some(&*id), Some("y"))
    );
    let again = carried.replace(r#""ms":2"#, r#""ms":0"#);
    redis.add_job(&again).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn the_oldest_dead_letters_make_room_and_the_log_says_so() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis)
        .env("APP__JOBQUEUE__DEAD_LETTER_MAX_LEN", "3")
        .start();
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(redis.add_job(&format!("no job {n}")).await);
        letter_of(&redis, &ids[n]).await;
    }
    assert!(
        !worker
            .stderr()
            .iter()
            .any(|line| line.text.contains("dropped"))
    );
    for n in 3..5 {
        ids.push(redis.add_job(&format!("no job {n}")).await);
        letter_of(&redis, &ids[n]).await;
    }
    worker
        .wait_for_log("dropped the oldest dead letters", PATIENCE)
        .await;
    let kept = redis.dead_letters().await.into_iter();
    let kept: Vec<String> = kept
        .map(|(_, letter)| text(&letter, "died_from").to_owned())
        .collect();
    assert_eq!(kept, ids[2..]);
    redis.drained(Duration::from_secs(1)).await;
}
