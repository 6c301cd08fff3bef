//! Actions on many jobs: on those that match, on none that came later, with a count of each.

use std::time::Duration;

use dm_jobqueue::program::inside::{Action, Filter, State, Swept};

use super::{CANCEL, inspect, named, sweep};
use crate::support::{DEAD, Redis, SCHEDULED, STREAM};

fn reason(reason: &str) -> Filter {
    Filter {
        reason: Some(reason.to_owned()),
        ..Filter::default()
    }
}

/// Dead letters: 700 jobs that failed, 40 that are poison, 2 that are no jobs.
const LETTERS: &str = "for n = 1, 742 do
    local kind = n % 371 == 0 and 'entry.a' or 'job'
    local reason = n % 19 == 0 and 'poison' or 'retries used up'
    redis.call('XADD', KEYS[1], n .. '-1', kind, '{\"id\":\"d' .. n .. '\",\"type\":\"x\",\"payload\":' .. n .. '}',
        'reason', reason, 'died_from', n .. '-0')
end";

#[tokio::test]
async fn dead_letters_of_one_reason_run_again_and_the_others_stay() {
    let redis = Redis::start().await;
    redis.cmd(&["EVAL", LETTERS, "1", DEAD]).await;
    let mut inspector = inspect(&redis);
    let dead = inspector.extent(State::Dead).await.unwrap();
    let poison = inspector
        .count(&dead, &reason("poison"), &mut |_| true)
        .await
        .unwrap();
    assert_eq!((poison.looked, poison.of, poison.done), (742, 742, 39));
    let mut seen = Vec::new();
    let mut note = |swept: Swept| {
        seen.push(swept);
        true
    };
    let filter = reason("retries used up");
    let swept = inspector.act_on_all(Action::Retry, &dead, &filter, &mut note);
    let swept = swept.await.unwrap();
    let expected = Swept {
        looked: 742,
        of: 742,
        done: 701,
        refused: 2,
    };
    assert_eq!(swept, expected);
    assert!(
        seen.len() > 1 && seen.is_sorted_by_key(|swept| swept.looked),
        "{seen:?}"
    );
    let backlog = redis.backlog().await;
    assert_eq!((backlog.stream, backlog.dead), (701, 41));
    // In the order in which they died.
    let first = redis.entries().await.remove(0).1;
    assert!(first["job"].starts_with(br#"{"registered_ms":1,"id":"d1","#));
    let again = sweep(&mut inspector, Action::Retry, State::Dead, &filter).await;
    assert_eq!((again.done, again.refused), (0, 2));
}

/// 30 jobs of three types in the stream, of which 12 run, and as many in the scheduled set, of which 10 are old.
async fn fill(redis: &Redis) {
    redis.make_group().await;
    let now = redis.now_ms().await;
    for n in 0..30 {
        let kind = ["x", "y", "z"][n % 3];
        let job = format!(r#"{{"id":"j{n}","type":"{kind}","payload":{{"to":"caf\u00e9 {n}"}}}}"#);
        redis.add_job(&job).await;
        let left = if n < 10 { 1000 } else { now };
        redis
            .schedule(5_000_000_000_000, &format!("{left}-{n}:{job}"))
            .await;
    }
    redis.deliver("w1", 12).await;
}

const STATES: [State; 3] = [State::Waiting, State::Running, State::Scheduled];

fn of_type(kind: &str) -> Filter {
    Filter {
        job_type: Some(kind.to_owned()),
        ..Filter::default()
    }
}

#[tokio::test]
async fn each_part_of_a_filter_narrows_it_in_every_state() {
    let redis = Redis::start().await;
    fill(&redis).await;
    let mut inspector = inspect(&redis);
    let text = Filter {
        text: Some("café 7".to_owned()),
        ..Filter::default()
    };
    let older = Filter {
        older: Some(Duration::from_secs(60)),
        ..Filter::default()
    };
    for (filter, expected) in [
        (of_type("y"), [6, 4, 10]),
        (text, [0, 1, 1]),
        (older, [0, 0, 10]),
        (Filter::default(), [18, 12, 30]),
    ] {
        for (state, expected) in STATES.into_iter().zip(expected) {
            let extent = inspector.extent(state).await.unwrap();
            let count = inspector
                .count(&extent, &filter, &mut |_| true)
                .await
                .unwrap();
            assert_eq!(count.done, expected, "{state:?} {filter:?}");
        }
    }
}

#[tokio::test]
async fn a_sweep_does_it_to_all_that_match_and_to_no_other() {
    let redis = Redis::start().await;
    fill(&redis).await;
    let mut inspector = inspect(&redis);
    // Those that run are told once, and stay until their workers have ended them.
    for (state, done, again, left) in [
        (State::Waiting, 6, (0, 0), 12),
        (State::Running, 4, (0, 4), 12),
        (State::Scheduled, 10, (0, 0), 20),
    ] {
        let swept = sweep(&mut inspector, Action::Cancel, state, &of_type("y")).await;
        assert_eq!((swept.done, swept.refused), (done, 0), "{state:?}");
        let swept = sweep(&mut inspector, Action::Cancel, state, &of_type("y")).await;
        assert_eq!((swept.done, swept.refused), again, "{state:?}");
        let extent = inspector.extent(state).await.unwrap();
        let all = inspector
            .count(&extent, &Filter::default(), &mut |_| true)
            .await;
        assert_eq!(all.unwrap().done, left, "{state:?}");
    }
    assert_eq!(redis.query::<u64>(&["HLEN", CANCEL]).await, 4);
    let all = Filter::default();
    let run = sweep(&mut inspector, Action::RunNow, State::Scheduled, &all).await;
    assert_eq!((run.done, redis.scheduled().await), (20, 0));
    // An action that is not for this state does nothing.
    let wrong = sweep(&mut inspector, Action::Retry, State::Waiting, &all).await;
    assert_eq!((wrong.done, wrong.refused), (0, 32));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_come_meanwhile_are_left_alone_and_a_sweep_can_be_ended() {
    let redis = Redis::start().await;
    redis.make_group().await;
    for n in 0..1200 {
        redis
            .add_letter(&named(&format!("d{n}")), "poison", "9-1")
            .await;
    }
    let mut inspector = inspect(&redis);
    // Each step brings as many as it takes, for ever.
    let (client, key) = (redis.connect().await.unwrap(), DEAD);
    let mut add = |_: Swept| {
        let mut client = client.clone();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for _ in 0..400 {
                    let mut cmd = redis::cmd("XADD");
                    cmd.arg(key).arg("*").arg("job").arg(named("new"));
                    cmd.query_async::<String>(&mut client).await.unwrap();
                }
            });
        });
        true
    };
    let all = Filter::default();
    let dead = inspector.extent(State::Dead).await.unwrap();
    let deleted = inspector.act_on_all(Action::Delete, &dead, &all, &mut add);
    let deleted = deleted.await.unwrap();
    assert_eq!((deleted.looked, deleted.done), (1200, 1200));
    let left = redis.dead_letters().await;
    assert!(
        left.iter()
            .all(|(_, letter)| letter["job"] == named("new").as_bytes())
    );
    let (before, stop) = (left.len() as u64, &mut |_| false);
    let dead = inspector.extent(State::Dead).await.unwrap();
    let swept = inspector
        .act_on_all(Action::Delete, &dead, &all, stop)
        .await;
    let done = swept.unwrap().done;
    assert!(done > 0 && done < before, "{done} of {before}");
}

#[tokio::test]
async fn large_jobs_are_done_in_small_steps() {
    let redis = Redis::start().await;
    for n in 0..20 {
        let text = "x".repeat(250_000);
        let job = format!(r#"{{"id":"j{n}","type":"x","payload":"{text}"}}"#);
        redis.add_letter(&job, "poison", "9-1").await;
        redis.schedule(1000 + n, &format!("{n}-1:{job}")).await;
    }
    let mut inspector = inspect(&redis);
    let all = Filter::default();
    let retried = sweep(&mut inspector, Action::Retry, State::Dead, &all).await;
    let run = sweep(&mut inspector, Action::RunNow, State::Scheduled, &all).await;
    assert_eq!((retried.done, run.done), (20, 20));
    let backlog = redis.backlog().await;
    assert_eq!(
        (backlog.stream, backlog.scheduled, backlog.dead),
        (40, 0, 0)
    );
    let cancelled = sweep(&mut inspector, Action::Cancel, State::Waiting, &all).await;
    assert_eq!(cancelled.done, 40);
    assert_eq!(redis.query::<u64>(&["EXISTS", SCHEDULED]).await, 0);
    assert_eq!(redis.query::<u64>(&["XLEN", STREAM]).await, 0);
}
