//! The queue as a whole: its figures, its workers, and pausing it.

use std::time::Duration;

use dm_jobqueue::RedisConfig;
use dm_jobqueue::program::inside::{self, State};
use serde_json::{Value, json};

use super::{DONE, TOTALS, WORKERS, find, inspect, named};
use crate::support::{
    DEAD, GROUP, LEASES, PATIENCE, Process, Redis, SCHEDULED, STATE, STREAM, eventually,
};

/// Anybody may write to Redis. Figures that make no sense hide no job.
#[tokio::test]
async fn figures_of_somebody_else_break_nothing() {
    let redis = Redis::start().await;
    let most = u64::MAX.to_string();
    let worker = format!(r#"{{"concurrency":{most},"running":{most},"seen_ms":{most}}}"#);
    for name in ["a", "b"] {
        redis.cmd(&["HSET", WORKERS, name, &worker]).await;
        let fields = [
            "due_ms",
            "1",
            "started_ms",
            "5",
            "finished_ms",
            "9",
            "count",
            &most,
        ];
        redis
            .cmd(&[&["XADD", DONE, "*", "job_id", name], &fields[..]].concat())
            .await;
    }
    let mut inspector = inspect(&redis);
    let stats = inspector.stats().await.unwrap();
    assert_eq!((stats.workers, stats.slots), (2, u64::MAX));
    for key in [WORKERS, DONE, TOTALS] {
        redis.cmd(&["SET", key, "a text"]).await;
    }
    redis.add_job(&named("waiting")).await;
    let stats = inspector.stats().await.unwrap();
    assert_eq!(
        (stats.waiting, stats.workers, stats.last_minute.completed),
        (1, 0, 0)
    );
    assert!(find(&mut inspector, "waiting").await.is_some());
}

#[tokio::test]
async fn a_queue_that_nobody_has_used_has_nothing_of_everything() {
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    let stats = inspector.stats().await.unwrap();
    let shown = serde_json::to_value(&stats).unwrap();
    for name in ["waiting", "running", "scheduled", "due", "dead", "workers"] {
        assert_eq!(shown[name], 0, "{name}");
    }
    assert_eq!(shown["queue"], "default");
    assert_eq!(shown["oldest_waiting_ms"], Value::Null);
    assert_eq!(shown["next_due_ms"], Value::Null);
    assert_eq!(shown["paused"], false);
    assert!(inspector.workers(5).await.unwrap().is_empty());
    for state in STATES {
        let page = inspector.list(state, None, 10).await.unwrap();
        assert!(page.jobs.is_empty() && page.next.is_none(), "{state:?}");
    }
    assert!(super::find(&mut inspector, "5-1").await.is_none());
    assert_eq!(
        redis.query::<u64>(&["DBSIZE"]).await,
        0,
        "it creates nothing"
    );
}

const STATES: [State; 5] = [
    State::Waiting,
    State::Running,
    State::Scheduled,
    State::Dead,
    State::Done,
];

#[tokio::test]
async fn each_figure_counts_what_it_says() {
    let redis = Redis::start().await;
    redis.make_group().await;
    for n in 0..6 {
        redis.add_job(&named(&n.to_string())).await;
    }
    let delivered = redis.deliver("w1", 4).await;
    redis.put_back(&delivered[1]).await;
    let now = redis.now_ms().await;
    redis.schedule(now - 5, "1-1:{}").await;
    redis.schedule(now + 60_000, "1-2:{}").await;
    redis.add_letter("{}", "poison", "1-1").await;
    let day = now / 86_400_000;
    for (kind, day, count) in [
        ("completed", day, "7"),
        ("dead.poison", day, "2"),
        ("completed", day - 1, "100"),
        ("failed", day + 1, "100"),
    ] {
        redis
            .cmd(&["HSET", TOTALS, &format!("{kind}:{day}"), count])
            .await;
    }
    redis.finish("a", 9, [now - 30, now - 20, now - 10]).await;
    redis
        .finish("b", 1, [now - 900, now - 500, now - 100])
        .await;
    let old = (now - 61_000).to_string() + "-0";
    redis.cmd(&["DEL", DONE]).await;
    redis
        .cmd(&["XADD", DONE, &old, "job_id", "old", "count", "5"])
        .await;
    redis.finish("a", 9, [now - 30, now - 20, now - 10]).await;
    redis
        .finish("b", 1, [now - 900, now - 500, now - 100])
        .await;
    // A minute of the clock that ends meanwhile would count in part.
    while redis.now_ms().await % 60_000 > 55_000 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let minute = format!("completed@{}", redis.now_ms().await / 60_000);
    redis.cmd(&["HSET", TOTALS, &minute, "10"]).await;

    let mut inspector = inspect(&redis);
    let stats = inspector.stats().await.unwrap();
    assert_eq!((stats.waiting, stats.running), (3, 3));
    assert_eq!((stats.scheduled, stats.due, stats.dead), (2, 1, 1));
    assert_eq!(stats.next_due_ms, Some(0));
    let oldest: u64 = delivered[1].split('-').next().unwrap().parse().unwrap();
    let age = redis.now_ms().await - oldest;
    let shown = stats.oldest_waiting_ms.unwrap();
    assert!(shown <= age && age < shown + 1000, "{shown} of {age}");
    assert_eq!((stats.today.completed, stats.today.failed), (7, 0));
    assert_eq!(stats.today.dead["poison"], 2);
    assert_eq!(stats.last_minute.completed, 10);
    let (waits, runs) = (
        stats.last_minute.wait_ms.unwrap(),
        stats.last_minute.run_ms.unwrap(),
    );
    assert_eq!((waits.p50, waits.p95, waits.max), (10, 400, 400));
    assert_eq!((runs.p50, runs.max), (10, 400));

    // Without the group everything waits.
    redis.cmd(&["XGROUP", "DESTROY", STREAM, GROUP]).await;
    let stats = inspector.stats().await.unwrap();
    assert_eq!((stats.waiting, stats.running), (6, 0));
    // The lag is not known to Redis when an entry was deleted before it was read.
    redis.make_group().await;
    redis.cmd(&["XDEL", STREAM, &delivered[2]]).await;
    let stats = inspector.stats().await.unwrap();
    assert_eq!((stats.waiting, stats.running), (5, 0));
}

#[tokio::test]
async fn pausing_says_whether_it_changed_anything() {
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    let (mut changes, words) = (Vec::new(), ["1", "since noon", "Off", ""]);
    for paused in [true, true, false, false] {
        changes.push(inspector.set_paused(paused).await.unwrap());
        assert_eq!(inspector.stats().await.unwrap().paused, paused);
    }
    assert_eq!(changes, [true, false, true, false]);
    for (word, paused) in words.into_iter().zip([true, true, false, false]) {
        redis.cmd(&["HSET", STATE, "paused", word]).await;
        assert_eq!(inspector.stats().await.unwrap().paused, paused, "{word:?}");
        assert_eq!(
            inspector.set_paused(true).await.unwrap(),
            !paused,
            "{word:?}"
        );
    }
    // Of many who pause it at once, one has changed something.
    redis.cmd(&["DEL", STATE]).await;
    let pausing = (0..10).map(|_| {
        let mut inspector = inspect(&redis);
        tokio::spawn(async move { inspector.set_paused(true).await.unwrap() })
    });
    let mut changed = 0;
    for one in pausing.collect::<Vec<_>>() {
        changed += u32::from(one.await.unwrap());
    }
    assert_eq!(changed, 1);
}

#[tokio::test]
async fn a_real_worker_is_seen_with_what_it_runs() {
    let redis = Redis::start().await;
    let worker = Process::test_worker(&redis).start();
    redis.add_test_job("sleep", 1, 60_000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    let mut inspector = inspect(&redis);
    let workers = inspector.workers(3).await.unwrap();
    assert_eq!(workers.len(), 1, "{workers:?}");
    assert!(workers[0].alive && workers[0].pending == 1);
    let job = &workers[0].jobs[0];
    assert_eq!(
        (job.state, job.worker.as_deref()),
        (State::Running, Some(&*workers[0].name))
    );
    assert_eq!(job.payload.as_ref().unwrap().get(), r#"{"n":1,"ms":60000}"#);
    let stats = inspector.stats().await.unwrap();
    assert_eq!((stats.workers, stats.running, stats.waiting), (1, 1, 0));
    assert!(inspector.workers(0).await.unwrap()[0].jobs.is_empty());
}

#[tokio::test]
async fn what_workers_tell_of_themselves_is_shown() {
    let redis = Redis::start().await;
    redis.make_group().await;
    redis.deliver("old", 1).await;
    redis
        .cmd(&["XGROUP", "CREATECONSUMER", STREAM, GROUP, "incarnation:x"])
        .await;
    let now = redis.now_ms().await;
    let told = |seen: u64| {
        json!({"host": "h", "pid": 7, "version": "0.2.0", "concurrency": 4, "running": 3, "held": 5,
            "started_ms": 1, "seen_ms": seen})
        .to_string()
    };
    redis
        .cmd(&["HSET", WORKERS, "w1", &told(now), "w2", &told(now - 60_000)])
        .await;
    redis
        .cmd(&["ZADD", LEASES, "15000", "w1", "2000", "w2"])
        .await;
    let mut inspector = inspect(&redis);
    let workers = serde_json::to_value(inspector.workers(3).await.unwrap()).unwrap();
    let lives: Vec<_> = workers
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["name"], &one["alive"]))
        .collect();
    // Redis 7.0 knows a consumer only once it has got an entry.
    let own: Vec<_> = lives.iter().filter(|one| *one.0 != "old").collect();
    assert_eq!(
        own,
        [
            &(&json!("w1"), &json!(true)),
            &(&json!("w2"), &json!(false))
        ]
    );
    let w1 = workers
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "w1")
        .unwrap();
    assert_eq!((&w1["held"], &w1["version"]), (&json!(5), &json!("0.2.0")));
    let stats = inspector.stats().await.unwrap();
    assert_eq!((stats.slots, stats.slots_busy), (4, 3));
}

