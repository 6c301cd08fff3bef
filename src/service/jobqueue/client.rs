//! The producer: appends jobs to the stream.

use std::time::Duration;

use super::job::Job;

/// Appends jobs to one queue's stream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {}

impl Client {
    /// Appends `job` and waits for Redis to confirm it, at most until `deadline`.
    pub async fn enqueue(&self, job: &Job, deadline: Duration) -> Result<(), EnqueueError> {
        let _ = (job, deadline);
        Err(EnqueueError::NotConnected)
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
    #[error("Redis refused the job: {0}")]
    Refused(String),
}
