//! Actions on one job: each is done to the job that was meant, or says why not, and the job is in exactly one
//! place afterwards, whoever else acts on it at the same time.

mod lag;
mod names;
mod races;
mod refusals;

use dm_jobqueue::program::inside::{Acted, Action, Inspector, State};

use super::{CANCEL, act, find, inspect, named};
use crate::support::{DEAD, PATIENCE, Process, Redis, STREAM, text};

/// What the stream's entries hold.
async fn jobs(redis: &Redis) -> Vec<String> {
    let entries = redis.entries().await.into_iter();
    entries
        .map(|(_, fields)| text(&fields, "job").to_owned())
        .collect()
}

async fn why(inspector: &mut Inspector, action: Action, id: &str) -> (State, String) {
    match act(inspector, action, id).await {
        Acted::Refused { job, why } => (job.state, why),
        other => panic!("{action:?} of {id}: {other:?}"),
    }
}

#[tokio::test]
async fn a_scheduled_job_runs_now_and_keeps_what_it_is() {
    let redis = Redis::start().await;
    let job = r#"{"type":"x", "attempt":3,"unknown_for_ms":9,"expires_at_ms":7,"payload":[1.00]}"#;
    redis
        .schedule(5_000_000_000_000, &format!("7000-1:{job}"))
        .await;
    let mut inspector = inspect(&redis);
    let acted = act(&mut inspector, Action::RunNow, "7000-1").await;
    assert!(
        matches!(&acted, Acted::Done(job) if job.state == State::Scheduled),
        "{acted:?}"
    );
    let expected =
        r#"{"id":"7000-1","registered_ms":7000,"type":"x", "attempt":3,"payload":[1.00]}"#;
    assert_eq!(jobs(&redis).await, [expected]);
    assert_eq!(redis.scheduled().await, 0);
    let (state, why) = why(&mut inspector, Action::RunNow, "7000-1").await;
    assert_eq!(state, State::Waiting);
    assert!(why.contains("it waits for the next free worker"), "{why}");
}

#[tokio::test]
async fn a_job_is_cancelled_wherever_it_waits() {
    let redis = Redis::start().await;
    redis.make_group().await;
    let mut inspector = inspect(&redis);
    for n in 0..4 {
        redis.add_job(&named(&format!("j{n}"))).await;
    }
    let delivered = redis.deliver("w1", 2).await;
    redis.put_back(&delivered[1]).await;
    redis
        .schedule(5_000_000_000_000, &format!("7-1:{}", named("s")))
        .await;
    for id in ["s", "j1", "j3"] {
        let acted = act(&mut inspector, Action::Cancel, id).await;
        assert!(matches!(acted, Acted::Done(_)), "{id}: {acted:?}");
        assert!(find(&mut inspector, id).await.is_none(), "{id}");
        let again = act(&mut inspector, Action::Cancel, id).await;
        assert!(
            matches!(&again, Acted::Missing { looked } if looked.contains("waiting")),
            "{again:?}"
        );
    }
    assert_eq!(jobs(&redis).await, [named("j0"), named("j2")]);
    assert_eq!(redis.pending().await, 1);
    // A foreign entry can be cancelled too.
    let foreign = redis
        .add_entry(&[(b"task", b"x"), (b"more", &vec![b'y'; 500_000])])
        .await;
    let acted = act(&mut inspector, Action::Cancel, &foreign).await;
    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");
    // Without a group as well.
    redis.cmd(&["DEL", STREAM]).await;
    redis.add_job(&named("alone")).await;
    let acted = act(&mut inspector, Action::Cancel, "alone").await;
    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");
    assert_eq!(redis.xlen().await, 0);
}

#[tokio::test]
async fn the_worker_of_a_running_job_is_told_to_end_it() {
    let redis = Redis::start().await;
    redis.make_group().await;
    redis.add_job(&named("a")).await;
    let id = redis.deliver("w1", 1).await.remove(0);
    let mut inspector = inspect(&redis);
    let before = redis.now_ms().await;
    let acted = act(&mut inspector, Action::Cancel, "a").await;
    assert!(
        matches!(&acted, Acted::Asked(job) if job.worker.as_deref() == Some("w1")),
        "{acted:?}"
    );
    let since: u64 = redis.query(&["HGET", CANCEL, &id]).await;
    assert!(since >= before && since <= redis.now_ms().await);
    let (state, why_not) = why(&mut inspector, Action::Cancel, "a").await;
    assert_eq!(state, State::Running);
    assert!(
        why_not.contains("being cancelled already") && why_not.contains("w1"),
        "{why_not}"
    );
    assert_eq!(redis.query::<u64>(&["HGET", CANCEL, &id]).await, since);
    assert!(find(&mut inspector, "a").await.unwrap().cancelling);
    assert_eq!(redis.pending().await, 1);
    // It was put back meanwhile, so no worker has it, and nothing is left of the order to end it.
    redis.put_back(&id).await;
    let acted = act(&mut inspector, Action::Cancel, "a").await;
    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");
    assert_eq!(redis.query::<u64>(&["EXISTS", CANCEL, STREAM]).await, 1);
    assert_eq!(redis.xlen().await, 0);
}

