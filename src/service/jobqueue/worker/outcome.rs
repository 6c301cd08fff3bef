//! A delivery, and how it ends: what the runner and triage decide, and the settler sends.

use std::sync::Arc;
use std::time::Duration;

use crate::service::jobqueue::job::{Edits, Job};
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

/// How a delivery ends. Each gets exactly one.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ran: acknowledge and delete it.
    Done,
    /// It has a delay. It moves to the scheduled set, or it runs if Redis says that it is due.
    Park(Arc<Delivery>),
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
