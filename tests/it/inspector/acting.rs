//! Actions on one job: each is done to the job that was meant, or says why not, and the job is in exactly one
//! place afterwards, whoever else acts on it at the same time.

mod lag;
mod races;

use dm_jobqueue::program::inside::{Acted, Action, Inspector, State};

use super::{CANCEL, act, find, inspect, named};
use crate::support::{DEAD, GROUP, PATIENCE, Process, Redis, SCHEDULED, STREAM, text};

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
async fn what_cannot_be_done_says_what_the_job_is() {
    let redis = Redis::start().await;
    redis.make_group().await;
    redis.add_job(&named("run")).await;
    redis.add_job(&named("wait")).await;
    redis.deliver("w1", 1).await;
    redis
        .schedule(5_000_000_000_000, &format!("7-1:{}", named("later")))
        .await;
    redis.add_letter(&named("dead"), "poison", "9-1").await;
    redis.finish("done", 1, [1, 2, 3]).await;
    let mut inspector = inspect(&redis);
    for (action, id, words) in [
        (Action::RunNow, "run", "running in worker w1"),
        (Action::RunNow, "dead", "retry it instead"),
        (Action::RunNow, "done", "it has finished"),
        (Action::Cancel, "dead", "delete it instead"),
        (Action::Cancel, "done", "it has finished"),
        (Action::Retry, "run", "running in worker w1"),
        (Action::Retry, "wait", "it waits"),
        (Action::Retry, "later", "run it now instead"),
        (Action::Retry, "done", "it has finished"),
        (
            Action::Delete,
            "run",
            "running in worker w1; cancel it instead",
        ),
        (Action::Delete, "later", "cancel it instead"),
        (Action::Delete, "done", "it has finished"),
    ] {
        let (_, why) = why(&mut inspector, action, id).await;
        assert!(why.contains(words), "{action:?} of {id}: {why}");
    }
    let backlog = redis.backlog().await;
    assert_eq!(
        (
            backlog.stream,
            backlog.pending,
            backlog.scheduled,
            backlog.dead
        ),
        (2, 1, 1, 1)
    );
    assert_eq!(redis.query::<u64>(&["EXISTS", CANCEL]).await, 0);
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

/// The text of an action's script.
macro_rules! script {
    ($name:literal) => {
        concat!(
            include_str!("../../../src/service/jobqueue/redis/scripts/prelude.lua"),
            include_str!(concat!(
                "../../../src/service/jobqueue/redis/scripts/",
                $name,
                ".lua"
            ))
        )
    };
}

/// After a loss of data Redis may give an id again, to another job than the one that was found.
#[tokio::test]
async fn another_job_that_got_the_same_id_is_left_alone() {
    let redis = Redis::start().await;
    redis.make_group().await;
    let id = redis.add_job(&named("other")).await;
    let letter = redis.add_letter(&named("other"), "poison", "9-1").await;
    let digest = |job: &str| sha1_smol::Sha1::from(job).digest().to_string();
    for (job, is_it) in [(named("found"), false), (named("other"), true)] {
        let digest = digest(&job);
        let cancel = [
            "EVAL",
            script!("cancel"),
            "2",
            STREAM,
            CANCEL,
            GROUP,
            "300000",
            &id,
            &digest,
        ];
        let outcome: Vec<(u32, String)> = redis.query(&cancel).await;
        assert_eq!(outcome, [(u32::from(is_it), String::new())]);
        let retry = [
            "EVAL",
            script!("retry"),
            "2",
            DEAD,
            STREAM,
            &letter,
            &digest,
            "{}",
        ];
        let entries: Vec<String> = redis.query(&retry).await;
        assert_eq!(entries.iter().all(String::is_empty), !is_it);
        let backlog = redis.backlog().await;
        assert_eq!((backlog.stream, backlog.dead), (1, u64::from(!is_it)));
    }
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

#[tokio::test]
async fn a_redis_that_refuses_leaves_everything_where_it_is() {
    let redis = Redis::start().await;
    redis.make_group().await;
    redis.add_job(&named("w")).await;
    redis
        .schedule(5_000_000_000_000, &format!("7-1:{}", named("s")))
        .await;
    redis.add_letter(&named("d"), "poison", "9-1").await;
    let mut inspector = inspect(&redis);
    // Its memory is full: what adds is refused, and what frees or moves is done.
    redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = inspector
        .act(Action::Retry, "d", &mut |_| true)
        .await
        .unwrap_err();
    assert_eq!(full.code.as_deref(), Some("OOM"), "{full}");
    for (action, id) in [
        (Action::RunNow, "s"),
        (Action::Cancel, "w"),
        (Action::Delete, "d"),
    ] {
        let acted = act(&mut inspector, action, id).await;
        assert!(matches!(acted, Acted::Done(_)), "{id}: {acted:?}");
    }
    redis.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let backlog = redis.backlog().await;
    assert_eq!((backlog.stream, backlog.scheduled, backlog.dead), (1, 0, 0));
    redis.cmd(&["DEL", STREAM]).await;

    // A missing permission, or a key of another type, is found before the first write.
    redis
        .schedule(5_000_000_000_000, &format!("7-1:{}", named("s")))
        .await;
    redis.add_letter(&named("d"), "poison", "9-1").await;
    let before = redis.backlog().await;
    for (action, id, forbidden) in [
        (Action::RunNow, "s", "-zrem"),
        (Action::RunNow, "s", "-xadd"),
        (Action::Cancel, "s", "-zrem"),
        (Action::Retry, "d", "-xdel"),
        (Action::Delete, "d", "-xdel"),
    ] {
        redis.cmd(&["ACL", "SETUSER", "default", forbidden]).await;
        let error = inspector.act(action, id, &mut |_| true).await.unwrap_err();
        assert_eq!(
            error.code.as_deref(),
            Some("NOPERM"),
            "{action:?} {forbidden}: {error}"
        );
        redis.cmd(&["ACL", "SETUSER", "default", "+@all"]).await;
        assert_eq!(redis.backlog().await, before, "{action:?} {forbidden}");
    }
    let waiting = redis.add_job(&named("w")).await;
    redis.cmd(&["SET", CANCEL, "a text"]).await;
    let error = inspector.act(Action::Cancel, &waiting, &mut |_| true).await;
    assert!(error.unwrap_err().to_string().contains(CANCEL));
    assert_eq!(redis.xlen().await, 1);
    redis.cmd(&["DEL", STREAM]).await;
    redis.cmd(&["SET", STREAM, "a text"]).await;
    let error = inspector
        .act(Action::Retry, "d", &mut |_| true)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("is a string, expected a stream"),
        "{error}"
    );
    assert_eq!(redis.query::<u64>(&["XLEN", DEAD]).await, 1);
    assert_eq!(redis.query::<u64>(&["ZCARD", SCHEDULED]).await, 1);
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