#[tokio::test]
async fn a_dead_letter_runs_again_or_says_why_not() {
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    let job = r#"{"type":"x","attempt":3,"delay_ms":5,"payload":{ "attempt":7 }}"#;
    let letter = redis.add_letter(job, "retries used up", "1000-7").await;
    let acted = act(&mut inspector, Action::Retry, &letter).await;
    assert!(
        matches!(&acted, Acted::Done(job) if job.job_id == "1000-7"),
        "{acted:?}"
    );
    let expected = r#"{"id":"1000-7","registered_ms":1000,"type":"x","payload":{ "attempt":7 }}"#;
    assert_eq!(jobs(&redis).await, [expected]);
    redis.cmd(&["DEL", STREAM]).await;
    let foreign = [
        "XADD",
        DEAD,
        "*",
        "entry.a",
        "b",
        "reason",
        "malformed",
        "died_from",
        "5-1",
    ];
    redis.cmd(&foreign).await;
    let large = format!(
        r#"{{"id":"large","type":"x","payload":"{}"}}"#,
        "a".repeat(300_000)
    );
    for (id, job, words) in [
        (
            "5-1",
            "",
            "it was a foreign entry and no job: append a job made of its fields with XADD",
        ),
        ("5-2", "[1]", "its job is not a JSON object"),
        ("5-3", r#"{"type":"x",}"#, "its job is not valid JSON"),
        ("5-4", r#"{"payload":1}"#, "its job has no type"),
        ("5-5", &large, "its job is larger than a job may be"),
    ] {
        if !job.is_empty() {
            redis.add_letter(job, "malformed", id).await;
        }
        let (state, why) = why(&mut inspector, Action::Retry, id).await;
        assert_eq!(state, State::Dead);
        assert!(
            why.starts_with("it cannot run again: ") && why.contains(words),
            "{why}"
        );
    }
    assert_eq!((redis.xlen().await, redis.backlog().await.dead), (0, 5));
    let acted = act(&mut inspector, Action::Delete, "5-5").await;
    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");
    assert_eq!(redis.backlog().await.dead, 4);
}

/// Two streams may have the same id.
#[tokio::test]
async fn an_id_means_the_job_that_the_action_is_for() {
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    let id = redis.add_job(&named("waiting")).await;
    for name in ["dead", "other"] {
        redis.cmd(&["DEL", DEAD]).await;
        redis
            .add_letter_as(&id, &named(name), "poison", "9-1")
            .await;
        assert_eq!(find(&mut inspector, &id).await.unwrap().job_id, "waiting");
        let action = if name == "dead" {
            Action::Retry
        } else {
            Action::Delete
        };
        let acted = act(&mut inspector, action, &id).await;
        assert!(
            matches!(&acted, Acted::Done(job) if job.job_id == name),
            "{acted:?}"
        );
    }
    assert_eq!(
        jobs(&redis).await,
        [
            named("waiting"),
            named("dead").replacen("{", r#"{"registered_ms":9,"#, 1)
        ]
    );
    let acted = act(&mut inspector, Action::Cancel, &id).await;
    assert!(
        matches!(&acted, Acted::Done(job) if job.job_id == "waiting"),
        "{acted:?}"
    );
}

/// A job that a real worker parked, failed and buried runs again under its id.
#[tokio::test]
async fn a_real_workers_jobs_are_steered() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    let mut inspector = inspect(&redis);
    let delayed = r#"{"id":"a","type":"test:sleep","payload":{"n":1},"delay_ms":3600000}"#;
    redis.add_job(delayed).await;
    redis.settled(1, 0).await;
    let acted = act(&mut inspector, Action::RunNow, "a").await;
    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    redis
        .add_job(r#"{"id":"b","type":"test:malformed","payload":{"n":2}}"#)
        .await;
    redis.settled(0, 1).await;
    let acted = act(&mut inspector, Action::Retry, "b").await;
    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");
    worker.wait_for_lines(3, PATIENCE).await;
    redis.settled(0, 1).await;
    let job = find(&mut inspector, "b").await.unwrap();
    assert_eq!(
        (job.state, job.reason.as_deref()),
        (State::Dead, Some("malformed"))
    );
}
