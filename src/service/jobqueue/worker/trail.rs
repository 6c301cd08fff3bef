//! A job's trail in the log: an event at debug level for each step that it takes, with `job_id`,
//! the id that the API gave it, and `entry_id`, that of its present entry.
//!
//! A step that this worker decides is told when it is decided. A step that Redis must confirm,
//! because another worker may have taken the job meanwhile, is told when it is confirmed. Callers
//! ask [`is_on`] first, so that the trail costs nothing while the level is off.

use tracing::{Level, Span, debug, debug_span, enabled};

use super::outcome::Delivery;
use crate::service::jobqueue::job::Job;
use crate::service::jobqueue::redis::{Body, Entry, EntryId, PromotedJob};
use crate::shortened::shortened;

/// Whether the trail is logged.
pub(crate) fn is_on() -> bool {
    enabled!(Level::DEBUG)
}

/// A step of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A read has brought it, or the search for what a lost reply carried.
    Delivered,
    /// This worker has claimed it: its worker is gone, or has put it back.
    TakenOver,
    /// Its handler is called.
    Started,
    /// Its handler has done it, and its output is written.
    Finished,
    /// It waits in the scheduled set until its delay is over.
    Parked,
    /// It waits there until its next attempt.
    Retried,
    /// As many jobs of its type run here as may run at once.
    TypeIsFull,
    /// It waits there for a worker that knows its type, or for one that has room for it.
    LeftToOthers,
    /// It is a dead letter.
    Buried,
    /// It ended without a result, and any worker may take it.
    PutBack,
    /// Another worker has it and decides what becomes of it, or somebody has deleted it.
    LeaseLost,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::TakenOver => "taken over",
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Parked => "parked",
            Self::Retried => "retried",
            Self::TypeIsFull => "type is full",
            Self::LeftToOthers => "left to others",
            Self::Buried => "buried",
            Self::PutBack => "put back",
            Self::LeaseLost => "lease lost",
        }
    }

    /// Tells a step of a job of which little more than its entry is known.
    pub(crate) fn tell_of_entry(self, entry_id: EntryId, job_id: Option<&str>) {
        debug!(job_id, %entry_id, "{}", self.name());
    }
}

/// Tells that an entry has come. Nothing is decided about it yet.
pub(crate) fn tell_arrival(step: Step, entry: &Entry) {
    let job = match &entry.body {
        Body::Job(json) => Job::parse(json).ok(),
        Body::Foreign | Body::TooLarge(_) => None,
    };
    let job = job.as_ref().map(|job| Shown::of(job, entry.id));
    debug!(
        job_id = job.as_ref().map(|job| job.job_id.as_str()),
        entry_id = %entry.id,
        job_type = job.as_ref().map(|job| job.job_type.as_str()),
        attempt = job.as_ref().map(|job| job.attempt),
        deliveries = entry.deliveries,
        "{}",
        step.name()
    );
}

/// Tells that a scheduled job is due and waits in the stream, as another entry. Its type and attempts
/// are told when it is delivered.
pub(crate) fn tell_promoted(job: &PromotedJob) {
    debug!(
        job_id = job.job_id.as_deref().map(shortened),
        entry_id = job.entry_id,
        left_entry_id = job.left,
        "promoted"
    );
}

/// What the log shows of a delivery, shortened.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The entry's id while the job has none of its own: it gets that at its first move.
    pub(crate) job_id: String,
    pub(crate) entry_id: EntryId,
    pub(crate) job_type: String,
    pub(crate) attempt: u32,
}

impl Shown {
    fn of(job: &Job, entry_id: EntryId) -> Self {
        let id = job.id.as_deref().map(shortened);
        Self {
            job_id: id.unwrap_or_else(|| entry_id.to_string()),
            entry_id,
            job_type: shortened(&job.job_type),
            attempt: job.attempt,
        }
    }
}

impl Delivery {
    pub(crate) fn shown(&self) -> Shown {
        Shown::of(&self.job, self.id)
    }

    pub(crate) fn tell(&self, step: Step) {
        let job = self.shown();
        debug!(
            job_id = job.job_id,
            entry_id = %job.entry_id,
            job_type = job.job_type,
            attempt = job.attempt,
            "{}",
            step.name()
        );
    }

    /// The span in which the handler's own log lines stand.
    pub(crate) fn span(&self) -> Span {
        debug_span!(
            "delivery",
            job_id = self.job.id.as_deref().map(shortened).unwrap_or_else(|| self.id.to_string()),
            entry_id = %self.id,
            job_type = shortened(&self.job.job_type),
            attempt = self.job.attempt,
        )
    }
}
