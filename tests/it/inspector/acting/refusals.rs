//! What is refused, by the inspector or by Redis, and that everything stays where it is.

use dm_jobqueue::program::inside::{Acted, Action};

use super::why;
use crate::inspector::{CANCEL, act, inspect, named};
use crate::support::{DEAD, GROUP, Redis, SCHEDULED, STREAM};

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

/// The text of an action's script.
macro_rules! script {
    ($name:literal) => {
        concat!(
            include_str!("../../../../src/service/jobqueue/redis/scripts/prelude.lua"),
            include_str!(concat!(
                "../../../../src/service/jobqueue/redis/scripts/",
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
