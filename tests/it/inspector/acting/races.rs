//! Each action races what workers, promoters and other operators do at the same time. A ledger says who won: one
//! of them, and the job is where that one has put it, in one place.

mod twins;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dm_jobqueue::program::inside::{Acted, Action, Inspector};
use redis::aio::MultiplexedConnection;

use crate::inspector::{CANCEL, act, inspect, named};
use crate::support::{GROUP, LEASE, PATIENCE, Process, Redis, STREAM, eventually};

const ROUNDS: usize = 300;

/// What became of an action on one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Won {
    Done,
    Asked,
    Late,
}

async fn outcome(inspector: &mut Inspector, action: Action, id: &str) -> Won {
    match act(inspector, action, id).await {
        Acted::Done(_) => Won::Done,
        Acted::Asked(_) => Won::Asked,
        Acted::Refused { why, .. } => {
            assert!(!why.is_empty());
            Won::Late
        }
        Acted::Missing { .. } => Won::Late,
    }
}

/// A task that does `action` to each of `jobs`, as fast as it can.
fn operator(redis: &Redis, action: Action, jobs: &[String]) -> tokio::task::JoinHandle<Vec<Won>> {
    let (mut inspector, jobs) = (inspect(redis), jobs.to_vec());
    tokio::spawn(async move {
        let mut ledger = Vec::new();
        for job in jobs {
            ledger.push(outcome(&mut inspector, action, &job).await);
        }
        ledger
    })
}

/// Reads entries one by one until `stop`, and returns the jobs that it got. It acknowledges none.
fn reader(
    mut client: MultiplexedConnection,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Vec<String>> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        type Streams = Vec<(String, Vec<(String, Vec<String>)>)>;
        let mut got = Vec::new();
        loop {
            let was_over = stop.load(Ordering::SeqCst);
            let mut cmd = redis::cmd("XREADGROUP");
            cmd.arg("GROUP").arg(GROUP).arg("w1").arg("COUNT").arg(1);
            cmd.arg("STREAMS").arg(STREAM).arg(">");
            let streams: Option<Streams> = cmd.query_async(&mut client).await.unwrap();
            let entries = streams.into_iter().flatten().flat_map(|stream| stream.1);
            let jobs: Vec<_> = entries
                .map(|(_, mut fields)| fields.swap_remove(1))
                .collect();
            match jobs.is_empty() {
                true if was_over => return got,
                true => tokio::task::yield_now().await,
                false => got.extend(jobs),
            }
        }
    })
}

/// The ledger in the order of `ids`, when it was written in the order of `done`.
fn of_each(ids: &[String], done: &[String], ledger: &[Won]) -> Vec<Won> {
    let place = |id| done.iter().position(|one| one == id).unwrap();
    ids.iter().map(|id| ledger[place(id)]).collect()
}

/// A job of the test worker that prints its number.
fn sleeper(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","type":"test:sleep","payload":{{"n":{}}}}}"#,
        &id[1..]
    )
}

fn ids() -> Vec<String> {
    (0..ROUNDS).map(|n| format!("j{n}")).collect()
}

/// Waits until so many jobs in the stream are deleted.
async fn has_cancelled(redis: &Redis, jobs: usize) {
    eventually("some are cancelled", PATIENCE, async || {
        let left = redis.xlen().await;
        (left <= (ROUNDS - jobs) as u64).then_some(())
    })
    .await;
}

