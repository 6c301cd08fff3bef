//! The producer: appends jobs to the stream with XADD, and does nothing else.
//!
//! Group commit: jobs that come while a batch is on its way go out together. A second batch
//! follows at once when it is worth its round trip, so that Redis has it when it is done
//! with the first; fewer jobs wait for a moment, and more batches follow when the line is
//! slow.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Pipeline, Value};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::broker::{self, Keys};
use super::connection::Connector;
use super::error::{Class, Error};
use super::job::Job;
use super::migrations;
use crate::config::RedisConfig;

/// A connection that keeps a job waiting for this long is taken for dead: a socket
/// whose other end vanished says nothing.
const SUSPICIOUS_SILENCE: Duration = Duration::from_millis(500);
/// How many jobs go out in one batch, and about how many bytes of them.
const MAX_BATCH: usize = 256;
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// How many jobs are worth a second batch: fewer wait for the first one's reply, since each
/// batch costs a round trip's work.
const WORTH_A_BATCH: usize = 16;
/// How long they wait at most, and how many batches are then on their way at once.
const LONG_REPLY: Duration = Duration::from_millis(1);
const MAX_BATCHES: usize = 16;

/// How many jobs wait to be sent at most; who brings more waits before that.
const MAX_WAITING: usize = 4096;

/// Appends jobs to one queue's stream. Cheap to clone; clones share a connection.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    keys: Arc<Keys>,
    outbox: Sender<Waiting>,
    /// For [`Self::run`].
    waiting: Arc<Mutex<Receiver<Waiting>>>,
}

/// A job that is to be appended.
#[derive(Debug)]
struct Waiting {
    json: Vec<u8>,
    done: oneshot::Sender<Result<(), EnqueueError>>,
    claim: Claim,
}

/// Who decides what becomes of a waiting job: whoever takes it first, to send it or to
/// withdraw it.
#[derive(Debug, Clone, Default)]
struct Claim(Arc<AtomicU64>);

impl Claim {
    const OPEN: u64 = 0;
    const WITHDRAWN: u64 = u64::MAX;

    /// Takes it to be sent on a connection of `generation`, which counts from 1.
    fn send(&self, generation: u64) -> bool {
        self.take(generation).is_ok()
    }

    /// Takes it to be sent never, or says on which connection it was sent.
    fn withdraw(&self) -> Result<(), u64> {
        self.take(Self::WITHDRAWN)
    }

    fn take(&self, by: u64) -> Result<(), u64> {
        let taken = self
            .0
            .compare_exchange(Self::OPEN, by, Ordering::Relaxed, Ordering::Relaxed);
        taken.map(drop)
    }
}

