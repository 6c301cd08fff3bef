//! The producer: appends jobs to the stream with XADD, and does nothing else.
//!
//! Group commit: jobs that come together are sent together, and jobs that come while
//! batches are on their way wait until they are worth one more, for a moment at most. The
//! callers only wait for their answers; [`Client::run`] sends, and keeps the deadlines.

mod error;
mod outbox;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Pipeline, Value};
use tokio::task::{consume_budget, unconstrained};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use self::error::EnqueueError;
use self::outbox::{Outbox, Receipt, Unanswered, Wanted};
use crate::config::RedisConfig;
use crate::service::jobqueue::job::Job;
use crate::service::jobqueue::redis::broker;
use crate::service::jobqueue::redis::connector::Connector;
use crate::service::jobqueue::redis::error::{Class, Error};
use crate::service::jobqueue::redis::keys::Keys;
use crate::service::jobqueue::redis::migrations;
use crate::service::jobqueue::redis::reply;
use crate::service::jobqueue::redis::window::Window;
use crate::shortened::shortened;

/// A connection on which a job's time runs out this long after it was sent, or later, is
/// taken for dead: a socket whose other end vanished says nothing.
const SUSPICIOUS_SILENCE: Duration = Duration::from_millis(500);
/// So long a refusal counts for readiness, unless a job was accepted since.
const REFUSAL_PERIOD: Duration = Duration::from_secs(60);
/// What [`Connector::ready`] finds by itself, and finds mended within a second.
const PROBED: [&str; 7] = [
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "LOADING",
    "NOPERM",
    "WRONGTYPE",
];
/// How many batches are on their way at once.
const MAX_BATCHES: usize = 16;
/// A batch that takes so much longer than the fastest was one of too many bytes: callers do
/// not wait for long.
const LONG_TRIP: Duration = Duration::from_millis(250);
/// How many jobs are worth one more: fewer wait for a reply, since each batch costs a round
/// trip's work.
const WORTH_A_BATCH: usize = 8;
/// How long after the last batch they wait at most, unless as many as may be are on their
/// way.
const LONG_REPLY: Duration = Duration::from_millis(1);
/// How often the deadlines of waiting jobs are looked at while no batch can go.
const DEADLINE_CHECK: Duration = Duration::from_millis(10);

/// Appends jobs to one queue's stream. Cheap to clone; clones share a connection.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    keys: Arc<Keys>,
    outbox: Arc<Outbox>,
    /// Why the last job was refused, when none was accepted since.
    refused: Arc<Mutex<Option<(Instant, Error)>>>,
}

impl Client {
    /// Prepares a client of `queue`. Nothing connects before [`Self::run`].
    ///
    /// # Errors
    /// When the address in `redis` cannot be understood.
    pub fn new(redis: &RedisConfig, queue: &str) -> Result<Self, Error> {
        let keys = Keys::new(queue);
        let mut setup = migrations::commands(&keys);
        // The migrations append nothing: a Redis that runs them may still refuse jobs.
        setup.push(broker::may_enqueue(&keys));
        let connector = Connector::new(redis, &keys, setup)?;
        Ok(Self {
            connector,
            keys: Arc::new(keys),
            outbox: Arc::new(Outbox::new()),
            refused: Arc::default(),
        })
    }

    /// Keeps the client connected and sends what is enqueued, until `stop`. All callers'
    /// answers come from here, in time as well: it belongs into a task of its own, and
    /// whatever blocks that task (a log that takes no lines, say) holds them all up. Call
    /// it once; when it has ended, the client takes no more jobs.
    ///
    /// # Cancel safety
    /// A dropped call has ended. Whoever still waits is answered.
    pub async fn run(&self, stop: CancellationToken) {
        let _end = Ending(&self.outbox);
        tokio::select! {
            () = self.connector.probe(stop) => {}
            () = self.send_batches() => {}
        }
    }

