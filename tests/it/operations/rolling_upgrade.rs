//! Workers of the version before and of this one on one queue: while they are replaced, and when they are
//! put back again. `WORKER_BEFORE` names the program of the version before, which `scripts/test` builds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::sleep;

use crate::support::{
    CANCEL, LEASE, PATIENCE, Process, ProcessBuilder, Redis, WORKERS, eventually, letter_of, text,
};

const NEEDS: &str = "WORKER_BEFORE names no program: ./scripts/test builds and names it";

fn before(redis: &Redis) -> ProcessBuilder {
    let program = std::env::var_os("WORKER_BEFORE").expect(NEEDS);
    ProcessBuilder::program(program).redis(redis).envs(&[LEASE])
}

fn now(redis: &Redis) -> ProcessBuilder {
    Process::jobqueue(redis).envs(&[LEASE])
}

async fn stopped(worker: Process) -> Process {
    worker.term();
    assert!(worker.wait_exit(PATIENCE).await.success());
    worker
}

/// A job that prints this, with these further members.
fn job(message: &str, members: &str) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"{message}"}}{members}}}"#)
}

/// How often each message was printed, by all of these workers together.
fn printed(workers: &[&Process]) -> BTreeMap<String, usize> {
    let mut printed = BTreeMap::new();
    let lines = workers.iter().flat_map(|worker| worker.stdout());
    for line in lines {
        // A time in brackets stands before the message.
        let message = line.text.split_once("] ").expect(&line.text).1.to_owned();
        *printed.entry(message).or_default() += 1;
    }
    printed
}

fn once(count: usize) -> BTreeMap<String, usize> {
    (0..count).map(|n| (format!("job {n}"), 1)).collect()
}

#[tokio::test]
#[ignore = "needs a worker of the version before: ./scripts/test"]
async fn jobs_run_once_while_workers_are_replaced_and_put_back() {
    const JOBS: usize = 4000;
    let redis = Redis::start().await;
    let old = [before(&redis).start(), before(&redis).start()];
    let adding = async {
        for n in 0..JOBS {
            let members = match n % 4 {
                0 => "",
                1 => r#","delay_ms":700"#,
                2 => r#","delay_ms":2500,"expires_in_ms":600000"#,
                _ => r#","expires_in_ms":600000"#,
            };
            redis.add_job(&job(&format!("job {n}"), members)).await;
            sleep(Duration::from_millis(1)).await;
        }
    };
    let replacing = async {
        let (mut living, mut gone) = (VecDeque::from(old), Vec::new());
        let pause = Duration::from_millis(700);
        // Upgraded one by one, and then the way back.
        for start in [now, now, before, before, now, before] {
            sleep(pause).await;
            living.push_back(start(&redis).start());
            sleep(pause).await;
            let oldest = living.pop_front().expect("there are always two or three");
            gone.push(stopped(oldest).await);
        }
        gone.extend(living);
        gone
    };
    let ((), workers) = tokio::join!(adding, replacing);
    redis.drained(PATIENCE * 2).await;
    let workers: Vec<&Process> = workers.iter().collect();
    assert_eq!(printed(&workers), once(JOBS));
    assert_eq!(redis.dead_letters().await, []);
}

#[tokio::test]
#[ignore = "needs a worker of the version before: ./scripts/test"]
async fn what_one_version_has_parked_the_other_runs() {
    let redis = Redis::start().await;
    for (index, (parks, runs)) in [
        (now as fn(&Redis) -> _, before as fn(&Redis) -> _),
        (before, now),
    ]
    .into_iter()
    .enumerate()
    {
        let first = parks(&redis).start();
        let delayed = job(
            &format!("job {index}"),
            r#","delay_ms":2000,"expires_in_ms":600000"#,
        );
        redis.add_job(&delayed).await;
        eventually("it is parked", PATIENCE, async || {
            (redis.scheduled().await == 1).then_some(())
        })
        .await;
        let first = stopped(first).await;
        let second = runs(&redis).start();
        redis.drained(PATIENCE).await;
        let second = stopped(second).await;
        assert_eq!(first.stdout().len(), 0, "it was not due");
        let expected = BTreeMap::from([(format!("job {index}"), 1)]);
        assert_eq!(printed(&[&second]), expected);
    }
}

/// Each version removes what the other leaves behind when it dies, and knows nothing of a cancel that it does
/// not look for.
#[tokio::test]
#[ignore = "needs a worker of the version before: ./scripts/test"]
async fn a_worker_that_died_is_removed_by_one_of_the_other_version() {
    let redis = Redis::start().await;
    for (dies, stays) in [
        (now as fn(&Redis) -> _, before as fn(&Redis) -> _),
        (before, now),
    ] {
        let dead = dies(&redis).start();
        dead.wait_ready(PATIENCE).await;
        eventually("it is a consumer", PATIENCE, async || {
            (redis.consumers().await.len() == 1).then_some(())
        })
        .await;
        dead.kill();
        let alive = stays(&redis).start();
        eventually("only the other one is left", PATIENCE * 2, async || {
            let names = redis.consumers().await;
            let pid = format!("-{}-", dead.pid());
            (names.len() == 1 && !names[0].name.contains(&pid)).then_some(())
        })
        .await;
        stopped(alive).await;
    }
    // What a worker of this version has told stays until one of this version looks.
    let last = now(&redis).start();
    eventually("only the last one is told of", PATIENCE * 2, async || {
        let told: BTreeMap<String, String> = redis.query(&["HGETALL", WORKERS]).await;
        let pid = format!("-{}-", last.pid());
        (told.len() == 1 && told.keys().all(|name| name.contains(&pid))).then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a worker of the version before: ./scripts/test"]
async fn a_job_that_the_old_worker_had_is_cancelled_when_a_new_one_takes_it_over() {
    let redis = Redis::start().await;
    let old = before(&redis).start();
    old.wait_ready(PATIENCE).await;
    redis.wait_for_reader().await;
    old.stop();
    let id = redis.add_job(&job("never", "")).await;
    eventually("it was delivered", PATIENCE, async || {
        (redis.pending().await == 1).then_some(())
    })
    .await;
    redis.cmd(&["HSET", CANCEL, &id, "1"]).await;
    old.kill();
    let new = now(&redis).start();
    let letter = letter_of(&redis, &id).await;
    assert_eq!(text(&letter, "reason"), "cancelled");
    assert_eq!(new.stdout().len(), 0);
}
