//! What callers use: a client to which jobs are handed, and which says whether it takes them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::EnqueueError;
use super::outbox::{Outbox, Receipt};
use super::refusal::LastRefusal;
use super::sending::Sender;
use crate::config::RedisConfig;
use crate::service::jobqueue::job::Job;
use crate::service::jobqueue::redis::{Connector, Error, Keys};
use crate::shortened::shortened;

/// Appends jobs to one queue's stream. Cheap to clone; clones share a connection.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    keys: Arc<Keys>,
    outbox: Arc<Outbox>,
    last_refusal: Arc<LastRefusal>,
}

impl Client {
    /// Prepares a client of `queue`. Nothing connects before [`Self::run`].
    ///
    /// # Errors
    /// When the address in `redis` cannot be understood.
    pub fn new(redis: &RedisConfig, queue: &str) -> Result<Self, Error> {
        let keys = Keys::new(queue);
        Ok(Self {
            connector: Connector::of_producer(redis, &keys)?,
            keys: Arc::new(keys),
            outbox: Arc::new(Outbox::new()),
            last_refusal: Arc::new(LastRefusal::new()),
        })
    }

    /// Keeps the client connected and sends what is enqueued, until `stop`.
    ///
    /// All callers get their results from here, also when their time is over. So it belongs into
    /// a task of its own. Whatever blocks that task, a log that takes no lines for example, keeps
    /// all callers waiting. Call it once. When it has ended, the client takes no more jobs.
    ///
    /// # Cancel safety
    /// A dropped call has ended. Callers that still wait get their results.
    pub async fn run(&self, stop: CancellationToken) {
        let _closing = Closing(&self.outbox);
        let sender = Sender::new(
            &self.connector,
            &self.keys,
            &self.outbox,
            &self.last_refusal,
        );
        tokio::select! {
            () = self.connector.probe(stop) => {}
            () = sender.run() => {}
        }
    }

    /// Whether jobs can be appended now: warnings for an operator when they can. See
    /// [`Connector::ready`].
    ///
    /// # Errors
    /// The reason when they cannot.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        let warnings = self.connector.ready().await?;
        let refused_lately = || {
            let error = self.last_refusal.lately(Instant::now())?;
            Some(self.connector.told(&error))
        };
        match self.connector.is_full().or_else(refused_lately) {
            Some(reason) => Err(reason),
            None => Ok(warnings),
        }
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
        let receipt = self.hand_over(job, Instant::now() + timeout).await?;
        result_of(job, receipt).await
    }

    /// Appends `jobs` in their order, and gives the result of each as [`Self::enqueue`] does. It
    /// is not one step: some may be appended and others not.
    ///
    /// # Cancel safety
    /// A dropped call's jobs may or may not be appended.
    pub async fn enqueue_all(
        &self,
        jobs: &[Job],
        timeout: Duration,
    ) -> Vec<Result<(), EnqueueError>> {
        let deadline = Instant::now() + timeout;
        let mut receipts = Vec::with_capacity(jobs.len());
        for job in jobs {
            receipts.push(self.hand_over(job, deadline).await);
        }
        let mut results = Vec::with_capacity(jobs.len());
        for (job, receipt) in jobs.iter().zip(receipts) {
            results.push(match receipt {
                Ok(receipt) => result_of(job, receipt).await,
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
}

/// Waits for the result of a job that was handed over.
async fn result_of(job: &Job, receipt: Receipt) -> Result<(), EnqueueError> {
    // A job that is dropped without an answer gives one then, so there always is one.
    let result = receipt.await.unwrap_or(Err(EnqueueError::OutcomeUnknown));
    let entry_id = result?;
    tracing::debug!(
        job_id = job.id.as_deref().map(shortened),
        entry_id = entry_id.map(tracing::field::display),
        job_type = shortened(&job.job_type),
        delay_ms = job.delay_ms,
        "registered"
    );
    Ok(())
}

/// Closes the outbox when the sending ends, also when its future is dropped.
struct Closing<'a>(&'a Outbox);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
