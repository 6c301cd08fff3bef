//! Jobs that wait to be sent, each with the way to its caller.
//!
//! Many callers push jobs, and one sender takes them. A push wakes the sender only when the
//! sender waits for exactly as many jobs as there are now. Waking a task that has nothing to do
//! yet costs more than all the rest of a push.

use std::collections::VecDeque;
use std::mem;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::error::EnqueueError;
use crate::lock::lock;
use crate::service::jobqueue::redis::EntryId;

/// How many jobs go out in one batch.
const MAX_BATCH: usize = 256;
/// How many jobs wait to be sent at most. A caller that brings one more waits for room.
const MAX_WAITING: usize = 4096;

/// What became of a job: it was appended, with the id of its entry if Redis told one, or not.
pub(super) type EnqueueResult = Result<Option<EntryId>, EnqueueError>;
/// Through this a job's caller gets the result.
pub(super) type Receipt = oneshot::Receiver<EnqueueResult>;

/// A job that is to be appended, and the way to its caller.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) json: Vec<u8>,
    pub(super) deadline: Instant,
    pub(super) sent: bool,
    /// Absent once it has been used.
    caller: Option<oneshot::Sender<EnqueueResult>>,
}

impl Unanswered {
    /// Gives the caller the result, unless it has got one or has gone.
    pub(super) fn answer(&mut self, result: EnqueueResult) {
        if let Some(caller) = self.caller.take() {
            drop(caller.send(result));
        }
    }

    /// Whether somebody still waits for the result.
    pub(super) fn is_awaited(&self) -> bool {
        self.caller
            .as_ref()
            .is_some_and(|caller| !caller.is_closed())
    }
}

/// Also when a job is dropped, its caller learns whether the job may have been appended.
impl Drop for Unanswered {
    fn drop(&mut self) {
        self.answer(Err(if self.sent {
            EnqueueError::OutcomeUnknown
        } else {
            EnqueueError::NotSent
        }));
    }
}

/// What the sender wants to be in the next batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// There is no batch before so many jobs wait.
    pub(super) enough: usize,
    /// About how many bytes of jobs the batch has. It has one job at least.
    pub(super) bytes: usize,
    /// How long before its deadline it is too late to send a job.
    pub(super) lead: Duration,
}

/// Callers push jobs into it, and the sender takes them.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Has a permit for each job that may still come. Closed when nothing is sent any more.
    room: Semaphore,
    /// Wakes the sender.
    enough: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Unanswered>,
    /// No job in it has an earlier deadline.
    earliest: Option<Instant>,
    /// How many jobs the sender waits for.
    enough: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            room: Semaphore::new(MAX_WAITING),
            enough: Notify::new(),
        }
    }

    /// Adds a job, as soon as there is room. Cancel safe: a dropped call has added nothing.
    ///
    /// # Errors
    /// When there was no room until `deadline`, or nothing is sent any more.
    pub(super) async fn push(
        &self,
        json: Vec<u8>,
        deadline: Instant,
    ) -> Result<Receipt, EnqueueError> {
        let room = match self.room.try_acquire() {
            Ok(room) => room,
            // The timer is made only now, because it costs more than the rest of this.
            Err(_) => match timeout_at(deadline, self.room.acquire()).await {
                Ok(Ok(room)) => room,
                Ok(Err(_closed)) => return Err(EnqueueError::NotConnected),
                Err(_elapsed) => return Err(EnqueueError::NotSent),
            },
        };
        let (caller, receipt) = oneshot::channel();
        let job = Unanswered {
            json,
            deadline,
            sent: false,
            caller: Some(caller),
        };
        let mut waiting = lock(&self.waiting);
        // `close` closes the semaphore first and clears the jobs away under this lock. So a job
        // that is pushed now would stay for ever.
        if self.room.is_closed() {
            return Err(EnqueueError::NotConnected);
        }
        // The permit comes back when the job leaves.
        room.forget();
        let earliest = waiting.earliest.unwrap_or(deadline);
        waiting.earliest = Some(earliest.min(deadline));
        waiting.jobs.push_back(job);
        if waiting.jobs.len() == waiting.enough {
            drop(waiting);
            self.enough.notify_one();
        }
        Ok(receipt)
    }

    /// Takes the jobs of the next batch, if enough jobs wait in all. Otherwise [`Self::enough`]
    /// ends its wait when there are enough. Callers whose deadline is too near are told that
    /// their jobs were not sent.
    pub(super) fn next_batch(&self, wanted: Wanted) -> Option<Vec<Unanswered>> {
        let mut waiting = lock(&self.waiting);
        let overdue = waiting.take_overdue(Instant::now() + wanted.lead);
        waiting.enough = wanted.enough;
        let batch = (waiting.jobs.len() >= wanted.enough).then(|| waiting.take(wanted.bytes));
        drop(waiting);
        let taken = batch.as_ref().map_or(0, Vec::len);
        self.room.add_permits(overdue.len() + taken);
        batch
    }

    /// Waits until there are as many jobs as [`Self::next_batch`] wanted last. It may return
    /// once too often. Cancel safe.
    pub(super) async fn enough(&self) {
        self.enough.notified().await;
    }

    /// Ends it. The callers of waiting jobs, and those who come later, are told that nothing was
    /// sent.
    pub(super) fn close(&self) {
        self.room.close();
        // Dropping the jobs wakes their callers, who may want the lock.
        let jobs = mem::take(&mut lock(&self.waiting).jobs);
        drop(jobs);
    }
}

impl Waiting {
    /// Takes the jobs whose deadline is not after `time`.
    fn take_overdue(&mut self, time: Instant) -> VecDeque<Unanswered> {
        if self.earliest.is_none_or(|earliest| earliest > time) {
            return VecDeque::new();
        }
        let (kept, overdue) = mem::take(&mut self.jobs)
            .into_iter()
            .partition(|job| job.deadline > time);
        self.jobs = kept;
        self.earliest = self.jobs.iter().map(|job| job.deadline).min();
        overdue
    }

    /// Takes the oldest jobs, up to about `limit` bytes of them.
    fn take(&mut self, limit: usize) -> Vec<Unanswered> {
        let mut bytes = 0;
        let fits = |job: &&Unanswered| {
            let fits = bytes == 0 || bytes < limit;
            bytes += job.json.len();
            fits
        };
        let count = self.jobs.iter().take(MAX_BATCH).take_while(fits).count();
        let batch = self.jobs.drain(..count).collect();
        if self.jobs.is_empty() {
            self.earliest = None;
        }
        batch
    }
}

#[cfg(test)]
mod tests;
