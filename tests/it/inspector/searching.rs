//! Finding a job by an id, wherever it is and however the id is written.

use dm_jobqueue::program::inside::{Looking, State};
use uuid::Uuid;

use super::{find, inspect, named};
use crate::support::{DEAD, Redis, SCHEDULED, STREAM};

#[tokio::test]
async fn a_job_is_found_wherever_it_is() {
    let redis = Redis::start().await;
    redis.make_group().await;
    let uuid = Uuid::now_v7().to_string();
    let bare = redis.add_job(r#"{"type":"x"}"#).await;
    redis.add_job(&named("run")).await;
    redis.add_job(&named("back")).await;
    let delivered = redis.deliver("w1", 3).await;
    redis.put_back(&delivered[2]).await;
    redis.add_job(&named(&uuid)).await;
    redis.add_job(&named("wait")).await;
    let parked = format!("7-1:{}", named("later"));
    redis.schedule(5_000_000_000_000, &parked).await;
    redis
        .schedule(5_000_000_000_001, r#"8-1:{"type":"x"}"#)
        .await;
    let letter = redis
        .add_letter_as("20000-1", &named("dead"), "poison", "9-1")
        .await;
    let bare_letter = redis
        .add_letter_as("20000-2", r#"{"type":"x"}"#, "poison", "9-2")
        .await;
    redis.finish("done", 1, [1, 2, 3]).await;
    let mut inspector = inspect(&redis);
    for (id, state, job_id) in [
        (&*uuid, State::Waiting, &*uuid),
        ("wait", State::Waiting, "wait"),
        ("back", State::Waiting, "back"),
        ("run", State::Running, "run"),
        (&bare, State::Running, &bare),
        (&delivered[1], State::Running, "run"),
        ("later", State::Scheduled, "later"),
        ("8-1", State::Scheduled, "8-1"),
        ("7-1", State::Scheduled, "later"),
        ("dead", State::Dead, "dead"),
        (&letter, State::Dead, "dead"),
        ("9-1", State::Dead, "dead"),
        ("9-2", State::Dead, "9-2"),
        (&bare_letter, State::Dead, "9-2"),
        ("done", State::Done, "done"),
    ] {
        let job = find(&mut inspector, id).await;
        let job = job.unwrap_or_else(|| panic!("{id} is not found"));
        assert_eq!((job.state, job.job_id.as_str()), (state, job_id), "{id}");
    }
    // Neither parts of an id, nor an id in a payload.
    for id in ["late", "n", "x", "", "*", "9-3", "0-0"] {
        assert!(find(&mut inspector, id).await.is_none(), "{id}");
    }
}

#[tokio::test]
async fn an_id_is_found_in_any_way_of_writing_it() {
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    for (id, written) in [
        ("日本/1", r"\u65e5\u672c\/1"),
        ("日本/1", r"\u65E5\u672C/1"),
        ("日本/1", "日本/1"),
        ("a*b?[c]", "a*b?[c]"),
        ("q\"\\", r#"q\"\\"#),
        ("<b>", r"\u003cb\u003e"),
    ] {
        let job = format!(r#"{{"type":"x","id":"{written}"}}"#);
        redis
            .schedule(5_000_000_000_000, &format!("1-1:{job}"))
            .await;
        let seen = find(&mut inspector, id).await.map(|job| job.state);
        assert_eq!(seen, Some(State::Scheduled), "{written}");
        redis.cmd(&["DEL", SCHEDULED]).await;
        redis.add_letter(&job, "poison", "1-1").await;
        let seen = find(&mut inspector, id).await.map(|job| job.state);
        assert_eq!(seen, Some(State::Dead), "{written}");
        redis.cmd(&["DEL", DEAD]).await;
        redis.add_job(&job).await;
        let seen = find(&mut inspector, id).await.map(|job| job.state);
        assert_eq!(seen, Some(State::Waiting), "{written}");
        redis.cmd(&["DEL", STREAM]).await;
    }
}

/// Enough jobs for many steps.
const MANY: &str = "for n = 1, 20000 do
    redis.call('XADD', KEYS[1], '*', 'job', '{\"id\":\"w' .. n .. '\",\"type\":\"x\"}')
    redis.call('ZADD', KEYS[2], n, n .. '-1:{\"id\":\"s' .. n .. '\",\"type\":\"x\"}')
    redis.call('XADD', KEYS[3], '*', 'job', '{\"id\":\"d' .. n .. '\",\"type\":\"x\"}', 'died_from', n .. '-1')
end";

#[tokio::test]
async fn a_search_tells_how_far_it_is_and_ends_when_it_is_told_to() {
    let redis = Redis::start().await;
    redis
        .cmd(&["EVAL", MANY, "3", STREAM, SCHEDULED, DEAD])
        .await;
    let mut inspector = inspect(&redis);
    for id in ["w20000", "s20000", "d1", "1-1"] {
        assert!(find(&mut inspector, id).await.is_some(), "{id}");
    }
    let mut steps: Vec<Looking> = Vec::new();
    let mut note = |looking| {
        steps.push(looking);
        true
    };
    assert!(
        inspector
            .find("nowhere", &mut note)
            .await
            .unwrap()
            .is_none()
    );
    for state in [State::Waiting, State::Scheduled, State::Dead] {
        let of: Vec<_> = steps.iter().filter(|step| step.state == state).collect();
        let ends = of
            .iter()
            .filter(|step| step.looked == 20_000 && step.of == 20_000);
        assert_eq!(ends.count(), 2, "{state:?} is searched twice");
        assert!(of.len() > 4, "{state:?}: {} steps", of.len());
    }
    let mut left = 3;
    let mut stop = |_| {
        left -= 1;
        left > 0
    };
    assert!(inspector.find("s20000", &mut stop).await.unwrap().is_none());
    assert_eq!(left, 0);
}

/// A job that is promoted while the search is in the scheduled set is behind the search then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_moves_past_the_search_is_found_in_its_second_turn() {
    let redis = Redis::start().await;
    redis
        .cmd(&["EVAL", MANY, "3", STREAM, SCHEDULED, DEAD])
        .await;
    let member = format!("1-1:{}", named("mover"));
    redis.schedule(5_000_000_000_000, &member).await;
    let client = redis.connect().await.unwrap();
    let mut moved = false;
    let mut promote = |looking: Looking| {
        if looking.state == State::Scheduled && !moved {
            moved = true;
            let mut client = client.clone();
            let mut both = redis::pipe();
            both.cmd("XADD")
                .arg(STREAM)
                .arg("*")
                .arg("job")
                .arg(named("mover"));
            both.cmd("ZREM").arg(SCHEDULED).arg(&member);
            let both = async { both.query_async::<redis::Value>(&mut client).await };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(both))
                .unwrap();
        }
        true
    };
    let mut inspector = inspect(&redis);
    let job = inspector.find("mover", &mut promote).await.unwrap();
    assert_eq!(job.map(|job| job.state), Some(State::Waiting));
    assert!(moved && redis.scheduled().await == 20_000);
}
