//! An id may be that of more than one job: the dead letters are another stream with ids of its own, and
//! programs give jobs ids that others had before.

use dm_jobqueue::program::inside::{Acted, Action, State};

use super::why;
use crate::inspector::{act, find, inspect, named};
use crate::support::{DEAD, Redis, STREAM};

/// A job without an id of its own is called by its entry's, and a dead letter of another job has the same.
#[tokio::test]
async fn a_dead_letter_is_not_taken_for_a_job_that_is_called_as_its_entry() {
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    let bare = r#"{"type":"bare"}"#;
    redis.cmd(&["XADD", STREAM, "5000-0", "job", bare]).await;
    redis
        .add_letter_as("5000-0", &named("other"), "poison", "4999-0")
        .await;
    // The job lives: what can be done to it is done to it, and the letter is another one.
    assert_eq!(
        find(&mut inspector, "5000-0").await.unwrap().state,
        State::Waiting
    );
    redis.cmd(&["XDEL", STREAM, "5000-0"]).await;
    redis
        .add_letter_as("6000-0", bare, "poison", "5000-0")
        .await;
    // Both are dead.
    assert_eq!(
        find(&mut inspector, "5000-0").await.unwrap().job_id,
        "5000-0"
    );
    for action in [Action::Delete, Action::Retry] {
        let (_, words) = why(&mut inspector, action, "5000-0").await;
        assert!(
            words.contains("other") && words.contains("6000-0"),
            "{words}"
        );
    }
    assert_eq!(redis.dead_letters().await.len(), 2, "nothing was done");
    for id in ["other", "6000-0"] {
        let acted = act(&mut inspector, Action::Delete, id).await;
        assert!(matches!(acted, Acted::Done(_)), "{id}: {acted:?}");
    }
    assert_eq!(redis.dead_letters().await, []);
}

#[tokio::test]
async fn a_job_that_lives_is_not_hidden_by_one_that_had_its_id_before() {
    let redis = Redis::start().await;
    redis.make_group().await;
    let mut inspector = inspect(&redis);
    redis.finish("again", 1, [1, 2, 3]).await;
    redis.add_letter(&named("again"), "poison", "9-1").await;
    assert_eq!(
        find(&mut inspector, "again").await.unwrap().state,
        State::Dead
    );
    redis.add_job(&named("again")).await;
    assert_eq!(
        find(&mut inspector, "again").await.unwrap().state,
        State::Waiting
    );
    let acted = act(&mut inspector, Action::Cancel, "again").await;
    assert!(
        matches!(&acted, Acted::Done(job) if job.state == State::Waiting),
        "{acted:?}"
    );
    redis
        .schedule(5_000_000_000_000, &format!("7-1:{}", named("again")))
        .await;
    for id in ["again", "7-1"] {
        assert_eq!(
            find(&mut inspector, id).await.unwrap().state,
            State::Scheduled,
            "{id}"
        );
    }
    let acted = act(&mut inspector, Action::RunNow, "again").await;
    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");
    // A dead letter is what a deletion is for.
    let acted = act(&mut inspector, Action::Delete, "again").await;
    assert!(
        matches!(&acted, Acted::Done(job) if job.state == State::Dead),
        "{acted:?}"
    );
    let left: u64 = redis.query(&["XLEN", DEAD]).await;
    assert_eq!(left, 0);
}
