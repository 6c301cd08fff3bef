//! The producer: appends jobs to the stream with XADD, and does nothing else.

use std::time::{Duration, Instant};

use redis::Value;
use tokio::time::timeout;
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

/// Appends jobs to one queue's stream. Cheap to clone; clones share a connection.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    keys: Keys,
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
        Ok(Self { connector, keys })
    }

    /// Keeps the client connected until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        self.connector.probe(stop).await;
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
        let (generation, mut connection) =
            self.connector.shared().ok_or(EnqueueError::NotConnected)?;
        let command = broker::enqueue(&self.keys, &job.to_json());
        let sent = Instant::now();
        let reply = timeout(deadline, connection.send_packed_command(&command)).await;
        let error = match reply {
            Ok(Ok(Value::ServerError(error))) => Error::from(&error),
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => Error::from(error),
            Err(_) => {
                let silence = sent.elapsed();
                if silence >= SUSPICIOUS_SILENCE {
                    let error = format!("no reply within {} ms", silence.as_millis());
                    let error = Error::new(Class::Reconnect, error);
                    self.connector.lost(generation, &error);
                }
                return Err(EnqueueError::OutcomeUnknown);
            }
        };
        let Some(code) = &error.code else {
            self.connector.lost(generation, &error);
            return Err(EnqueueError::OutcomeUnknown);
        };
        // What an operator must mend is found again by the prober, which waits for it.
        if let Class::Reconnect | Class::Operator = error.class {
            self.connector.lost(generation, &error);
        }
        tracing::debug!(%error, "redis refused a job");
        Err(EnqueueError::Refused(refusal(code)))
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
    /// The command was handed to the connection and no reply came: the job may
    /// or may not be in the stream.
    #[error("the outcome is unknown: the job was sent to Redis and no reply came")]
    OutcomeUnknown,
    /// Redis answered with an error: the job is not in the stream.
    #[error("{0}")]
    Refused(String),
}
