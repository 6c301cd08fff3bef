//! Registers delay-print jobs: `registration` makes the job, and the client of the queue brings it to
//! the workers.

use std::time::Duration;

use super::registration::Registration;
use crate::service::jobqueue::client::{Client, EnqueueError};

/// Registers delay-print jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DmJobqueueUsecase {
    client: Client,
}

impl DmJobqueueUsecase {
    /// A usecase that registers through `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Registers the job and returns its id, within `time_left`.
    ///
    /// # Errors
    ///
    /// The errors of the client. After [`EnqueueError::OutcomeUnknown`] the job may have been
    /// registered. It is not registered a second time.
    pub(crate) async fn register(
        &self,
        registration: Registration,
        time_left: Duration,
    ) -> Result<String, EnqueueError> {
        let job = registration.into_job();
        self.client.enqueue(&job, time_left).await?;
        Ok(job.id().to_owned())
    }
}