    /// Whether jobs can be appended now: warnings for an operator when they can. See
    /// [`Connector::ready`].
    ///
    /// # Errors
    /// The reason when they cannot.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        let warnings = self.connector.ready().await?;
        match self.connector.is_full().or_else(|| self.refused_lately()) {
            Some(reason) => Err(reason),
            None => Ok(warnings),
        }
    }

    fn refused_lately(&self) -> Option<String> {
        let refused = self.last_refusal();
        let (at, error) = refused.as_ref()?;
        let lately = at.elapsed() < REFUSAL_PERIOD;
        lately.then(|| self.connector.told(error))
    }

    fn last_refusal(&self) -> MutexGuard<'_, Option<(Instant, Error)>> {
        // No code panics while it holds this lock.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `job` and waits for Redis to confirm it, at most for `timeout`. Does not wait
    /// for a connection, and never sends a job twice.
    ///
    /// # Errors
    /// See [`EnqueueError`]: it tells whether the job may have been appended.
    ///
    /// # Cancel safety
    /// A dropped call's job may or may not be appended.
    pub async fn enqueue(&self, job: &Job, timeout: Duration) -> Result<(), EnqueueError> {
        let answer = self.hand_over(job, Instant::now() + timeout).await?;
        answered(job, answer).await
    }

    /// Appends `jobs` in their order, and answers for each as [`Self::enqueue`] does. It is
    /// not one step: some may be appended and others not.
    ///
    /// # Cancel safety
    /// A dropped call's jobs may or may not be appended.
    pub async fn enqueue_all(
        &self,
        jobs: &[Job],
        timeout: Duration,
    ) -> Vec<Result<(), EnqueueError>> {
        let deadline = Instant::now() + timeout;
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            answers.push(self.hand_over(job, deadline).await);
        }
        let mut results = Vec::with_capacity(jobs.len());
        for (job, answer) in jobs.iter().zip(answers) {
            results.push(match answer {
                Ok(answer) => answered(job, answer).await,
                Err(error) => Err(error),
            });
        }
        results
    }

    async fn hand_over(&self, job: &Job, deadline: Instant) -> Result<Receipt, EnqueueError> {
        if !self.connector.is_up() {
            return Err(EnqueueError::NotConnected);
        }
        self.outbox.push(job.to_json(), deadline).await
    }

    /// Sends what is handed over. Never returns.
    async fn send_batches(&self) {
        let mut on_their_way = FuturesUnordered::new();
        let mut last = Instant::now();
        let mut line = Line::new();
        loop {
            let (enough, wake_up) = match on_their_way.len() {
                0 => (1, None),
                full if full == MAX_BATCHES || line.room() == 0 => {
                    (usize::MAX, Some(Instant::now() + DEADLINE_CHECK))
                }
                _ if last.elapsed() >= LONG_REPLY => (1, None),
                _ => (WORTH_A_BATCH, Some(last + LONG_REPLY)),
            };
            let wanted = Wanted {
                enough,
                bytes: line.room(),
                lead: line.lead(),
            };
            if let Some(batch) = self.outbox.next_batch(wanted) {
                let bytes = line.begin(&batch);
                // Not subject to tokio's budget for one poll of a task: a batch that is held up
                // before its first step is overtaken by the next.
                on_their_way.push(unconstrained(self.send(batch, bytes)));
                last = Instant::now();
                continue;
            }
            consume_budget().await;
            tokio::select! {
                biased;
                Some(trip) = on_their_way.next() => line.end(&trip),
                () = self.outbox.enough() => {}
                Some(()) = at(wake_up) => {}
            }
        }
    }

    /// Sends one batch, and answers for it. With it `bytes` are on their way.
    async fn send(&self, batch: Vec<Unanswered>, bytes: Bytes) -> Trip {
        let sent_at = Instant::now();
        let end = self.send_and_answer(batch, bytes, sent_at).await;
        Trip {
            bytes,
            took: sent_at.elapsed(),
            end,
        }
    }

    async fn send_and_answer(
        &self,
        mut batch: Vec<Unanswered>,
        bytes: Bytes,
        sent_at: Instant,
    ) -> End {
        batch.retain(Unanswered::is_awaited);
        let Some((generation, mut connection)) = self.connector.shared() else {
            for mut job in batch {
                job.answer(Err(EnqueueError::NotConnected));
            }
            return End::NotSent;
        };
        if batch.is_empty() {
            return End::NotSent;
        }
        let time = bytes.time;
        connection.set_response_timeout(self.connector.response_timeout() + time);
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for job in &mut batch {
            pipeline.add_command(broker::enqueue(&self.keys, &job.json));
            job.sent = true;
        }
        let mut replies = pin!(connection.send_packed_commands(&pipeline, 0, batch.len()));
        let replies = loop {
            let unanswered = batch.iter().filter(|job| job.is_awaited());
            let deadline = unanswered.map(|job| job.deadline).min();
            tokio::select! {
                biased;
                replies = &mut replies => break replies,
                // One that is silent is found out by others before its time is over.
                () = self.connector.gone(generation) => return End::Lost,
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
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => {
                self.connector.lost(generation, &Error::from(error));
                return End::Lost;
            }
        };
        let mut accepted = false;
        for (job, reply) in batch.iter_mut().zip(replies) {
            job.answer(match reply {
                Value::ServerError(error) => Err(self.refused(generation, Error::from(&error))),
                id => {
                    accepted = true;
                    Ok(reply::entry_id(&id))
                }
            });
        }
        if accepted {
            *self.last_refusal() = None;
            if self.connector.is_full().is_some() {
                self.connector.ask_anew();
            }
        }
        End::Replied { generation }
    }

    fn refused(&self, generation: u64, error: Error) -> EnqueueError {
        // What an operator must mend is found again by the prober, which waits for it.
        if let Class::Reconnect | Class::Operator = error.class {
            self.connector.lost(generation, &error);
        }
        tracing::debug!(%error, "redis refused a job");
        if !PROBED.contains(&error.code.as_deref().unwrap_or_default()) {
            *self.last_refusal() = Some((Instant::now(), error.clone()));
        } else if self.connector.is_full().is_none() {
            // `/ready` is not to say what this job has just disproved.
            self.connector.ask_anew();
        }
        EnqueueError::refused(error.code.as_deref().unwrap_or_default())
    }
}

