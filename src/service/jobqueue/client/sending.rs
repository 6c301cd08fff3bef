//! Sends batches of jobs, and gives every job's caller its result in time.
//!
//! One task sends for all callers. Several batches are on their way at once, each of them in a
//! future of this task, so that no batch costs a task of its own.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::{consume_budget, unconstrained};
use tokio::time::{Instant, sleep_until};

use super::error::EnqueueError;
use super::line::{Bytes, Line, Trip, TripEnd};
use super::outbox::{Outbox, Unanswered};
use super::refusal::LastRefusal;
use crate::service::jobqueue::redis::{Appender, Appends, Class, Connector, Error, Keys};

/// When a job's time is over so long after it was sent, or longer, its connection is taken for
/// dead: a socket whose other end has vanished says nothing.
const SUSPICIOUS_SILENCE: Duration = Duration::from_millis(500);

/// Sends what the outbox has.
pub(super) struct Sender<'a> {
    connector: &'a Connector,
    keys: &'a Keys,
    outbox: &'a Outbox,
    last_refusal: &'a LastRefusal,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        connector: &'a Connector,
        keys: &'a Keys,
        outbox: &'a Outbox,
        last_refusal: &'a LastRefusal,
    ) -> Self {
        Self {
            connector,
            keys,
            outbox,
            last_refusal,
        }
    }

    /// Sends what is handed over. Never returns.
    pub(super) async fn run(&self) {
        let mut on_their_way = FuturesUnordered::new();
        let mut line = Line::new(Instant::now());
        loop {
            let (wanted, again) = line.next(Instant::now());
            if let Some(batch) = self.outbox.next_batch(wanted) {
                let size = batch.iter().map(|job| job.json.len()).sum();
                let bytes = line.begin(size, Instant::now());
                // Tokio lets a task do only so much at a time, and then makes all that it waits
                // for wait longer. A batch that had to wait before its first step, which writes
                // its commands, would be overtaken by the next batch. So this limit is off for
                // batches.
                on_their_way.push(unconstrained(self.send(batch, bytes)));
                continue;
            }
            // Instead, the limit holds for the whole loop: other tasks get their turn here.
            consume_budget().await;
            tokio::select! {
                // Replies first: each of them makes room on the line. A fair choice would also
                // cost a random number each time.
                biased;
                Some(trip) = on_their_way.next() => line.end(&trip),
                () = self.outbox.enough() => {}
                Some(()) = at(again) => {}
            }
        }
    }

    /// Sends one batch, and gives the results of its jobs.
    async fn send(&self, batch: Vec<Unanswered>, bytes: Bytes) -> Trip {
        let sent_at = Instant::now();
        let end = self.send_and_answer(batch, bytes.time, sent_at).await;
        Trip {
            bytes,
            took: sent_at.elapsed(),
            end,
        }
    }

    /// `time` is how much longer than others the batch's reply may take.
    async fn send_and_answer(
        &self,
        mut batch: Vec<Unanswered>,
        time: Duration,
        sent_at: Instant,
    ) -> TripEnd {
        batch.retain(Unanswered::is_awaited);
        let Some(mut appender) = Appender::new(self.connector) else {
            for mut job in batch {
                job.answer(Err(EnqueueError::NotConnected));
            }
            return TripEnd::NotSent;
        };
        if batch.is_empty() {
            return TripEnd::NotSent;
        }
        let generation = appender.generation();
        let mut jobs = Appends::with_capacity(batch.len());
        for job in &mut batch {
            jobs.add(self.keys, &job.json);
            job.sent = true;
        }
        let mut results = pin!(appender.append(&jobs, time));
        let results = loop {
            let unanswered = batch.iter().filter(|job| job.is_awaited());
            let deadline = unanswered.map(|job| job.deadline).min();
            tokio::select! {
                // A reply that has come counts, also when the connection has ended since, or a
                // deadline is over.
                biased;
                results = &mut results => break results,
                // Another batch, or another part, may find out that the connection is silent
                // before the time of this batch is over.
                () = self.connector.gone(generation) => return TripEnd::Lost,
                Some(()) = at(deadline) => {
                    let silence = give_up_overdue(&mut batch, sent_at);
                    if silence >= SUSPICIOUS_SILENCE + time {
                        let error = format!("no reply within {} ms", silence.as_millis());
                        let error = Error::new(Class::Reconnect, error);
                        self.connector.lost(generation, &error);
                    }
                }
            }
        };
        let results = match results {
            Ok(results) => results,
            Err(error) => {
                self.connector.lost(generation, &error);
                return TripEnd::Lost;
            }
        };
        let mut accepted = false;
        for (job, result) in batch.iter_mut().zip(results) {
            accepted |= result.is_ok();
            job.answer(result.map_err(|error| self.refused(generation, &error)));
        }
        if accepted {
            self.last_refusal.accepted();
            if self.connector.is_full().is_some() {
                // It is not full any more.
                self.connector.ask_anew();
            }
        }
        TripEnd::Replied { generation }
    }

    /// Draws the consequences of a refusal. Answers what the job's caller is told.
    fn refused(&self, generation: u64, error: &Error) -> EnqueueError {
        // When an operator has to mend something, the prober finds that out again and waits.
        if let Class::Reconnect | Class::Operator = error.class {
            self.connector.lost(generation, error);
        }
        tracing::debug!(%error, "redis refused a job");
        let remembered = self.last_refusal.refused(error, Instant::now());
        if !remembered && self.connector.is_full().is_none() {
            // `/ready` must not go on saying what this job has just disproved.
            self.connector.ask_anew();
        }
        EnqueueError::refused(error.code.as_deref().unwrap_or_default())
    }
}

/// Tells callers whose time is over that nothing is known. Answers how long ago the batch was
/// sent.
fn give_up_overdue(batch: &mut [Unanswered], sent_at: Instant) -> Duration {
    let now = Instant::now();
    for job in batch {
        if job.deadline <= now {
            job.answer(Err(EnqueueError::OutcomeUnknown));
        }
    }
    now - sent_at
}

/// Waits until `time`. Answers nothing at once when there is no time.
async fn at(time: Option<Instant>) -> Option<()> {
    sleep_until(time?).await;
    Some(())
}
