//! A delivery, and how it ends: what the runner and triage decide, and the settler sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::service::jobqueue::job::{self, Edits, Job, Move};
use crate::service::jobqueue::redis::{DeadLetter, EntryId};

/// A job that is to run: an entry that was delivered and understood.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) id: EntryId,
    pub(crate) job: Job,
    /// The job as it stands in the entry.
    pub(crate) json: Vec<u8>,
    pub(crate) deliveries: u32,
    /// A run that takes longer hangs: no timeout has ended it.
    pub(crate) hang_limit: Duration,
}

/// When a run began and ended, by this process' clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

impl Delivery {
    /// From when on, by Redis' clock, the job is not started, if it expires. One that was started, or may
    /// have been, does not expire any more.
    pub(super) fn expires_at(&self) -> Option<u64> {
        let is_fresh = self.job.attempt == 0 && self.deliveries <= 1;
        self.job.expires_at(self.id.ms()).filter(|_| is_fresh)
    }

    /// What has to change in the job's JSON when it moves with these counts after it was delivered and
    /// was no job to be parked. So it may have been started, unless this is its first delivery.
    pub(super) fn moved(
        &self,
        attempt: u32,
        unknown_for_ms: u64,
    ) -> Result<Edits, serde_json::Error> {
        let to = Move {
            job: &self.job,
            entry_id: &self.id.to_string(),
            entry_ms: self.id.ms(),
            attempt,
            unknown_for_ms,
            was_started: attempt > 0 || self.deliveries > 1,
        };
        job::moved(&self.json, to)
    }
}

/// How a delivery ends. Each gets exactly one.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ran: acknowledge and delete it. The times are there until it is sent.
    Done(Option<Times>),
    /// It has a delay. It moves to the scheduled set, or it runs if Redis says that it is due.
    Park(Arc<Delivery>),
    /// It expires at `at_ms`. It goes to the dead letters, or it runs if Redis says that the time has not
    /// come.
    Expire {
        delivery: Arc<Delivery>,
        letter: DeadLetter,
        at_ms: u64,
    },
    /// It failed and may be tried again: to the scheduled set with these edits, due in
    /// `backoff`.
    Retry { edits: Edits, backoff: Duration },
    /// This worker does not know its type, or runs as many jobs of it as it may: to the scheduled
    /// set with these edits, for any worker to run it after `pause`.
    LeaveToOthers { edits: Edits, pause: Duration },
    /// It will not run again: to the dead letters.
    Dead(DeadLetter),
    /// It ends here without a result: anybody may claim it, with this delivery count.
    PutBack { deliveries: u32 },
    /// It ends here without a result. Others may claim it only after the rest of a lease.
    PutOff { deliveries: u32 },
}

/// An outcome on its way to Redis.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) id: EntryId,
    pub(crate) outcome: Outcome,
    /// Which of the entries that had this id it is for.
    pub(super) serial: u64,
}
