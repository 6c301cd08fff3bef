//! What becomes of an entry that was delivered: a job to run, or an outcome that needs no
//! run.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::dead_letter;
use super::held::{Admission, Held};
use super::job_log::JobLog;
use super::outcome::{Delivery, Outcome};
use super::runner::{MALFORMED, Runners};
use super::trail::{self, Step};
use crate::service::jobqueue::job::{self, Job};
use crate::service::jobqueue::redis::{Body, DeadLetter, Entry, EntryId};
use crate::shortened::shortened;

/// From this delivery on an entry is a suspect: it may be what kills workers.
const SUSPECT_DELIVERIES: u32 = 3;
const POISON: &str = "a job that ends no delivery; moving it to the dead letters";
/// How many entries that one reply could not carry a worker has at most: others get the
/// rest.
const MAX_ASIDE: usize = 64;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Triage {
    held: Arc<Held>,
    runners: Arc<Runners>,
    log: Arc<JobLog>,
    max_deliveries: u32,
}

/// What becomes of an entry.
enum Kind {
    Run(Arc<Delivery>),
    Settle(Outcome),
    SetAside { bytes: usize },
}

impl Triage {
    pub(crate) fn new(runners: Arc<Runners>, log: Arc<JobLog>, max_deliveries: u32) -> Self {
        Self {
            held: Arc::clone(runners.held()),
            runners,
            log,
            max_deliveries,
        }
    }

    /// Hands entries that were read in `epoch` on: to the runners, or with their outcome to
    /// the settler. `arrival` is how they came.
    pub(crate) fn deliver(&self, arrival: Step, entries: Vec<Entry>, epoch: u64) {
        let mut admission = Admission::default();
        for entry in entries {
            let (id, deliveries) = (entry.id, entry.deliveries);
            if trail::is_on() {
                trail::tell_arrival(arrival, &entry);
            }
            match self.triage(entry, &admission) {
                Kind::Run(delivery) => admission.ready.push(delivery),
                Kind::Settle(outcome) => admission.ended.push((id, deliveries, outcome)),
                Kind::SetAside { bytes } => admission.aside.push((id, deliveries, bytes)),
            }
        }
        self.held.admit(admission, epoch, Instant::now());
    }

    /// What becomes of an entry that came together with others.
    fn triage(&self, entry: Entry, others: &Admission) -> Kind {
        let (id, deliveries) = (entry.id, entry.deliveries);
        if deliveries > self.max_deliveries {
            let death = dead_letter::poison(&entry);
            if let Some(suppressed) = self.log.admit(POISON, "", "") {
                let job_id = death.job_id.as_deref();
                warn!(job_id, entry_id = %id, deliveries, suppressed, "{POISON}");
            }
            return Kind::Settle(Outcome::Dead(death));
        }
        if let Body::TooLarge(bytes) = entry.body {
            return self.set_aside(&entry, bytes, others);
        }
        // Of those that may be killing workers a process holds one at a time, so that
        // the one that does it reaches the limit alone.
        let suspect = deliveries >= SUSPECT_DELIVERIES;
        if suspect && self.has_suspect_beside(id, others) {
            return Kind::Settle(Outcome::PutBack {
                deliveries: deliveries - 1,
            });
        }
        let json = match entry.body {
            Body::Job(json) => json,
            Body::Foreign | Body::TooLarge(_) => {
                return self.unreadable(&entry, "expected an entry with the one field `job`");
            }
        };
        match Job::parse(&json) {
            Ok(job) => {
                let delayed = job.delay_ms > 0;
                let delivery = Arc::new(Delivery {
                    id,
                    job,
                    json,
                    deliveries,
                });
                if delayed {
                    Kind::Settle(Outcome::Park(delivery))
                } else if !self.runners.knows(&delivery.job.job_type) {
                    // Without a slot: any number of them must not keep others waiting.
                    Kind::Settle(self.runners.decide_unknown(&delivery))
                } else {
                    Kind::Run(delivery)
                }
            }
            Err(error) => {
                let body = Body::Job(json);
                self.unreadable(&Entry { body, ..entry }, &error.to_string())
            }
        }
    }

    fn has_suspect_beside(&self, id: EntryId, others: &Admission) -> bool {
        let mut ready = others.ready.iter();
        ready.any(|other| other.deliveries >= SUSPECT_DELIVERIES)
            || self.held.has_other_delivered(id, SUSPECT_DELIVERIES)
    }

    /// An entry that one reply could not carry. Whatever is larger than any job is none;
    /// another one is fetched by itself, with all the time that its bytes may take.
    fn set_aside(&self, entry: &Entry, bytes: usize, others: &Admission) -> Kind {
        if bytes > job::MAX_ENTRY_BYTES {
            let limit = job::MAX_ENTRY_BYTES;
            let error = format!("the entry has {bytes} bytes, expected at most {limit}");
            return self.unreadable(entry, &error);
        }
        if self.held.asides() + others.aside.len() >= MAX_ASIDE {
            return Kind::Settle(Outcome::PutOff {
                deliveries: entry.deliveries.saturating_sub(1),
            });
        }
        Kind::SetAside { bytes }
    }

    fn unreadable(&self, entry: &Entry, error: &str) -> Kind {
        let death: DeadLetter = dead_letter::unreadable(entry, error);
        if let Some(suppressed) = self.log.admit(MALFORMED, "", error) {
            let error = shortened(&death.error);
            warn!(entry_id = %entry.id, error, suppressed, "{MALFORMED}");
        }
        Kind::Settle(Outcome::Dead(death))
    }
}