#[tokio::test]
async fn a_key_of_another_type_is_named() {
    let redis = Redis::start().await;
    let mut inspector = inspect(&redis);
    for key in [STREAM, SCHEDULED, DEAD, STATE] {
        redis.cmd(&["SET", key, "a text"]).await;
        let error = inspector.stats().await.unwrap_err().to_string();
        assert!(
            error.contains(key) && error.contains("is a string"),
            "{error}"
        );
        redis.cmd(&["DEL", key]).await;
        inspector.stats().await.unwrap();
    }
}

/// The password and the permissions of a user who only looks.
#[tokio::test]
async fn a_user_who_may_only_read_looks_and_changes_nothing() {
    let redis = Redis::start().await;
    redis.make_group().await;
    redis.add_job(&named("a")).await;
    redis
        .cmd(&[
            "ACL",
            "SETUSER",
            "reader",
            "on",
            "nopass",
            "%R~jobqueue:*",
            "resetchannels",
            "+@read",
            "+time",
            "+eval_ro",
            "+evalsha_ro",
        ])
        .await;
    let config = RedisConfig {
        addr: redis.addr(),
        username: Some("reader".to_owned()),
        ..RedisConfig::default()
    };
    let mut inspector = inside::inspector(&config, "default").unwrap();
    let stats = tokio::time::timeout(PATIENCE, inspector.stats()).await;
    assert_eq!(stats.unwrap().unwrap().waiting, 1);
    assert!(super::find(&mut inspector, "a").await.is_some());
    let page = inspector.list(State::Waiting, None, 5).await.unwrap();
    assert_eq!(page.jobs.len(), 1);
    let error = inspector.set_paused(true).await.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    let looking = &mut |_| true;
    let cancel = inspector.act(inside::Action::Cancel, "a", looking).await;
    let error = cancel.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    assert_eq!(redis.xlen().await, 1);
}

#[tokio::test]
async fn a_redis_that_comes_later_is_waited_for() {
    let redis = Redis::reserve();
    let mut inspector = inspect(&redis);
    let short = tokio::time::timeout(Duration::from_millis(300), inspector.stats());
    assert!(short.await.is_err());
    redis.up().await;
    eventually("it answers", PATIENCE, async || {
        inspector.stats().await.ok()
    })
    .await;
}
