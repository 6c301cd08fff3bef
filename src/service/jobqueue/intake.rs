//! What becomes of an entry that was delivered: a job to run, or an outcome that needs no
//! run.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::held::{Delivery, Held, Outcome, Settlement};
use super::job::Job;
use super::letter;
use super::reply::{Body, Entry};
use super::worker::Worker;

/// From this delivery on an entry is a suspect: it may be what kills workers.
const SUSPECT_DELIVERIES: u32 = 3;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) held: Arc<Held>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) max_deliveries: u32,
    pub(crate) stop: CancellationToken,
}

impl Intake {
    /// Hands new entries on: to the runners, or with their outcome to the settler.
    pub(crate) fn deliver(&self, entries: Vec<Entry>) {
        let mut ready = Vec::with_capacity(entries.len());
        let mut settled = Vec::new();
        for entry in entries {
            let (id, deliveries) = (entry.id, entry.deliveries);
            match self.triage(entry, &ready) {
                Ok(delivery) => ready.push(delivery),
                Err(outcome) => settled.push((Settlement { id, outcome }, deliveries)),
            }
        }
        self.held.admit_settled(settled);
        let now = Instant::now();
        let called_for = self.held.admit(ready, now);
        if self.stop.is_cancelled() {
            // It came with the last read: nothing is started any more.
            self.held.put_back_ready(now);
        }
        self.worker.start_runner(called_for);
    }

    /// Whether an entry is to run, or else how it ends. `ready` comes with it.
    fn triage(&self, entry: Entry, ready: &[Delivery]) -> Result<Delivery, Outcome> {
        let (id, deliveries) = (entry.id, entry.deliveries);
        if deliveries > self.max_deliveries {
            warn!(%id, deliveries, "a job that ends no delivery; moving it to the dead letters");
            return Err(Outcome::Dead(letter::poison(entry)));
        }
        // Of those that may be killing workers a process holds one at a time, so that
        // the one that does it reaches the limit alone.
        let suspect = deliveries >= SUSPECT_DELIVERIES;
        if suspect
            && (self.held.has_other_delivered(id, SUSPECT_DELIVERIES)
                || ready
                    .iter()
                    .any(|other| other.deliveries >= SUSPECT_DELIVERIES))
        {
            let deliveries = deliveries - 1;
            return Err(Outcome::PutBack { deliveries });
        }
        let Entry { body, .. } = entry;
        let json = match body {
            Body::Job(json) => json,
            body @ Body::Foreign(_) => {
                let error = "expected an entry with the one field `job`";
                warn!(%id, error, "foreign entry; moving it to the dead letters");
                let entry = Entry {
                    id,
                    body,
                    deliveries,
                };
                return Err(Outcome::Dead(letter::unreadable(entry, error)));
            }
        };
        match Job::parse(&json) {
            Ok(job) => {
                let delayed = job.delay_ms > 0;
                let delivery = Delivery {
                    id,
                    job,
                    json,
                    deliveries,
                };
                if delayed {
                    Err(Outcome::Park(Box::new(delivery)))
                } else {
                    Ok(delivery)
                }
            }
            Err(error) => {
                let error = error.to_string();
                warn!(%id, error, "malformed job; moving it to the dead letters");
                let body = Body::Job(json);
                let entry = Entry {
                    id,
                    body,
                    deliveries,
                };
                Err(Outcome::Dead(letter::unreadable(entry, &error)))
            }
        }
    }
}