/// Tells callers whose time is over that nothing is known. Answers how long ago the batch
/// was sent.
fn give_up_overdue(batch: &mut [Unanswered], sent_at: Instant) -> Duration {
    let now = Instant::now();
    for job in batch {
        if job.deadline <= now {
            job.answer(Err(EnqueueError::OutcomeUnknown));
        }
    }
    now - sent_at
}

/// How many bytes are sent at once, so that the replies come while their callers wait.
#[derive(Debug)]
struct Line {
    window: Window,
    in_flight: usize,
    /// What a round trip takes, lately.
    usual: Duration,
    /// Of which connection that is known.
    generation: u64,
}

/// The jobs of a batch.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    own: usize,
    /// With those that were sent before and have no reply yet.
    in_flight: usize,
    /// How much longer than others their reply may take.
    time: Duration,
}

/// The end of a batch.
#[derive(Debug)]
struct Trip {
    bytes: Bytes,
    took: Duration,
    end: End,
}

#[derive(Debug, Clone, Copy)]
enum End {
    /// Nobody waited for it any more, or there was no connection.
    NotSent,
    /// No reply came.
    Lost,
    /// On the connection of this generation.
    Replied { generation: u64 },
}

impl Line {
    fn new() -> Self {
        Self {
            window: Window::new(LONG_TRIP),
            in_flight: 0,
            usual: Duration::ZERO,
            generation: 0,
        }
    }

    fn room(&self) -> usize {
        self.window.bytes().saturating_sub(self.in_flight)
    }

    /// A job whose deadline is nearer would be answered that its outcome is unknown. But
    /// where nothing is on its way, something has to be sent to find out.
    fn lead(&self) -> Duration {
        if self.in_flight == 0 {
            Duration::ZERO
        } else {
            self.usual
        }
    }

    fn begin(&mut self, batch: &[Unanswered]) -> Bytes {
        let own = batch.iter().map(|job| job.json.len()).sum();
        self.in_flight += own;
        Bytes {
            own,
            in_flight: self.in_flight,
            time: self.window.time(self.in_flight),
        }
    }

    fn end(&mut self, trip: &Trip) {
        self.in_flight -= trip.bytes.own;
        match trip.end {
            End::Replied { generation } => {
                if self.generation != generation {
                    self.generation = generation;
                    self.window.connected();
                }
                self.window.passed(trip.bytes.in_flight, trip.took);
                self.usual = (3 * self.usual + trip.took) / 4;
            }
            End::Lost => self.window.lost(trip.bytes.in_flight),
            End::NotSent => {}
        }
    }
}

async fn answered(job: &Job, answer: Receipt) -> Result<(), EnqueueError> {
    // An unanswered job is answered when it is dropped.
    let answer = answer.await.unwrap_or(Err(EnqueueError::OutcomeUnknown));
    let entry_id = answer?;
    tracing::debug!(
        job_id = job.id.as_deref().map(shortened),
        entry_id = entry_id.map(tracing::field::display),
        job_type = shortened(&job.job_type),
        delay_ms = job.delay_ms,
        "registered"
    );
    Ok(())
}

/// The end of the sending, however it comes.
struct Ending<'a>(&'a Outbox);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Waits until `time`; answers at once when there is none.
async fn at(time: Option<Instant>) -> Option<()> {
    sleep_until(time?).await;
    Some(())
}
