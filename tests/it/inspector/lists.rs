//! Lists: each job once, in its order, page by page.

use std::collections::BTreeSet;

use dm_jobqueue::program::inside::{Inspector, JobView, Page, State};

use super::{CANCEL, inspect, named};
use crate::support::{DEAD, Redis, SCHEDULED, STREAM};

/// All pages of a list.
async fn all(inspector: &mut Inspector, state: State, limit: usize) -> Vec<JobView> {
    let (mut jobs, mut after) = (Vec::new(), None::<String>);
    for _ in 0..10_000 {
        let page = inspector.list(state, after.as_deref(), limit).await;
        let Page { jobs: some, next } = page.unwrap();
        assert!(some.len() <= limit, "{} of {limit}", some.len());
        jobs.extend(some);
        match next {
            Some(next) => after = Some(next),
            None => return jobs,
        }
    }
    panic!("the list of {state:?} has no end");
}

fn ids(jobs: &[JobView]) -> Vec<&str> {
    jobs.iter().map(|job| job.job_id.as_str()).collect()
}

#[tokio::test]
async fn every_list_has_each_job_once_in_its_order() {
    let redis = Redis::start().await;
    redis.make_group().await;
    for n in 0..9 {
        redis.add_job(&named(&format!("j{n}"))).await;
    }
    let delivered = redis.deliver("w1", 5).await;
    redis.put_back(&delivered[3]).await;
    redis.put_back(&delivered[1]).await;
    redis.cmd(&["HSET", CANCEL, &delivered[2], "7"]).await;
    // Three are due at the same moment. Their members are in the order of their bytes.
    for (due, member) in [
        (2000, "2-9:".to_owned() + &named("s2-9")),
        (2000, "2-10:".to_owned() + &named("s2-10")),
        (2000, "10-1:".to_owned() + &named("s10-1")),
        (1000, "9-9:".to_owned() + &named("s9-9")),
        (3000, "1-1:".to_owned() + &named("s1-1")),
    ] {
        redis.schedule(due, &member).await;
    }
    for n in 0..5 {
        redis
            .add_letter(&named(&format!("d{n}")), "poison", "1-1")
            .await;
        redis.finish(&format!("f{n}"), 1, [10, 20, 30]).await;
    }
    let mut inspector = inspect(&redis);
    for limit in [1, 2, 3, 100] {
        for (state, expected) in [
            (State::Waiting, &["j1", "j3", "j5", "j6", "j7", "j8"][..]),
            (State::Running, &["j0", "j2", "j4"]),
            (
                State::Scheduled,
                &["s9-9", "s10-1", "s2-10", "s2-9", "s1-1"],
            ),
            (State::Dead, &["d4", "d3", "d2", "d1", "d0"]),
            (State::Done, &["f4", "f3", "f2", "f1", "f0"]),
        ] {
            let jobs = all(&mut inspector, state, limit).await;
            assert_eq!(ids(&jobs), expected, "{state:?} by {limit}");
            assert!(jobs.iter().all(|job| job.state == state));
        }
    }
    let running = all(&mut inspector, State::Running, 10).await;
    let cancelling: Vec<_> = running.iter().map(|job| job.cancelling).collect();
    assert_eq!(cancelling, [false, true, false]);
    assert!(
        running
            .iter()
            .all(|job| job.worker.as_deref() == Some("w1"))
    );
    let dead = all(&mut inspector, State::Dead, 10).await;
    assert_eq!(dead[0].reason.as_deref(), Some("poison"));
    assert_eq!((dead[0].attempt, dead[0].deliveries), (3, Some(1)));
    let scheduled = all(&mut inspector, State::Scheduled, 10).await;
    assert_eq!(scheduled[0].due_ms, Some(1000));
}

#[tokio::test]
async fn a_page_goes_on_behind_a_member_that_is_gone_whatever_it_is() {
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    let mut members: BTreeSet<String> = (0..30).map(|n| format!("{n}-5:{}", named("x"))).collect();
    // Somebody else may have added anything.
    members.extend(
        [
            "",
            "a",
            ":",
            "5",
            "5-",
            "5-1",
            "-",
            "{\"type\":\"x\"}",
            "日本",
        ]
        .map(String::from),
    );
    for member in &members {
        redis.schedule(1000, member).await;
    }
    let page = inspector.list(State::Scheduled, None, 500).await.unwrap();
    assert_eq!(page.jobs.len(), members.len());
    // In the order of their bytes, whatever the language of the server is.
    for (at, _) in members.iter().enumerate() {
        let begin = inspector
            .list(State::Scheduled, None, at + 1)
            .await
            .unwrap();
        let Some(next) = begin.next else {
            assert_eq!(at + 1, members.len());
            continue;
        };
        let last = members.iter().nth(at).unwrap();
        redis.cmd(&["ZREM", SCHEDULED, last]).await;
        let rest = inspector
            .list(State::Scheduled, Some(&next), 500)
            .await
            .unwrap();
        assert_eq!(rest.jobs.len(), members.len() - at - 1, "behind {next}");
        redis.schedule(1000, last).await;
    }
}

