//! Registrations without a pause, and their account. The account compares every reply that a client
//! received with every line that a worker printed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Process, TestApp};

/// A client that registers jobs with the messages `job 0`, `job 1`, ... one after the other, until
/// the test stops it.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    client: JoinHandle<Answers>,
}

/// The jobs' numbers, sorted by the reply that the client received.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) accepted: BTreeSet<u64>,
    pub(crate) refused: BTreeSet<u64>,
    /// The reply says that the job may have been stored.
    pub(crate) unknown: BTreeSet<u64>,
}

impl Load {
    /// Registers a job every `pause`, each with `delay`.
    pub(crate) fn start(app: &TestApp, pause: Duration, delay: &'static str) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (http, url) = (app.http().clone(), app.register_url().to_owned());
        let client = tokio::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            async move {
                let mut answers = Answers::default();
                let mut ticks = tokio::time::interval(pause);
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let n = sent.fetch_add(1, Ordering::Relaxed);
                    let body = json!({"message": format!("job {n}"), "delay": delay});
                    let reply = http.post(&url).body(body.to_string()).send().await.unwrap();
                    let status = reply.status();
                    let body: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
                    let list = match (status.as_u16(), body["detail"].as_str()) {
                        (201, _) => &mut answers.accepted,
                        (503, Some(detail)) if detail.contains("unknown") => &mut answers.unknown,
                        (503, Some(_)) => &mut answers.refused,
                        _ => panic!("job {n}: {status} {body}"),
                    };
                    list.insert(n);
                }
                answers
            }
        });
        Self { stop, sent, client }
    }

    /// The number of requests that were sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        self.client.await.unwrap()
    }
}

impl Answers {
    /// Asserts that each accepted job was printed once and that no refused job was printed. It also
    /// asserts that every line belongs to a job that was sent.
    pub(crate) fn each_printed_once(&self, workers: &[&Process]) {
        let printed = printed(workers);
        let lost: Vec<_> = self
            .accepted
            .iter()
            .filter(|n| !printed.contains_key(n))
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        let twice: Vec<_> = printed.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "printed more than once: {twice:?}");
        let sent = |n| self.accepted.contains(n) || self.unknown.contains(n);
        let unexpected: Vec<_> = printed.keys().filter(|n| !sent(n)).collect();
        assert!(unexpected.is_empty(), "refused and printed: {unexpected:?}");
    }
}

/// How many times each job's message was printed.
fn printed(workers: &[&Process]) -> BTreeMap<u64, usize> {
    let mut printed = BTreeMap::new();
    for line in workers.iter().flat_map(|worker| worker.stdout()) {
        let number = line
            .text
            .split_once("] job ")
            .and_then(|(_, n)| n.parse().ok());
        if let Some(number) = number {
            *printed.entry(number).or_default() += 1;
        }
    }
    printed
}
