//! A Redis that is away, or that refuses something, is named within the time that connecting may take.

use std::time::{Duration, Instant};

use super::{finished, job, jobctl, schedule};
use crate::support::{PATIENCE, Process, ProcessBuilder, Redis};

const USER: (&str, &str) = ("APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME", "operator");
const PASSWORD: (&str, &str) = ("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD", "secret");

/// Every command that asks Redis.
const COMMANDS: [&[&str]; 13] = [
    &["stats"],
    &["workers"],
    &["health"],
    &["list", "waiting"],
    &["list", "running"],
    &["list", "scheduled"],
    &["list", "dead"],
    &["list", "done"],
    &["show", "a"],
    &["run", "a"],
    &["cancel", "a"],
    &["dead", "retry", "--all"],
    &["pause"],
];

#[tokio::test]
async fn a_redis_that_is_away_is_named_within_the_dial_timeout() {
    let away = Redis::reserve();
    let frozen = Redis::start().await;
    frozen.freeze();
    for redis in [&away, &frozen] {
        for arguments in COMMANDS {
            let started = Instant::now();
            let said = jobctl(redis, arguments).await.ends(69);
            let took = started.elapsed();
            assert!(took < Duration::from_secs(3), "{arguments:?} took {took:?}");
            assert!(said.err.contains(&redis.addr()), "{said:?}");
            assert!(
                said.out.is_empty() && said.err.lines().count() == 1,
                "{said:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_user_who_may_not_enter_is_told_where() {
    let redis = Redis::builder().password("secret").start().await;
    let stranger = ProcessBuilder::program(env!("CARGO_BIN_EXE_jobctl")).redis_addr(redis.addr());
    let said = finished(stranger.args(&["stats"])).await.ends(69);
    assert!(
        said.err.contains("NOAUTH") && said.err.contains(&redis.addr()),
        "{said:?}"
    );
    let stranger = ProcessBuilder::program(env!("CARGO_BIN_EXE_jobctl")).redis_addr(redis.addr());
    let said = finished(stranger.envs(&[(PASSWORD.0, "wrong")]).args(&["stats"]))
        .await
        .ends(69);
    assert!(
        said.err.contains("WRONGPASS") && said.err.contains(&redis.addr()),
        "{said:?}"
    );
    jobctl(&redis, &["stats"]).await.ends(0);
}

#[tokio::test]
async fn a_user_who_may_only_read_can_look_and_is_told_what_is_missing() {
    let redis = Redis::start().await;
    let user = "ACL SETUSER operator on >secret %R~jobqueue:* +@read +@scripting +hello +time +info +client";
    redis.cmd(&user.split(' ').collect::<Vec<_>>()).await;
    redis.add_job(&job("sleep", "a-waiting", 0)).await;
    schedule(&redis, "a-scheduled", 3600).await;
    let as_reader = |arguments: &[&str]| {
        finished(
            Process::jobctl(&redis)
                .envs(&[USER, PASSWORD])
                .args(arguments),
        )
    };
    for arguments in [
        &["stats"][..],
        &["workers"],
        &["list", "waiting"],
        &["list", "running"],
        &["list", "scheduled"],
        &["list", "dead"],
        &["list", "done"],
        &["show", "a-waiting"],
        &["show", "a-scheduled"],
    ] {
        as_reader(arguments).await.ends(0);
    }
    for arguments in [
        &["pause"][..],
        &["run", "a-scheduled"],
        &["cancel", "a-waiting"],
    ] {
        let said = as_reader(arguments).await.ends(69);
        assert!(
            said.err.contains("NOPERM") && said.err.contains(&redis.addr()),
            "{said:?}"
        );
    }
    let now = redis.backlog().await;
    assert_eq!((now.stream, now.scheduled), (1, 1), "nothing was changed");
}

#[tokio::test]
async fn a_watch_goes_on_when_redis_is_back() {
    let redis = Redis::durable().await;
    let watch = Process::jobctl(&redis)
        .args(&["stats", "--watch", "1", "--json"])
        .start();
    watch.wait_for_lines(1, PATIENCE).await;
    redis.kill();
    watch.wait_for_log(&redis.addr(), PATIENCE).await;
    let before = watch.stdout().len();
    redis.up().await;
    watch.wait_for_lines(before + 2, PATIENCE).await;
    watch.int();
    assert_eq!(watch.wait_exit(PATIENCE).await.code(), Some(130));
}
