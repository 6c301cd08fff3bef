//! Entries that cannot be read as jobs, and payloads that no handler can read. All of them are
//! buried with their bytes, and the jobs around them run.

use std::collections::BTreeMap;

use crate::support::{
    DEAD, Letter, PATIENCE, Process, Redis, TestApp, eventually, hello, letter_of, text,
};

/// The largest job in bytes, as `docs/operations.md` says it.
const MAX_JOB_BYTES: usize = 256 * 1024;

/// Checks that a worker buries each of `jobs` with its bytes, and runs the jobs that were added
/// around them. Returns the errors of the dead letters.
async fn buried(jobs: &[&[u8]]) -> Vec<String> {
    let redis = Redis::start().await;
    let mut ids = Vec::new();
    for (n, job) in jobs.iter().enumerate() {
        redis.add_job(&hello(n)).await;
        ids.push(redis.add_entry(&[(b"job", job)]).await);
    }
    let worker = Process::jobqueue(&redis).start();
    worker.wait_for_lines(jobs.len(), PATIENCE).await;
    redis.drained(PATIENCE).await;
    let mut letters: BTreeMap<String, Letter> = redis
        .dead_letters()
        .await
        .into_iter()
        .map(|(_, letter)| (text(&letter, "died_from").to_owned(), letter))
        .collect();
    let errors = jobs.iter().zip(&ids).map(|(job, id)| {
        let shown = String::from_utf8_lossy(&job[..job.len().min(80)]);
        let letter = letters.remove(id);
        let letter = letter.unwrap_or_else(|| panic!("no dead letter of {shown}"));
        assert!(letter["job"] == *job, "not the bytes of {shown}");
        assert_eq!(text(&letter, "reason"), "malformed", "{shown}");
        assert_eq!(text(&letter, "deliveries"), "1", "{shown}");
        text(&letter, "error").to_owned()
    });
    let errors: Vec<String> = errors.collect();
    assert!(letters.is_empty(), "buried besides: {letters:?}");
    // Each of the other jobs ran, and nothing else did.
    let mut lines: Vec<String> = worker.stdout().into_iter().map(|line| line.text).collect();
    assert_eq!(lines.len(), jobs.len());
    lines.sort_by_key(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
    for (n, line) in lines.iter().enumerate() {
        assert!(line.ends_with(&format!("] hello {n}")), "{line}");
    }
    errors
}

#[tokio::test]
async fn what_is_no_job_is_buried_with_its_bytes() {
    let jobs: &[&[u8]] = &[
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        b"7",
        b"\"demo:delay_print\"",
        b"[null,\"demo:delay_print\"]",
        b"hello\r\nworld\0\x1b[31m",
        b"{}",
        br#"{"payload":{"message":"no type"}}"#,
        br#"{"type":null}"#,
        br#"{"type":1}"#,
        br#"{"type":["demo:delay_print"]}"#,
        br#"{"type":"demo:delay_print","id":7}"#,
        br#"{"type":"demo:delay_print","type":"demo:delay_print"}"#,
        br#"{"type":"demo:delay_print"} {"type":"demo:delay_print"}"#,
    ];
    for error in buried(jobs).await {
        assert!(!error.is_empty());
    }
}

#[tokio::test]
async fn numbers_out_of_range_are_malformed() {
    let mut jobs = Vec::new();
    for field in ["delay_ms", "max_retry", "attempt"] {
        for number in ["-1", "9223372036854775808", "1e400", "NaN", "\"10\"", "1.5"] {
            jobs.push(format!(
                r#"{{"type":"demo:delay_print","{field}":{number}}}"#
            ));
        }
    }
    // These are the first values beyond each limit.
    jobs.push(r#"{"type":"demo:delay_print","max_retry":1001}"#.to_owned());
    jobs.push(r#"{"type":"demo:delay_print","delay_ms":31622400001}"#.to_owned());
    jobs.push(r#"{"type":"demo:delay_print","attempt":4294967296}"#.to_owned());
    let jobs: Vec<&[u8]> = jobs.iter().map(String::as_bytes).collect();
    for error in buried(&jobs).await {
        assert!(!error.is_empty());
    }
}

/// Serializers of many languages write null for a value that was left out, and `5.0` for 5.
#[tokio::test]
async fn null_is_absent_and_a_zero_fraction_is_an_integer() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__RETRY__INITIAL", "5ms")
        .env("APP__JOBQUEUE__RETRY__MAX", "5ms")
        .start();
    let nulls = r#""id":null,"delay_ms":null,"max_retry":null,"attempt":null,"trace":null"#;
    let payload = r#""payload":{"message":null}"#;
    redis
        .add_job(&format!(
            r#"{{{nulls},"type":"demo:delay_print",{payload}}}"#
        ))
        .await;
    redis
        .add_job(r#"{"type":"demo:delay_print","payload":null,"delay_ms":1e2}"#)
        .await;
    eventually("both have printed the default", PATIENCE, async || {
        let lines = worker.stdout();
        let ran = lines
            .iter()
            .filter(|line| line.text.ends_with("] Job executed successfully"));
        (ran.count() == 2).then_some(())
    })
    .await;
    assert_eq!(redis.dead_letters().await, []);

    // The job is parked, retried and buried in turn.
    for (number, max_retry, runs) in [(1, "null", "11"), (2, "2.0", "3")] {
        let job = format!(
            r#"{{"attempt":null,"type":"test:fail","id":null,"delay_ms":50.0,"trace":null,
               "payload":{{"n":{number},"ms":99}},"max_retry":{max_retry}}}"#
        );
        let id = redis.add_job(&job).await;
        let letter = eventually("it is buried", PATIENCE, async || {
            let letters = redis.dead_letters().await.into_iter();
            let mut letters = letters.map(|(_, letter)| letter);
            letters.find(|letter| text(letter, "job").contains(&format!(r#""id":"{id}""#)))
        })
        .await;
        assert_eq!(text(&letter, "reason"), "retries used up");
        assert_eq!(text(&letter, "attempt"), runs);
        let job = text(&letter, "job");
        for field in ["id", "attempt", "delay_ms", "trace", "max_retry"] {
            let times = usize::from(field != "delay_ms");
            assert_eq!(job.matches(&format!("\"{field}\"")).count(), times, "{job}");
        }
        serde_json::from_str::<serde_json::Value>(job).unwrap();
    }
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_malformed_wherever_they_are() {
    let jobs: &[&[u8]] = &[
        b"\xff\xfe",
        b"{\"type\":\"demo:\xff\"}",
        b"{\"type\":\"demo:delay_print\",\"payload\":{\"message\":\"\xff\"}}",
        b"{\"type\":\"demo:delay_print\",\"payload\":{\"other\":\"\xff\"}}",
        b"{\"type\":\"demo:delay_print\",\"\xff\":1}",
        // The worker does not read this field, but a move of the job would have to carry it.
        b"{\"type\":\"demo:delay_print\",\"trace\":\"\xff\"}",
        b"{\"type\":\"demo:delay_print\",\"trace\":\"\xff\",\"delay_ms\":1}",
        b"{\"type\":\"no:such\",\"trace\":\"\xff\"}",
    ];
    for error in buried(jobs).await {
        assert!(!error.is_empty());
    }
}

#[tokio::test]
async fn a_payload_that_its_handler_cannot_read_is_buried_at_once() {
    let jobs: &[&[u8]] = &[
        br#"{"type":"demo:delay_print","payload":{"message":1}}"#,
        br#"{"type":"demo:delay_print","payload":{"message":["x"]}}"#,
        br#"{"type":"demo:delay_print","payload":{"message":"\ud800"}}"#,
    ];
    for error in buried(jobs).await {
        assert!(error.contains("the payload cannot be read"), "{error}");
    }
}

#[tokio::test]
async fn a_payload_that_is_no_object_is_buried_at_once() {
    let jobs: &[&[u8]] = &[
        br#"{"type":"demo:delay_print","payload":["x"]}"#,
        br#"{"type":"demo:delay_print","payload": [null]}"#,
        br#"{"type":"demo:delay_print","payload":[]}"#,
        br#"{"type":"demo:delay_print","payload":"hello"}"#,
        br#"{"type":"demo:delay_print","payload":true}"#,
        br#"{"type":"demo:delay_print","payload":7,"max_retry":1000,"attempt":3}"#,
    ];
    for error in buried(jobs).await {
        assert_eq!(error, "the payload is not a JSON object");
    }
}

/// The log describes every job in short lines, also when the job's texts are very long.
#[tokio::test]
async fn no_log_line_grows_with_a_job() {
    for (format, grace) in [("text", "1h"), ("json", "0s")] {
        // Without a grace, a job of an unknown type is buried at once.
        let unknown = usize::from(grace == "0s");
        let redis = Redis::start().await;
        let worker = Process::jobqueue(&redis)
            .env("LOG_FORMAT", format)
            .env("RUST_LOG", "dm_jobqueue=trace")
            .env("APP__JOBQUEUE__UNKNOWN_TYPE_GRACE", grace)
            .start();
        for piece in ["x", "\u{1f980}", "\\u0001"] {
            let long = piece.repeat(200_000 / piece.len());
            for (job, letters) in [
                (r#"{"type":"no:such","id":"LONG"}"#, unknown),
                (r#"{"type":"LONG"}"#, unknown),
                (r#"{"type":"demo:delay_print","delay_ms":"LONG"}"#, 1),
                (r#"{"type":"demo:delay_print","LONG":1,"id":["LONG"]}"#, 1),
                (
                    r#"{"type":"demo:delay_print","id":"LONG","payload":{"message":["LONG"]}}"#,
                    1,
                ),
            ] {
                let job = job.replacen("LONG", &long, 1);
                let before: usize = redis.query(&["XLEN", DEAD]).await;
                let mark = worker.log_mark();
                redis.add_job(&job).await;
                worker.wait_for_log_since(mark, "job", PATIENCE).await;
                eventually("it is settled", PATIENCE, async || {
                    (redis.xlen().await == 0).then_some(())
                })
                .await;
                let buried: usize = redis.query(&["XLEN", DEAD]).await;
                assert_eq!(buried, before + letters, "{job:.60}");
            }
        }
        for line in worker.stderr() {
            assert!(
                line.text.len() < 2_000,
                "{} bytes: {:.200}",
                line.text.len(),
                line.text
            );
        }
    }
}

#[tokio::test]
async fn a_job_may_be_as_large_as_the_limit_and_no_larger() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    let sized = |bytes: usize| {
        let empty = r#"{"type":"demo:delay_print","payload":{"message":""}}"#;
        let message = "x".repeat(bytes - empty.len());
        empty.replace(r#""""#, &format!(r#""{message}""#))
    };
    for bytes in [MAX_JOB_BYTES + 1, 1024 * 1024] {
        let job = sized(bytes);
        let id = redis.add_job(&job).await;
        let letter = letter_of(&redis, &id).await;
        assert!(letter["job"] == job.as_bytes(), "the bytes of {bytes}");
        let error = text(&letter, "error");
        assert!(error.contains(&bytes.to_string()), "{error}");
    }
    redis.add_job(&sized(MAX_JOB_BYTES)).await;
    let line = worker.wait_for_line(|_| true, PATIENCE).await;
    assert!(line.complete && line.text.ends_with("xxx"));
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn deep_nesting_harms_nobody() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let unknown =
        r#"{"type":"demo:delay_print","deep":DEEP,"payload":{"message":"one"},"delay_ms":1}"#;
    redis.add_job(&unknown.replace("DEEP", &deep)).await;
    let payload = r#"{"type":"demo:delay_print","payload":{"message":"two","deep":DEEP}}"#;
    redis.add_job(&payload.replace("DEEP", &deep)).await;
    let wrong = format!(r#"{{"type":"demo:delay_print","payload":{deep}}}"#);
    let id = redis.add_job(&wrong).await;
    assert_eq!(text(&letter_of(&redis, &id).await, "reason"), "malformed");
    worker
        .wait_for_line(|line| line.ends_with("] one"), PATIENCE)
        .await;
    worker
        .wait_for_line(|line| line.ends_with("] two"), PATIENCE)
        .await;
    redis.drained(PATIENCE).await;
}

#[tokio::test]
async fn numbers_out_of_range_do_not_get_past_the_api() {
    let app = TestApp::start().await;
    for field in ["delay_seconds", "max_retry"] {
        for number in ["-1", "9223372036854775808", "1e400", "\"10\"", "1.5"] {
            let body = format!(r#"{{"{field}":{number}}}"#);
            let (status, reply, _) = app.register_raw(body.clone(), None).await;
            // JSON has numbers that no float can hold. Such a number is as wrong as any other.
            assert_eq!(status, 422, "{body} {reply}");
            let location = &reply["errors"][0]["location"];
            assert_eq!(*location, format!("body.{field}"), "{body} {reply}");
        }
        // This is not JSON at all.
        let (status, reply, _) = app
            .register_raw(format!(r#"{{"{field}":NaN}}"#), None)
            .await;
        assert_eq!(status, 400, "{reply}");
    }
    assert_eq!(app.redis.xlen().await, 0);
}
