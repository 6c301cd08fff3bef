//! Workers that share one queue while nothing fails. Each job runs exactly once, whether it is due
//! at once or later, and whichever worker parks or promotes it.

use std::collections::BTreeMap;

use crate::support::{PATIENCE, Process, Redis};

/// Runs 600 jobs, half of them delayed, on `count` workers. Each message has the job's number. With
/// equal messages, a job that ran twice could hide a job that did not run.
async fn each_runs_once(count: usize) {
    const JOBS: usize = 600;
    let redis = Redis::start().await;
    let workers: Vec<_> = (0..count)
        .map(|_| Process::jobqueue(&redis).start())
        .collect();
    for worker in &workers {
        worker.wait_ready(PATIENCE).await;
    }
    let jobs = (0..JOBS).map(|n| {
        let delay_ms = if n % 2 == 0 { 0 } else { n };
        format!(
            r#"{{"type":"demo:delay_print","payload":{{"message":"job {n}"}},"delay_ms":{delay_ms}}}"#
        )
    });
    redis.add_jobs(jobs).await;
    redis.drained(PATIENCE * 2).await;
    for worker in &workers {
        worker.term();
        assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
    }
    let mut printed = BTreeMap::new();
    for line in workers.iter().flat_map(Process::stdout) {
        let (_, message) = line.text.split_once("] ").unwrap();
        *printed.entry(message.to_owned()).or_insert(0) += 1;
    }
    let twice: Vec<_> = printed.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!((printed.len(), twice), (JOBS, vec![]));
    let shares: Vec<_> = workers.iter().map(|each| each.stdout().len()).collect();
    assert!(
        shares.iter().filter(|share| **share > 0).count() > 1,
        "one did it all: {shares:?}"
    );
}

#[tokio::test]
async fn two_workers_run_each_job_once_due_or_delayed() {
    each_runs_once(2).await;
}

#[tokio::test]
async fn eight_workers_run_each_job_once_due_or_delayed() {
    each_runs_once(8).await;
}