#[tokio::test]
async fn a_page_of_large_jobs_ends_early_and_leaves_none_out() {
    let redis = Redis::start().await;
    redis.make_group().await;
    let large = |n: usize| {
        let text = "x".repeat(if n % 5 == 4 { 10 } else { 250_000 });
        format!(r#"{{"id":"j{n}","type":"x","payload":"{text}"}}"#)
    };
    for n in 0..40 {
        redis.add_job(&large(n)).await;
        redis
            .schedule(1000 + n as u64, &format!("{}-0:{}", n + 1, large(n)))
            .await;
        redis.add_letter(&large(n), "poison", "1-1").await;
    }
    let mut inspector = inspect(&redis);
    for state in [State::Waiting, State::Scheduled, State::Dead] {
        let page = inspector.list(state, None, 100).await.unwrap();
        assert!(
            (1..20).contains(&page.jobs.len()),
            "{state:?}: {}",
            page.jobs.len()
        );
        assert_eq!(all(&mut inspector, state, 100).await.len(), 40, "{state:?}");
    }
    redis.deliver("w1", 40).await;
    assert_eq!(all(&mut inspector, State::Running, 100).await.len(), 40);
    for entry in redis.pending_entries().await {
        redis.put_back(&entry.id).await;
    }
    assert_eq!(all(&mut inspector, State::Waiting, 100).await.len(), 40);
}

#[tokio::test]
async fn what_is_no_job_is_shown_too() {
    let redis = Redis::start().await;
    let huge = vec![b'x'; 1_000_000];
    let foreign = redis
        .add_entry(&[(b"task", b"\xff{}"), (b"more", &huge)])
        .await;
    let broken = redis.add_job("{\"type\":").await;
    let too_large = format!(r#"{{"type":"x","payload":"{}"}}"#, "y".repeat(400_000));
    redis.add_job(&too_large).await;
    redis.schedule(5, "no entry id").await;
    let letter = [
        "XADD",
        DEAD,
        "*",
        "entry.task",
        "{}",
        "reason",
        "malformed",
        "died_from",
        "3-1",
    ];
    redis.cmd(&letter).await;
    let mut inspector = inspect(&redis);
    let waiting = all(&mut inspector, State::Waiting, 10).await;
    assert_eq!(waiting[0].job_id, foreign);
    assert_eq!(waiting[0].fields["task"], "\u{fffd}{}");
    assert!(waiting[0].fields["more"].len() < 2000);
    assert_eq!(
        (
            waiting[1].job_id.as_str(),
            waiting[1].fields["job"].as_str()
        ),
        (&*broken, "{\"type\":")
    );
    assert!(waiting[2].job_type.is_none() && !waiting[2].fields.is_empty());
    let scheduled = all(&mut inspector, State::Scheduled, 10).await;
    assert_eq!(scheduled[0].fields["job"], "no entry id");
    let dead = all(&mut inspector, State::Dead, 10).await;
    assert_eq!(
        (
            dead[0].job_id.as_str(),
            dead[0].fields["entry.task"].as_str()
        ),
        ("3-1", "{}")
    );
    // An operator has deleted an entry that runs.
    redis.make_group().await;
    let delivered = redis.deliver("w1", 2).await;
    redis.cmd(&["XDEL", STREAM, &delivered[0]]).await;
    assert_eq!(
        ids(&all(&mut inspector, State::Running, 10).await),
        [&*broken]
    );
}

#[tokio::test]
async fn a_wrong_beginning_is_refused() {
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    for (state, after) in [
        (State::Waiting, "x"),
        (State::Dead, "5"),
        (State::Scheduled, "5-1"),
        (State::Scheduled, "x:5-1"),
    ] {
        let error = inspector.list(state, Some(after), 5).await.unwrap_err();
        assert!(error.to_string().contains(after), "{error}");
    }
}
