//! The workers of a queue, by what they tell of themselves and by what Redis knows of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Inspector;
use super::seen::Seen;
use super::view::WorkerView;
use crate::service::jobqueue::redis::pending::pending_part;
use crate::service::jobqueue::redis::{Error, Overview, overview};

/// A worker that has not renewed its leases for so many of them is gone.
const LEASES: u64 = 2;
/// The lease of a worker of which none is known, while no other is known either.
const UNKNOWN_LEASE_MS: u64 = 15_000;

/// What a worker tells of itself. A later version may tell more, or leave out what does not apply to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    host: Option<String>,
    pid: Option<u32>,
    version: Option<String>,
    concurrency: Option<u64>,
    running: Option<u64>,
    held: Option<u64>,
    started_ms: Option<u64>,
    seen_ms: Option<u64>,
}

/// The workers that live.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Alive {
    pub(super) count: u64,
    /// How many jobs they can run at once, and how many they run.
    pub(super) slots: u64,
    pub(super) busy: u64,
}

/// How many workers live, and what they can do.
pub(super) fn alive(overview: &Overview) -> Alive {
    let mut alive = Alive::default();
    for worker in of(overview).iter().filter(|worker| worker.alive) {
        alive.count += 1;
        // Anybody may have written the numbers.
        alive.slots = alive.slots.saturating_add(worker.concurrency.unwrap_or(0));
        alive.busy = alive.busy.saturating_add(worker.running.unwrap_or(0));
    }
    alive
}

/// All workers in the order of their names, without their jobs.
fn of(overview: &Overview) -> Vec<WorkerView> {
    let leases: BTreeMap<&str, u64> = overview
        .leases
        .iter()
        .map(|(name, lease)| (name.as_str(), *lease))
        .collect();
    let longest = leases.values().copied().max().unwrap_or(UNKNOWN_LEASE_MS);
    let told: BTreeMap<&str, Told> = overview
        .workers
        .iter()
        .map(|(name, json)| {
            (
                name.as_str(),
                serde_json::from_slice(json).unwrap_or_default(),
            )
        })
        .collect();
    let consumers: BTreeMap<&str, _> = overview
        .consumers
        .iter()
        .map(|consumer| (consumer.name.as_str(), consumer))
        .collect();
    let names: BTreeSet<&str> = told.keys().chain(consumers.keys()).copied().collect();
    let worker = |name: &str| {
        let consumer = consumers.get(name);
        let told = told.get(name);
        let seen_ms = told.and_then(|told| told.seen_ms);
        // Redis says of all others only when they have asked for something last.
        let silent_ms = match (seen_ms, consumer) {
            (Some(seen), _) => overview.now_ms.saturating_sub(seen),
            (None, Some(consumer)) => consumer.idle_ms,
            (None, None) => u64::MAX,
        };
        let lease = leases.get(name).copied().unwrap_or(longest);
        WorkerView {
            name: name.to_owned(),
            alive: silent_ms < lease.saturating_mul(LEASES),
            host: told.and_then(|told| told.host.clone()),
            pid: told.and_then(|told| told.pid),
            version: told.and_then(|told| told.version.clone()),
            started_ms: told.and_then(|told| told.started_ms),
            seen_ms,
            concurrency: told.and_then(|told| told.concurrency),
            running: told.and_then(|told| told.running),
            held: told.and_then(|told| told.held),
            pending: consumer.map_or(0, |consumer| consumer.pending),
            jobs: Vec::new(),
        }
    };
    names.into_iter().map(worker).collect()
}

impl Inspector {
    /// All workers, each with up to `jobs` of the jobs that it has.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer.
    pub async fn workers(&mut self, jobs: usize) -> Result<Vec<WorkerView>, Error> {
        self.link.connect().await;
        let overview = overview(&self.keys, &mut self.link).await?;
        let mut workers = of(&overview);
        let busy = workers
            .iter_mut()
            .filter(|worker| worker.pending > 0 && jobs > 0);
        for worker in busy {
            let name = Some(worker.name.as_str());
            let part = pending_part(&mut self.link, &self.keys, None, jobs, name).await?;
            let rows = part.rows.iter().filter(|row| !row.is_put_back);
            let ids: Vec<_> = rows.map(|row| row.id).collect();
            let known = self.entries(&ids).await?.into_iter().map(Seen::entry);
            worker.jobs = known.map(|seen| seen.view).collect();
        }
        Ok(workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::redis::Consumer;

    fn consumer(name: &str, pending: u64, idle_ms: u64) -> Consumer {
        Consumer {
            name: name.to_owned(),
            pending,
            idle_ms,
        }
    }

    #[test]
    fn a_worker_lives_that_was_seen_within_two_leases() {
        let told = |name: &str, json: &str| (name.to_owned(), json.as_bytes().to_vec());
        let overview = Overview {
            now_ms: 100_000,
            workers: vec![
                told(
                    "a",
                    r#"{"host":"h","concurrency":8,"running":3,"seen_ms":96001,"new":[]}"#,
                ),
                told("b", r#"{"concurrency":5,"running":5,"seen_ms":96000}"#),
                told("broken", "{"),
                told("gone", r#"{"seen_ms":0}"#),
            ],
            consumers: vec![
                // What a worker tells of itself counts, although it has asked for nothing for long.
                consumer("a", 4, 99_000),
                consumer("broken", 0, 7_999),
                consumer("old", 1, 8_000),
            ],
            leases: vec![
                ("a".to_owned(), 2_000),
                ("b".to_owned(), 2_000),
                ("x".to_owned(), 4_000),
            ],
            ..Overview::default()
        };
        let workers = of(&overview);
        let lives: Vec<_> = workers
            .iter()
            .map(|one| (one.name.as_str(), one.alive))
            .collect();
        assert_eq!(
            lives,
            [
                ("a", true),
                ("b", false),
                ("broken", true),
                ("gone", false),
                ("old", false)
            ]
        );
        assert_eq!(
            (workers[0].pending, workers[0].host.as_deref()),
            (4, Some("h"))
        );
        let (count, slots, busy) = (2, 8, 3);
        assert_eq!(alive(&overview), Alive { count, slots, busy });
    }
}
