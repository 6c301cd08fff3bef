//! Jobs of a type that a worker does not know. They are for other programs on the queue or for a
//! newer program. They are buried only when no such program has run for the whole grace.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{
    DEAD, Letter, NO_DELAY_PRINT, PATIENCE, Process, ProcessBuilder, Redis, STREAM, eventually,
    letter_of, stays, test_job, text,
};

const GRACE: &str = "APP__JOBQUEUE__UNKNOWN_TYPE_GRACE";

fn with_pauses(worker: ProcessBuilder, initial: &str) -> ProcessBuilder {
    worker
        .env("APP__JOBQUEUE__RETRY__INITIAL", initial)
        .env("APP__JOBQUEUE__RETRY__JITTER", "0")
}

/// The dead letter of the job whose first entry was `id`.
async fn letter_of_job(redis: &Redis, id: &str) -> Letter {
    eventually(format!("a dead letter of job {id}"), PATIENCE, async || {
        let letters = redis.dead_letters().await.into_iter();
        let mut letters = letters.map(|(_, letter)| letter);
        letters.find(|letter| text(letter, "job").contains(&format!(r#""id":"{id}""#)))
    })
    .await
}

fn entry_ms(id: &str) -> u64 {
    id.split('-').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_unknown_job_type_is_tried_again_uncharged_and_buried_after_its_grace() {
    let redis = Redis::start().await;
    let worker = with_pauses(Process::jobqueue(&redis), "200ms");
    let worker = worker.env(GRACE, "1500ms").start();
    let rest = r#""type":"no:such","payload":{ "big":1e400 },"trace":"00-ab""#;
    let mut ids = Vec::new();
    for more in [
        "",
        r#""max_retry":0,"#,
        r#""delay_ms":500,"#,
        r#""attempt":4,"max_retry":2,"#,
    ] {
        ids.push(redis.add_job(&format!("{{{more}{rest}}}")).await);
    }
    // There are seven pauses. The last one has the length of the rest of the grace.
    for (id, (delay_ms, attempt)) in ids.iter().zip([(0, "0"), (0, "0"), (500, "0"), (0, "4")]) {
        let letter = letter_of_job(&redis, id).await;
        assert_eq!(text(&letter, "reason"), "unknown type");
        assert!(text(&letter, "error").contains("\"no:such\""), "{letter:?}");
        assert!(text(&letter, "error").contains("1s 500ms"), "{letter:?}");
        assert_eq!(text(&letter, "attempt"), attempt);
        assert_eq!(text(&letter, "deliveries"), "1");
        let job = text(&letter, "job");
        assert!(
            job.contains(r#""payload":{ "big":1e400 },"trace":"00-ab""#),
            "{job}"
        );
        assert!(job.contains(r#""unknown_for_ms":1500"#), "{job}");
        let waited = entry_ms(text(&letter, "died_from")) - entry_ms(id);
        let expected = 1500 + delay_ms..1500 + delay_ms + 900;
        assert!(expected.contains(&waited), "buried after {waited} ms");
    }
    let lines = async || (worker.count_log("it is left to others") >= 3).then_some(());
    eventually("three lines are logged", PATIENCE, lines).await;
    assert_eq!(worker.count_log("it is left to others"), 3, "a few lines");
}

#[tokio::test]
async fn without_a_grace_a_job_of_an_unknown_type_is_buried_at_once() {
    let redis = Redis::start().await;
    let _worker = Process::jobqueue(&redis).env(GRACE, "0s").start();
    let id = redis.add_job(r#"{"type":"no:such"}"#).await;
    let letter = letter_of(&redis, &id).await;
    assert_eq!(text(&letter, "reason"), "unknown type");
    assert!(text(&letter, "error").contains("\"no:such\""));
    assert_eq!(text(&letter, "attempt"), "0");
}

#[tokio::test]
async fn two_programs_on_one_queue_leave_each_other_their_jobs() {
    let redis = Redis::start().await;
    // There are several workers of each program, so that a job may meet the wrong ones several
    // times.
    let quick = |worker| with_pauses(worker, "100ms");
    let printers = [(); 2].map(|()| quick(Process::jobqueue(&redis)).start());
    let testers = [(); 2].map(|()| {
        let tester = quick(Process::test_worker(&redis));
        tester.env(NO_DELAY_PRINT, "1").start()
    });
    for worker in printers.iter().chain(&testers) {
        worker.wait_for_log("connected to redis", PATIENCE).await;
    }
    for n in 0..60 {
        let once = |job: String| job.replacen('{', r#"{"max_retry":0,"#, 1);
        let message = format!(r#"{{"type":"demo:delay_print","payload":{{"message":"job {n}"}}}}"#);
        redis.add_job(&once(message)).await;
        redis.add_job(&once(test_job("sleep", n, 0))).await;
    }
    redis.drained(PATIENCE).await;
    assert_eq!(redis.dead_letters().await, []);
    for worker in printers.iter().chain(&testers) {
        worker.term();
        worker.wait_exit(PATIENCE).await;
    }
    let told = |workers: &[Process; 2], what: &str| -> usize {
        let lines = workers.iter().flat_map(Process::stdout);
        lines.filter(|line| line.text.ends_with(what)).count()
    };
    for n in 0..60 {
        assert_eq!(told(&printers, &format!("] job {n}")), 1);
        assert_eq!(told(&testers, &format!("end {n}")), 1);
    }
    let left = printers.iter().chain(&testers);
    let left: usize = left
        .map(|worker| worker.count_log("it is left to others"))
        .sum();
    assert!(left > 0, "nobody met a job of the others");
}

#[tokio::test]
async fn a_newer_worker_runs_what_an_older_one_does_not_know() {
    let redis = Redis::start().await;
    let old = with_pauses(Process::jobqueue(&redis), "300ms").start();
    let job = r#"{"type":"test:fail","payload":{"n":7,"ms":1},"max_retry":1}"#;
    let id = redis.add_job(job).await;
    let waiting = async |what: &str, expected: [(&str, Value); 2]| {
        eventually(what, PATIENCE, async || {
            let (member, _) = redis.scheduled_jobs().await.pop()?;
            let job: Value = serde_json::from_str(member.split_once(':').unwrap().1).unwrap();
            assert_eq!(job["id"], id);
            let found = |(field, value): &(&str, Value)| job.get(field) == Some(value);
            expected.iter().all(found).then_some(())
        })
        .await;
    };
    let unknown = ("unknown_for_ms", 600.into());
    waiting(
        "the old one does not know it",
        [unknown, ("max_retry", 1.into())],
    )
    .await;
    old.term();
    old.wait_exit(PATIENCE).await;
    let new = with_pauses(Process::test_worker(&redis), "300ms").start();
    // The grace begins again when a worker has known the job's type in between.
    let known = ("unknown_for_ms", 0.into());
    waiting("its first attempt fails", [known, ("attempt", 1.into())]).await;
    new.wait_for_line(|line| line == "end 7", PATIENCE).await;
    redis.drained(Duration::from_secs(2)).await;
    assert_eq!(redis.dead_letters().await, []);
}

#[tokio::test]
async fn thousands_of_jobs_of_an_unknown_type_hold_up_no_others_and_make_no_busy_loop() {
    let redis = Redis::start().await;
    let add = "for i = 1, 10000 do
            redis.call('XADD', KEYS[1], '*', 'job', '{\"type\":\"no:such\",\"n\":' .. i .. '}')
            if i % 5 == 0 then
                redis.call('XADD', KEYS[1], '*', 'job', '{\"type\":\"test:quiet\"}')
            end
        end";
    redis.cmd(&["EVAL", add, "1", STREAM]).await;
    let began = Instant::now();
    let workers = [(); 2].map(|()| Process::test_worker(&redis).start());
    let quiet = "local count = 0
        for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
            if string.find(entry[2][2], 'test:quiet', 1, true) then count = count + 1 end
        end
        return count";
    eventually("all others ran", PATIENCE, async || {
        let left: u64 = redis.query(&["EVAL", quiet, "1", STREAM]).await;
        (left == 0).then_some(())
    })
    .await;
    let took = began.elapsed();
    eprintln!("2,000 jobs among 10,000 of an unknown type took {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // A pause is 1 s, less at most a fifth. So there are at most four deliveries in 3 s.
    let window = Duration::from_secs(3).saturating_sub(began.elapsed());
    stays("no busy loop", window, async || {
        let stream: std::collections::BTreeMap<String, redis::Value> =
            redis.query(&["XINFO", "STREAM", STREAM]).await;
        let added: u64 = redis::from_redis_value_ref(&stream["entries-added"]).unwrap();
        added <= 12_000 + 3 * 10_000
    })
    .await;
    assert_eq!(redis.query::<u64>(&["XLEN", DEAD]).await, 0);
    for worker in workers {
        let lines = worker.count_log("left to others");
        assert!(lines <= 3, "{lines} lines");
    }
}
