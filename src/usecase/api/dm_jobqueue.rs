//! Registers jobs: the client of the queue brings them to the workers. Which jobs may be registered is
//! the business of the requests, such as `registration`.

use std::time::{Duration, Instant};

use crate::service::jobqueue::client::{Client, EnqueueError};
use crate::service::jobqueue::job::Job;
use crate::throttle::Throttle;

/// Registers jobs of any type. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DmJobqueueUsecase {
    client: Client,
    /// Limits the log lines about failures, by their text.
    failures: Throttle<String>,
}

impl DmJobqueueUsecase {
    /// A usecase that registers through `client`.
    pub(crate) fn new(client: Client) -> Self {
        let failures = Throttle::new(1, |why, suppressed| {
            let why = why.map_or("several reasons", String::as_str);
            tracing::warn!(suppressed, "cannot register jobs, as before: {why}");
        });
        Self { client, failures }
    }

    /// Registers the job and returns its id, within `time_left`. A failure is logged.
    ///
    /// # Errors
    ///
    /// The errors of the client. After [`EnqueueError::OutcomeUnknown`] the job may have been
    /// registered. It is not registered a second time.
    pub(crate) async fn register(
        &self,
        job: &Job,
        time_left: Duration,
    ) -> Result<String, EnqueueError> {
        let enqueued = self.client.enqueue(job, time_left).await;
        enqueued.inspect_err(|why| self.log_failure(why))?;
        Ok(job.id().to_owned())
    }

    /// Logs a failure, but not a lost connection: the client of the queue logs each outage once.
    fn log_failure(&self, why: &EnqueueError) {
        if !matches!(why, EnqueueError::NotConnected)
            && let Some(suppressed) = self.failures.admit(why.to_string(), Instant::now())
        {
            tracing::warn!(suppressed, "cannot register a job: {why}");
        }
    }
}
