//! Jobs that wait to be sent, each with the way to its caller.
//!
//! Many callers push, one sender takes. A caller that pushes wakes the sender only when
//! the sender waits for just that many: waking a task that has nothing to do yet costs
//! more than all the rest of a push.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::error::EnqueueError;
use crate::service::jobqueue::redis::reply::EntryId;

/// How many jobs go out in one batch.
const MAX_BATCH: usize = 256;
/// How many jobs wait to be sent at most; who brings more waits before that.
const MAX_WAITING: usize = 4096;

/// What becomes of a job.
/// The id of its entry, when Redis told one.
pub(crate) type EnqueueResult = Result<Option<EntryId>, EnqueueError>;
/// Where its caller learns of it.
pub(crate) type Receipt = oneshot::Receiver<EnqueueResult>;

/// A job that is to be appended, and the way to its caller.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) json: Vec<u8>,
    pub(crate) deadline: Instant,
    pub(crate) sent: bool,
    /// `None` once it has been used.
    caller: Option<oneshot::Sender<EnqueueResult>>,
}

impl Unanswered {
    pub(crate) fn answer(&mut self, outcome: EnqueueResult) {
        if let Some(caller) = self.caller.take() {
            // Who has gone needs no answer.
            drop(caller.send(outcome));
        }
    }

    /// Whether somebody still waits for the answer.
    pub(crate) fn is_awaited(&self) -> bool {
        self.caller
            .as_ref()
            .is_some_and(|caller| !caller.is_closed())
    }
}

/// Whatever becomes of a job, its caller learns whether it may have been appended.
impl Drop for Unanswered {
    fn drop(&mut self) {
        self.answer(Err(if self.sent {
            EnqueueError::OutcomeUnknown
        } else {
            EnqueueError::NotSent
        }));
    }
}

/// What the sender wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// No batch before there are so many jobs.
    pub(crate) enough: usize,
    /// About how many bytes of jobs go out in one batch; one job at least.
    pub(crate) bytes: usize,
    /// How long before its deadline it is too late to send a job.
    pub(crate) lead: Duration,
}

/// The callers' end and the sender's.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// As many permits as [`MAX_WAITING`] leaves; closed when nothing is sent any more.
    room: Semaphore,
    enough: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Unanswered>,
    /// No job in it has an earlier deadline.
    earliest: Option<Instant>,
    /// With how many jobs the sender wants to be woken.
    enough: usize,
}

