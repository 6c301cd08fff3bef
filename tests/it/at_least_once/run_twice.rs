//! How many jobs of a worker that is killed run twice: at most `concurrency + ahead`. These are the
//! jobs whose line was printed, and which Redis still has.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::{PATIENCE, Process, Redis, SlowLine, within};

const CONCURRENCY: usize = 10;
/// So many lines are printed at least before a worker is killed, if it is allowed to.
const PRINTED: usize = 200;
/// The settings of each kill in turn.
const AHEADS: [usize; 4] = [0, 1, 16, 512];

/// What is wrong with the acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Acknowledging {
    Normal,
    /// Each takes 20 ms more.
    Slow,
    Refused,
}

#[tokio::test]
async fn a_killed_worker_leaves_no_more_jobs_to_run_twice_than_the_settings_say() {
    kill(Acknowledging::Normal, 8).await;
    kill(Acknowledging::Slow, 8).await;
    kill(Acknowledging::Refused, 4).await;
}

#[tokio::test]
#[ignore = "long: kills two hundred workers"]
async fn two_hundred_killed_workers_leave_no_more_jobs_to_run_twice_than_the_settings_say() {
    kill(Acknowledging::Normal, 80).await;
    kill(Acknowledging::Slow, 80).await;
    kill(Acknowledging::Refused, 40).await;
}

async fn kill(acknowledging: Acknowledging, times: usize) {
    for n in 0..times {
        let ahead = AHEADS[n % AHEADS.len()];
        let twice = run_twice_after_kill(acknowledging, ahead).await;
        eprintln!("{acknowledging:?}, ahead {ahead}: {twice} run twice");
        let bound = CONCURRENCY + ahead;
        assert!(twice <= bound, "{acknowledging:?}, ahead {ahead}: {twice}");
        // Otherwise this would also pass with a limit that is too low.
        if acknowledging == Acknowledging::Refused {
            assert_eq!(twice, bound, "ahead {ahead}");
        }
    }
}

async fn run_twice_after_kill(acknowledging: Acknowledging, ahead: usize) -> usize {
    let redis = Redis::start().await;
    let jobs = (0..20_000)
        .map(|n| format!(r#"{{"type":"demo:delay_print","payload":{{"message":"job {n}"}}}}"#));
    redis.add_jobs(jobs).await;
    let line = SlowLine::to(redis.addr()).await;
    match acknowledging {
        Acknowledging::Normal => {}
        Acknowledging::Slow => line.set_delay(Duration::from_millis(10)),
        Acknowledging::Refused => {
            redis.cmd(&["ACL", "SETUSER", "default", "-xack"]).await;
        }
    }
    let worker = Process::jobqueue(&redis)
        .redis_addr(line.addr())
        .env("APP__JOBQUEUE__CONCURRENCY", &CONCURRENCY.to_string())
        .env("APP__JOBQUEUE__AHEAD", &ahead.to_string())
        .start();
    let bound = CONCURRENCY + ahead;
    if acknowledging == Acknowledging::Refused {
        worker.wait_for_lines(bound, PATIENCE).await;
        // None of the others begins.
        let more = within(Duration::from_millis(300), async || {
            (worker.stdout().len() > bound).then_some(worker.stdout().len())
        });
        assert_eq!(more.await, None, "printed, with at most {bound} expected");
    } else {
        worker.wait_for_lines(PRINTED, PATIENCE).await;
        let random = Duration::from_micros(fastrand::u64(..50_000));
        tokio::time::sleep(random).await;
    }
    worker.kill();
    worker.wait_exit(PATIENCE).await;
    // What the worker sent before its death would still arrive.
    redis
        .cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await;
    let left: HashSet<String> = redis
        .entries()
        .await
        .into_iter()
        .map(|(_, fields)| {
            let job: serde_json::Value = serde_json::from_slice(&fields["job"]).unwrap();
            job["payload"]["message"].as_str().unwrap().to_owned()
        })
        .collect();
    let printed = worker.stdout();
    let message = |line: &str| line.split_once("] ").unwrap().1.to_owned();
    let twice = printed
        .iter()
        .filter(|line| left.contains(&message(&line.text)));
    twice.count()
}
