//! What callers use: a client to which jobs are handed, and which says whether it takes them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::error::EnqueueError;
use super::outbox::{Outbox, Receipt};
use super::refusal::LastRefusal;
use super::sending::Sender;
use crate::config::{self, InvalidSetting, RedisConfig};
use crate::service::jobqueue::job::Job;
use crate::service::jobqueue::redis::{Connector, Keys};
use crate::shortened::shortened;

/// Longer than any caller lives.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Appends jobs to one queue. Cheap to clone: a program makes one and shares it.
///
/// One task keeps all clones connected and sends for them. It ends when the last clone is dropped or the
/// client is closed.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    stop: CancellationToken,
    /// The task that sends.
    task: TaskTracker,
}

/// What the task and the callers share. The task must not keep [`Inner`] alive.
#[derive(Debug, Clone)]
struct Parts {
    connector: Connector,
    keys: Arc<Keys>,
    outbox: Arc<Outbox>,
    last_refusal: Arc<LastRefusal>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Client {
    /// Makes a client of `queue`, which begins to connect at once. It connects again whenever Redis
    /// was away, until it is closed or dropped.
    ///
    /// # Errors
    /// When the name of the queue or a setting in `redis` cannot be used. A Redis that is away is no
    /// error.
    ///
    /// # Panics
    /// Outside of a Tokio runtime. Whatever blocks the threads of that runtime keeps all callers
    /// waiting.
    pub fn new(redis: &RedisConfig, queue: &str) -> Result<Self, InvalidSetting> {
        config::check_queue(queue)?;
        let keys = Keys::new(queue);
        let parts = Parts {
            connector: Connector::of_producer(redis, &keys)?,
            keys: Arc::new(keys),
            outbox: Arc::new(Outbox::new()),
            last_refusal: Arc::new(LastRefusal::new()),
        };
        let (stop, task) = (CancellationToken::new(), TaskTracker::new());
        task.spawn(send(parts.clone(), stop.clone()));
        task.close();
        Ok(Self(Arc::new(Inner { parts, stop, task })))
    }

    /// Waits until Redis can be used. It waits for ever for a Redis that never comes, so a program that
    /// should rather end gives it a timeout, and asks [`Self::ready`] for the reason:
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn connect(client: dm_jobqueue::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// if tokio::time::timeout(Duration::from_secs(10), client.connected()).await.is_err() {
    ///     client.ready().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// There is no need to wait: [`Self::enqueue`] says when there is no connection. Cancel safe.
    ///
    /// # Errors
    /// [`EnqueueError::NotConnected`] when the client is closed, also while this waits.
    pub async fn connected(&self) -> Result<(), EnqueueError> {
        tokio::select! {
            biased;
            () = self.0.stop.cancelled() => Err(EnqueueError::NotConnected),
            () = self.0.parts.connector.up() => Ok(()),
        }
    }

    /// Closes the client and all its clones: they take no more jobs. Jobs that still wait for their
    /// result get it now: [`EnqueueError::NotSent`], or [`EnqueueError::OutcomeUnknown`] for those on
    /// their way. So wait for the results before. The connection is closed
    /// when the last clone is dropped. Cancel safe: a dropped call has closed the client.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.task.wait().await;
    }

    /// Whether jobs can be appended now. If they can, there may be warnings for an operator, such as of
    /// memory that is nearly full. Redis is asked once a second at most, however often this is called.
    /// Cancel safe.
    ///
    /// # Errors
    /// The reason when they cannot, in words for an operator.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        if self.0.stop.is_cancelled() {
            return Err("the client is closed".to_owned());
        }
        let Parts {
            connector,
            last_refusal,
            ..
        } = &self.0.parts;
        let warnings = connector.ready().await?;
        let refused_lately = || {
            let error = last_refusal.lately(Instant::now())?;
            Some(connector.told(&error))
        };
        match connector.is_full().or_else(refused_lately) {
            Some(reason) => Err(reason),
            None => Ok(warnings),
        }
    }

    /// Appends `job` and waits for Redis to confirm it, at most for `timeout`. Does not wait
    /// for a connection, and never sends a job twice. An id is not looked at: a job that is appended
    /// twice runs twice.
    ///
    /// # Errors
    /// See [`EnqueueError`]: it tells whether the job may have been appended.
    ///
    /// # Cancel safety
    /// A dropped call's job may or may not be appended.
    pub async fn enqueue(&self, job: &Job, timeout: Duration) -> Result<(), EnqueueError> {
        let receipt = self.hand_over(job, deadline(timeout)).await?;
        result_of(job, receipt).await
    }

    /// Appends `jobs` in their order, and gives the result of each in the same order, as
    /// [`Self::enqueue`] does. `timeout` is for all of them together. It is not one step: some may be
    /// appended and others not.
    ///
    /// # Cancel safety
    /// A dropped call's jobs may or may not be appended.
    pub async fn enqueue_all(
        &self,
        jobs: &[Job],
        timeout: Duration,
    ) -> Vec<Result<(), EnqueueError>> {
        let deadline = deadline(timeout);
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
        let json = job.to_valid_json();
        let json = json.map_err(|error| EnqueueError::Malformed(error.to_string()))?;
        let Parts {
            connector, outbox, ..
        } = &self.0.parts;
        if !connector.is_up() {
            return Err(EnqueueError::NotConnected);
        }
        outbox.push(json, deadline).await
    }
}