/// Asserts that both sides have won some rounds. Otherwise nothing raced.
fn assert_raced(wins: usize, of: usize) {
    eprintln!("{wins} of {of}");
    assert!(wins > 0 && wins < of, "{wins} of {of}: there was no race");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_races_the_delivery_of_the_job() {
    let redis = Redis::start().await;
    redis.make_group().await;
    let ids = ids();
    for id in &ids {
        redis.add_job(&named(id)).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    // The operators begin at the other end, and meet the reader.
    let backwards: Vec<_> = ids.iter().rev().cloned().collect();
    let cancels = operator(&redis, Action::Cancel, &backwards);
    has_cancelled(&redis, 100).await;
    let reads = reader(redis.connect().await.unwrap(), &stop);
    let mut ledger = cancels.await.unwrap();
    stop.store(true, Ordering::SeqCst);
    let delivered = reads.await.unwrap();
    ledger.reverse();
    for (id, won) in ids.iter().zip(&ledger) {
        let was_delivered = delivered.contains(&named(id));
        assert_eq!(was_delivered, *won == Won::Asked, "{id}: {won:?}");
        assert_ne!(*won, Won::Late, "{id}");
    }
    let asked = ledger.iter().filter(|won| **won == Won::Asked).count();
    assert_raced(asked, ROUNDS);
    let backlog = redis.backlog().await;
    assert_eq!(
        (backlog.stream, backlog.pending),
        (asked as u64, asked as u64)
    );
    assert_eq!(redis.query::<usize>(&["HLEN", CANCEL]).await, asked);
    for entry in redis.pending_entries().await {
        redis.cmd(&["XACK", STREAM, GROUP, &entry.id]).await;
        redis.cmd(&["XDEL", STREAM, &entry.id]).await;
    }
    assert_eq!(redis.backlog().await.lag, Some(0));
}

/// Run now and cancel at the same time, while a worker promotes what is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_now_races_a_cancel_and_the_promotion() {
    let redis = Redis::start().await;
    redis.make_group().await;
    let ids = ids();
    let worker = Process::test_worker(&redis).start();
    redis.wait_for_reader().await;
    // From its first look on, the worker's promoter comes whenever one of them is due.
    let now = redis.now_ms().await;
    for (n, id) in ids.iter().enumerate() {
        let job = sleeper(id);
        let due = now + n as u64 * 8;
        redis.schedule(due, &format!("{}-1:{job}", n + 1)).await;
    }
    eventually("it promotes", PATIENCE, async || {
        let scheduled = redis.scheduled().await;
        (scheduled < ROUNDS as u64).then_some(())
    })
    .await;
    let (mut some, mut others) = (ids.clone(), ids.clone());
    fastrand::shuffle(&mut some);
    fastrand::shuffle(&mut others);
    let run = operator(&redis, Action::RunNow, &some);
    let cancel = operator(&redis, Action::Cancel, &others);
    let run = of_each(&ids, &some, &run.await.unwrap());
    let cancel = of_each(&ids, &others, &cancel.await.unwrap());
    redis.drained(PATIENCE).await;
    let started: Vec<_> = worker
        .stdout()
        .iter()
        .map(|line| line.text.clone())
        .collect();
    for (n, id) in ids.iter().enumerate() {
        let starts = started
            .iter()
            .filter(|line| **line == format!("start {}", &id[1..]))
            .count();
        // Who runs it at once makes a waiting job of it, which can still be cancelled.
        let expected = usize::from(cancel[n] != Won::Done);
        assert_eq!(
            starts, expected,
            "{id}: run now {:?}, cancel {:?}",
            run[n], cancel[n]
        );
    }
    let cancelled = cancel.iter().filter(|won| **won == Won::Done).count();
    assert_raced(cancelled, ROUNDS);
    assert_raced(run.iter().filter(|won| **won == Won::Done).count(), ROUNDS);
}

/// Jobs that their dead worker left behind are cancelled while another worker takes them over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_races_the_takeover_from_a_dead_worker() {
    let redis = Redis::start().await;
    let ids = ids();
    let job = |id: &String| {
        format!(
            r#"{{"id":"{id}","type":"test:sleep","payload":{{"n":{}}}}}"#,
            &id[1..]
        )
    };
    let jobs: Vec<_> = ids.iter().map(job).collect();
    let entries = redis.add_abandoned(&jobs, 1).await;
    // Every other one was put back by a worker that has shut down.
    for entry in entries.iter().step_by(2) {
        redis.put_back(entry).await;
    }
    let cancels = operator(&redis, Action::Cancel, &ids);
    has_cancelled(&redis, 50).await;
    // It claims the others soon after its start, and many at once.
    let worker = Process::test_worker(&redis).envs(&[LEASE]).start();
    let ledger = cancels.await.unwrap();
    redis.drained(PATIENCE).await;
    let ended: Vec<_> = worker
        .stdout()
        .iter()
        .map(|line| line.text.clone())
        .collect();
    for (id, won) in ids.iter().zip(&ledger) {
        let starts = ended
            .iter()
            .filter(|line| **line == format!("start {}", &id[1..]))
            .count();
        match won {
            Won::Done => assert_eq!(starts, 0, "{id} was deleted"),
            // Its worker is told, and may or may not end it in time.
            Won::Asked => assert!(starts <= 1, "{id}"),
            Won::Late => assert_eq!(starts, 1, "{id} has run"),
        }
    }
    assert_raced(
        ledger.iter().filter(|won| **won == Won::Done).count(),
        ROUNDS,
    );
}
