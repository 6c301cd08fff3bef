//! `/ready` under load. Its cost for Redis does not depend on the number of requests, and its
//! answers are never old.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis};

type Start = fn(&Redis) -> ProcessBuilder;
const BOTH: [Start; 2] = [Process::server, Process::jobqueue];

/// The number of scripts that ran in Redis. `/ready` runs the scripts of the schema.
async fn scripts_run(redis: &Redis) -> u64 {
    let stats: String = redis.query(&["INFO", "commandstats"]).await;
    let calls = stats.lines().filter_map(|line| {
        let (name, calls) = line.split_once(":calls=")?;
        let calls = calls.split(',').next()?.parse::<u64>().ok()?;
        ["cmdstat_eval", "cmdstat_evalsha"]
            .contains(&name)
            .then_some(calls)
    });
    calls.sum()
}

/// Asks `/ready` on several connections for `time`, and returns the number of requests.
async fn ask(process: &Process, time: Duration) -> u64 {
    let url = format!("http://{}/ready", process.http_addr().await);
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.get(&url);
        clients.spawn(async move {
            let (start, mut count) = (Instant::now(), 0);
            while start.elapsed() < time {
                let answer = request.try_clone().unwrap().send().await.unwrap();
                assert_eq!(answer.status(), 200);
                answer.bytes().await.unwrap();
                count += 1;
            }
            count
        });
    }
    clients.join_all().await.into_iter().sum()
}

#[tokio::test]
async fn however_many_ask_redis_is_asked_once_a_second() {
    let asked_a_lot = async |start: Start| {
        let redis = Redis::start().await;
        let process = start(&redis).start();
        process.wait_ready(PATIENCE).await;
        let time = Duration::from_secs(3);
        // An idle worker runs scripts too.
        let before = scripts_run(&redis).await;
        tokio::time::sleep(time).await;
        let idle = scripts_run(&redis).await - before;
        let before = scripts_run(&redis).await;
        let asked = ask(&process, time).await;
        let run = scripts_run(&redis).await - before;
        eprintln!("{asked} asked, {run} scripts, {idle} without");
        assert!(asked > 300, "{asked}");
        // Redis is asked at the beginning of each of three seconds and once at the end, and once
        // more on a busy machine. One question runs at most four scripts: two for the schema, one that
        // asks for room, and on a server one that asks whether it may enqueue.
        assert!(run <= idle + 4 * 5, "{asked} asked, {run} scripts");
    };
    tokio::join!(asked_a_lot(Process::server), asked_a_lot(Process::jobqueue));
}

#[tokio::test]
async fn a_trouble_that_is_known_is_told_at_once() {
    for start in BOTH {
        let redis = Redis::start().await;
        let process = start(&redis).start();
        for _ in 0..2 {
            process.wait_ready(PATIENCE).await;
            let mark = process.log_mark();
            redis.kill();
            process
                .wait_for_log_since(mark, "redis is unavailable", PATIENCE)
                .await;
            // The program must not give an answer of a moment ago.
            let (status, reason) = process.get("/ready").await;
            assert_eq!(status, 503, "{reason}");
            redis.up_empty().await;
        }
        process.wait_ready(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_trouble_that_began_after_the_answer_is_found_without_asking_twice() {
    for start in BOTH {
        let redis = Redis::start().await;
        let process = start(&redis).start();
        process.wait_ready(PATIENCE).await;
        redis.cmd(&["ACL", "SETUSER", "default", "-eval"]).await;
        // An answer of a moment ago may still say that all is well.
        process.get("/ready").await;
        process.wait_for_log("NOPERM", Duration::from_secs(3)).await;
        assert_eq!(process.get("/ready").await.0, 503);
    }
}
