//! The way to a worker while it runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio_util::sync::CancellationToken;

use crate::service::jobqueue::redis::Connector;
use crate::service::jobqueue::worker::shared::Flags;

/// Asks a worker how it is while it runs, and asks it to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    pub(super) consumer: Arc<str>,
    pub(super) connector: Connector,
    pub(super) flags: Flags,
    /// Cancelled at the shutdown's deadline.
    pub(super) cutoff: CancellationToken,
}

impl WorkerHandle {
    /// The worker's name in the queue's consumer group: host, process and a random part.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Asks the worker to stop. [`Worker::run`](crate::Worker::run) says how long that takes.
    pub fn stop(&self) {
        self.flags.stop.cancel();
    }

    /// Whether jobs can be taken from Redis now. If they can, there may be warnings for an operator,
    /// such as of memory that is nearly full. Redis is asked once a second at most, however often this is
    /// called. Cancel safe.
    ///
    /// # Errors
    /// The reason when they cannot, in words for an operator.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        self.connector.ready().await
    }

    /// Cancelled when the worker is asked to stop.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.flags.stop
    }

    /// Cancelled at the shutdown's deadline: whoever still waits for anything gives up.
    pub(crate) fn cutoff(&self) -> &CancellationToken {
        &self.cutoff
    }

    /// While this is set, the worker takes no more jobs and goes on with those it has. It is
    /// for a process that cannot do any job for the time being.
    pub(crate) fn suspended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flags.suspended)
    }
}