/// What the caller keeps of a waiting job.
#[derive(Debug)]
struct Reply {
    done: oneshot::Receiver<Result<(), EnqueueError>>,
    claim: Claim,
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
        let connector = Connector::new(redis, setup)?;
        let (outbox, waiting) = mpsc::channel(MAX_WAITING);
        Ok(Self {
            connector,
            keys: Arc::new(keys),
            outbox,
            waiting: Arc::new(Mutex::new(waiting)),
        })
    }

    /// Keeps the client connected, and sends what is enqueued, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            () = self.connector.probe(stop) => {}
            () = self.send_batches() => {}
        }
    }

    /// Whether Redis can be used now; see [`Connector::ready`].
    ///
    /// # Errors
    /// The reason when it cannot.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        self.connector.ready().await
    }

    /// Appends `job` and waits for Redis to confirm it, at most until `deadline` has
    /// passed. Does not wait for a connection, and never sends a job twice.
    ///
    /// # Errors
    /// See [`EnqueueError`]: it tells whether the job may have been appended.
    ///
    /// # Cancel safety
    /// A dropped call's job may or may not be appended.
    pub async fn enqueue(&self, job: &Job, deadline: Duration) -> Result<(), EnqueueError> {
        let until = Instant::now() + deadline;
        let reply = self.hand_over(job, until).await?;
        self.confirmation(reply, until, deadline).await
    }

    /// Appends `jobs` in their order, and answers for each as [`Self::enqueue`] does. It is
    /// not one step: some may be appended and others not.
    ///
    /// # Cancel safety
    /// A dropped call's jobs may or may not be appended.
    pub async fn enqueue_all(
        &self,
        jobs: &[Job],
        deadline: Duration,
    ) -> Vec<Result<(), EnqueueError>> {
        let until = Instant::now() + deadline;
        let mut replies = Vec::with_capacity(jobs.len());
        for job in jobs {
            replies.push(self.hand_over(job, until).await);
        }
        let mut results = Vec::with_capacity(jobs.len());
        for reply in replies {
            results.push(match reply {
                Ok(reply) => self.confirmation(reply, until, deadline).await,
                Err(error) => Err(error),
            });
        }
        results
    }

    async fn hand_over(&self, job: &Job, until: Instant) -> Result<Reply, EnqueueError> {
        if !self.connector.is_up() {
            return Err(EnqueueError::NotConnected);
        }
        let (sender, done) = oneshot::channel();
        let claim = Claim::default();
        let waiting = Waiting {
            json: job.to_json(),
            done: sender,
            claim: claim.clone(),
        };
        match timeout_at(until, self.outbox.send(waiting)).await {
            Ok(Ok(())) => Ok(Reply { done, claim }),
            // `self` holds the receiver, so there was no room.
            _ => Err(EnqueueError::NotSent),
        }
    }

    async fn confirmation(
        &self,
        reply: Reply,
        until: Instant,
        deadline: Duration,
    ) -> Result<(), EnqueueError> {
        // An error means that the sending part is gone.
        if let Ok(Ok(result)) = timeout_at(until, reply.done).await {
            return result;
        }
        let Err(generation) = reply.claim.withdraw() else {
            return Err(EnqueueError::NotSent);
        };
        if deadline >= SUSPICIOUS_SILENCE {
            let error = format!("no reply within {} ms", deadline.as_millis());
            let error = Error::new(Class::Reconnect, error);
            self.connector.lost(generation, &error);
        }
        Err(EnqueueError::OutcomeUnknown)
    }

    /// Sends what is handed over. Never returns.
    async fn send_batches(&self) {
        let mut waiting = self.waiting.lock().await;
        let mut on_their_way = FuturesUnordered::new();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut last = Instant::now();
        loop {
            let may_go = match on_their_way.len() {
                0 => true,
                1 if batch.len() >= WORTH_A_BATCH => true,
                count => count < MAX_BATCHES && last.elapsed() >= LONG_REPLY,
            };
            if may_go && !batch.is_empty() {
                on_their_way.push(self.send(mem::take(&mut batch)));
                bytes = 0;
                last = Instant::now();
            }
            let room = batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES;
            tokio::select! {
                biased;
                Some(()) = on_their_way.next() => {}
                () = sleep_until(last + LONG_REPLY),
                    if !batch.is_empty() && on_their_way.len() < MAX_BATCHES => {}
                Some(first) = waiting.recv(), if room => {
                    bytes += first.json.len();
                    batch.push(first);
                    while batch.len() < MAX_BATCH
                        && bytes < MAX_BATCH_BYTES
                        && let Ok(next) = waiting.try_recv()
                    {
                        bytes += next.json.len();
                        batch.push(next);
                    }
                }
            }
        }
    }

    async fn send(&self, mut batch: Vec<Waiting>) {
        let Some((generation, mut connection)) = self.connector.shared() else {
            return answer(batch, || Err(EnqueueError::NotConnected));
        };
        batch.retain(|waiting| waiting.claim.send(generation));
        if batch.is_empty() {
            return;
        }
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for waiting in &batch {
            pipeline.add_command(broker::enqueue(&self.keys, &waiting.json));
        }
        let replies = tokio::select! {
            biased;
            replies = connection.send_packed_commands(&pipeline, 0, batch.len()) => replies,
            // One that is silent is found out by others before its time is over.
            () = self.connector.gone(generation) => {
                return answer(batch, || Err(EnqueueError::OutcomeUnknown));
            }
        };
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => {
                self.connector.lost(generation, &Error::from(error));
                return answer(batch, || Err(EnqueueError::OutcomeUnknown));
            }
        };
        for (waiting, reply) in batch.into_iter().zip(replies) {
            let result = match reply {
                Value::ServerError(error) => Err(self.refused(generation, Error::from(&error))),
                _ => Ok(()),
            };
            // Who does not wait any more has been told that the outcome is unknown.
            drop(waiting.done.send(result));
        }
    }

    fn refused(&self, generation: u64, error: Error) -> EnqueueError {
        // What an operator must mend is found again by the prober, which waits for it.
        if let Class::Reconnect | Class::Operator = error.class {
            self.connector.lost(generation, &error);
        }
        tracing::debug!(%error, "redis refused a job");
        EnqueueError::Refused(refusal(error.code.as_deref().unwrap_or_default()))
    }
}

fn answer(batch: Vec<Waiting>, result: impl Fn() -> Result<(), EnqueueError>) {
    for waiting in batch {
        drop(waiting.done.send(result()));
    }
}

/// What a client may be told of an error code; the server's own words are for the log.
fn refusal(code: &str) -> String {
    match code {
        "OOM" => "Redis is out of memory (maxmemory is reached)".to_owned(),
        "MISCONF" => "Redis cannot write to its disk".to_owned(),
        "READONLY" => "Redis is a read-only replica at the moment".to_owned(),
        "LOADING" => "Redis is loading its data".to_owned(),
        code => format!("Redis refused the job ({code})"),
    }
}

/// Why a job was not appended, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// Nothing was sent.
    #[error("Redis is not connected")]
    NotConnected,
    /// Nothing was sent: other jobs were on their way, and no reply to them came in time.
    #[error("Redis does not answer, and the job was not sent")]
    NotSent,
    /// The command was handed to the connection and no reply came: the job may
    /// or may not be in the stream.
    #[error("the outcome is unknown: the job was sent to Redis and no reply came")]
    OutcomeUnknown,
    /// Redis answered with an error: the job is not in the stream.
    #[error("{0}")]
    Refused(String),
}
