//! Figures for people: how often what became of jobs, and which have finished lately.
//!
//! They go to Redis beside what is settled, in a command of their own, so that nothing that a job needs
//! waits for them or fails with them. They may miss something. A job may not.

use std::time::Duration;

use redis::Cmd;

use super::broker::Broker;
use super::scripts::{RECORD, evalsha, millis};

/// What one command records.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// What is counted, and how many there were.
    pub(crate) counts: Vec<(String, u64)>,
    pub(crate) finished: Vec<FinishedJob>,
}

/// A job that has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinishedJob {
    pub(crate) job_id: String,
    pub(crate) job_type: String,
    /// How many attempts had failed.
    pub(crate) attempt: u32,
    /// When it was registered, by Redis' clock.
    pub(crate) registered_ms: u64,
    /// From when on it could run, by Redis' clock.
    pub(crate) due_ms: u64,
    pub(crate) ran: Duration,
    /// How long ago it ended.
    pub(crate) ended: Duration,
    /// How many finished jobs it stands for, itself included.
    pub(crate) stands_for: u64,
}

impl Record {
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.finished.is_empty()
    }
}

impl Broker {
    /// The command that records this, and keeps about `max_len` finished jobs.
    pub(super) fn record(&self, record: &Record, max_len: u64) -> Cmd {
        let keys = self.keys();
        let mut cmd = evalsha(&RECORD, &[&keys.totals, &keys.done]);
        cmd.arg(self.consumer()).arg(max_len);
        cmd.arg(record.counts.len());
        for (what, count) in &record.counts {
            cmd.arg(what).arg(count);
        }
        for job in &record.finished {
            cmd.arg(&job.job_id).arg(&job.job_type).arg(job.attempt);
            cmd.arg(job.registered_ms).arg(job.due_ms);
            cmd.arg(millis(job.ran)).arg(millis(job.ended));
            cmd.arg(job.stands_for);
        }
        cmd
    }
}