impl Outbox {
    pub(crate) fn new() -> Self {
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
    pub(crate) async fn push(
        &self,
        json: Vec<u8>,
        deadline: Instant,
    ) -> Result<Receipt, EnqueueError> {
        let room = match self.room.try_acquire() {
            Ok(room) => room,
            // Only now, since a timer costs more than what follows.
            Err(_) => match timeout_at(deadline, self.room.acquire()).await {
                Ok(Ok(room)) => room,
                Ok(Err(_closed)) => return Err(EnqueueError::NotConnected),
                Err(_elapsed) => return Err(EnqueueError::NotSent),
            },
        };
        let (caller, answer) = oneshot::channel();
        let job = Unanswered {
            json,
            deadline,
            sent: false,
            caller: Some(caller),
        };
        let mut waiting = self.lock();
        // Closed before the last jobs are cleared away, which needs the lock.
        if self.room.is_closed() {
            return Err(EnqueueError::NotConnected);
        }
        // Given back when the job leaves.
        room.forget();
        let earliest = waiting.earliest.unwrap_or(deadline);
        waiting.earliest = Some(earliest.min(deadline));
        waiting.jobs.push_back(job);
        if waiting.jobs.len() == waiting.enough {
            drop(waiting);
            self.enough.notify_one();
        }
        Ok(answer)
    }

    /// The jobs of the next batch when there are enough in all; else [`Self::enough`]
    /// answers when there are. Tells callers whose deadline is too near that their jobs
    /// were not sent.
    pub(crate) fn next_batch(&self, wanted: Wanted) -> Option<Vec<Unanswered>> {
        let mut waiting = self.lock();
        let overdue = waiting.take_overdue(Instant::now() + wanted.lead);
        waiting.enough = wanted.enough;
        let batch = (waiting.jobs.len() >= wanted.enough).then(|| waiting.take(wanted.bytes));
        drop(waiting);
        let taken = batch.as_ref().map_or(0, Vec::len);
        self.room.add_permits(overdue.len() + taken);
        batch
    }

    /// Waits until as many jobs wait as [`Self::next_batch`] asked for last. Cancel safe.
    /// May answer once too often.
    pub(crate) async fn enough(&self) {
        self.enough.notified().await;
    }

    /// Ends it: who waits is told that nothing was sent, and so is who comes.
    pub(crate) fn close(&self) {
        self.room.close();
        // Their callers are woken without the lock, which these may want.
        let jobs = mem::take(&mut self.lock().jobs);
        drop(jobs);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Those whose deadline is not after `time`.
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
mod tests {
    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LATER: Duration = Duration::from_secs(60);

    const BATCH_BYTES: usize = 1024 * 1024;

    fn next_batch(outbox: &Outbox, enough: usize) -> Option<Vec<Unanswered>> {
        outbox.next_batch(Wanted {
            enough,
            bytes: BATCH_BYTES,
            lead: Duration::ZERO,
        })
    }

    async fn push(outbox: &Outbox, json: &str, time: Duration) -> Receipt {
        let deadline = Instant::now() + time;
        let pushed = outbox.push(json.as_bytes().to_vec(), deadline).await;
        pushed.unwrap()
    }

    fn jobs(batch: &[Unanswered]) -> Vec<&str> {
        let jobs = batch.iter();
        jobs.map(|job| str::from_utf8(&job.json).unwrap()).collect()
    }

    #[tokio::test]
    async fn the_sender_is_woken_when_there_are_enough_and_not_before() {
        let outbox = Outbox::new();
        assert!(next_batch(&outbox, 3).is_none());
        let mut answers = Vec::new();
        for (job, woken) in [("a", false), ("b", false), ("c", true), ("d", false)] {
            answers.push(push(&outbox, job, LATER).await);
            assert_eq!(outbox.enough().now_or_never().is_some(), woken, "{job}");
        }
        let batch = next_batch(&outbox, 3).unwrap();
        assert_eq!(jobs(&batch), ["a", "b", "c", "d"]);
        assert!(next_batch(&outbox, 1).is_none());
    }

    #[tokio::test]
    async fn a_batch_has_a_limit_in_jobs_and_in_bytes() {
        let outbox = Outbox::new();
        let mut answers = Vec::new();
        for _ in 0..=MAX_BATCH {
            answers.push(push(&outbox, "job", LATER).await);
        }
        assert_eq!(next_batch(&outbox, 1).unwrap().len(), MAX_BATCH);
        assert_eq!(next_batch(&outbox, 1).unwrap().len(), 1);

        let large = "x".repeat(BATCH_BYTES / 2);
        for _ in 0..3 {
            answers.push(push(&outbox, &large, LATER).await);
        }
        assert_eq!(next_batch(&outbox, 1).unwrap().len(), 2);
        assert_eq!(next_batch(&outbox, 1).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_job_whose_time_is_over_is_not_sent() {
        let outbox = Outbox::new();
        let late = push(&outbox, "late", SOON).await;
        let in_time = push(&outbox, "in time", LATER).await;
        tokio::time::sleep(SOON).await;
        let batch = next_batch(&outbox, 1).unwrap();
        assert_eq!(jobs(&batch), ["in time"]);
        assert!(matches!(late.await.unwrap(), Err(EnqueueError::NotSent)));
        drop(in_time);
    }

    #[tokio::test]
    async fn a_job_that_would_come_too_late_is_not_sent() {
        let outbox = Outbox::new();
        let late = push(&outbox, "late", SOON).await;
        let in_time = push(&outbox, "in time", LATER).await;
        let batch = outbox.next_batch(Wanted {
            enough: 1,
            bytes: 1,
            lead: SOON,
        });
        assert_eq!(jobs(&batch.unwrap()), ["in time"]);
        assert!(matches!(late.await.unwrap(), Err(EnqueueError::NotSent)));
        drop(in_time);
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_for_it_until_the_deadline() {
        let outbox = Outbox::new();
        let mut answers = Vec::new();
        for _ in 0..MAX_WAITING {
            answers.push(push(&outbox, "job", LATER).await);
        }
        let refused = outbox.push(Vec::new(), Instant::now() + SOON).await;
        assert!(matches!(refused, Err(EnqueueError::NotSent)));

        let (pushed, batch) = tokio::join!(timeout(LATER, push(&outbox, "next", LATER)), async {
            next_batch(&outbox, 1)
        });
        assert!(pushed.is_ok());
        assert_eq!(batch.unwrap().len(), MAX_BATCH);
        // All the room that a batch leaves is used again, and no more than that.
        for _ in 1..MAX_BATCH {
            answers.push(push(&outbox, "job", LATER).await);
        }
        let refused = outbox.push(Vec::new(), Instant::now() + SOON).await;
        assert!(matches!(refused, Err(EnqueueError::NotSent)));
    }

    #[tokio::test]
    async fn room_of_jobs_whose_time_is_over_is_used_again() {
        let outbox = Outbox::new();
        let mut answers = Vec::new();
        for _ in 0..MAX_WAITING {
            answers.push(push(&outbox, "job", SOON).await);
        }
        tokio::time::sleep(SOON).await;
        assert!(next_batch(&outbox, usize::MAX).is_none());
        for _ in 0..MAX_WAITING {
            answers.push(push(&outbox, "job", LATER).await);
        }
    }

    #[tokio::test]
    async fn a_job_that_is_dropped_answers_whether_it_was_sent() {
        let outbox = Outbox::new();
        let first = push(&outbox, "first", LATER).await;
        let second = push(&outbox, "second", LATER).await;
        let mut batch = next_batch(&outbox, 1).unwrap();
        batch[1].sent = true;
        drop(batch);
        assert!(matches!(first.await.unwrap(), Err(EnqueueError::NotSent)));
        let second = second.await.unwrap();
        assert!(matches!(second, Err(EnqueueError::OutcomeUnknown)));
    }

    #[tokio::test]
    async fn after_its_end_who_waits_and_who_comes_is_refused() {
        let outbox = Outbox::new();
        let mut waiting = Vec::new();
        for _ in 0..MAX_WAITING {
            waiting.push(push(&outbox, "job", LATER).await);
        }
        let (without_room, ()) =
            tokio::join!(outbox.push(Vec::new(), Instant::now() + LATER), async {
                outbox.close()
            });
        assert!(matches!(without_room, Err(EnqueueError::NotConnected)));
        for answer in waiting {
            assert!(matches!(answer.await.unwrap(), Err(EnqueueError::NotSent)));
        }
        let late = outbox.push(Vec::new(), Instant::now() + LATER).await;
        assert!(matches!(late, Err(EnqueueError::NotConnected)));
    }
}