/// Keeps the client connected and sends what is handed over, until `stop`. All callers get their
/// results from here, also when their time is over.
fn send(parts: Parts, stop: CancellationToken) -> impl Future<Output = ()> {
    // This is made now, because a runtime that ends may drop the task before its first step.
    let closing = Closing {
        outbox: Arc::clone(&parts.outbox),
        _stopped: stop.clone().drop_guard(),
    };
    async move {
        let _closing = closing;
        let Parts {
            connector,
            keys,
            outbox,
            last_refusal,
        } = &parts;
        let sender = Sender::new(connector, keys, outbox, last_refusal);
        tokio::select! {
            () = connector.probe(stop) => {}
            () = sender.run() => {}
        }
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

/// Closes the client when the sending ends, so that nobody waits for it any more.
struct Closing {
    outbox: Arc<Outbox>,
    _stopped: DropGuard,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// The time by which a call that starts now has its result. A longer time than clocks have means to
/// wait for ever, so it is cut to one that they have.
fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(FOR_EVER)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A client of a Redis that is not there.
    fn client() -> Client {
        let redis = RedisConfig {
            addr: "127.0.0.1:1".to_owned(),
            ..RedisConfig::default()
        };
        Client::new(&redis, "default").unwrap()
    }

    #[tokio::test]
    async fn any_timeout_is_accepted() {
        let job = Job::new("x", &()).unwrap();
        for timeout in [Duration::ZERO, Duration::MAX] {
            let one = client().enqueue(&job, timeout).await;
            assert!(matches!(one, Err(EnqueueError::NotConnected)));
            let all = client().enqueue_all(&[], timeout).await;
            assert!(all.is_empty());
        }
    }

    #[tokio::test]
    async fn a_closed_client_is_not_ready() {
        let client = client();
        client.close().await;
        let reason = client.ready().await.unwrap_err();
        assert_eq!(reason, "the client is closed");
    }

    /// It cannot work any more.
    #[tokio::test]
    async fn a_client_whose_runtime_is_gone_is_closed() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = runtime.spawn(async { client() }).await.unwrap();
        runtime.shutdown_background();
        let connected = timeout(PATIENCE, client.connected()).await.unwrap();
        assert!(matches!(connected, Err(EnqueueError::NotConnected)));
        timeout(PATIENCE, client.close()).await.unwrap();
    }
}
