//! Producing: jobs are appended to the stream over the shared connection.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};

use super::connector::Connector;
use super::entry::EntryId;
use super::error::Error;
use super::keys::{JOB_FIELD, Keys};
use super::reply::entry_id;

/// Jobs that are appended in one round trip.
pub(crate) struct Appends(Pipeline);

impl Appends {
    /// Has room for so many jobs.
    pub(crate) fn with_capacity(jobs: usize) -> Self {
        Self(Pipeline::with_capacity(jobs))
    }

    /// Adds a job for the queue of `keys`.
    pub(crate) fn add(&mut self, keys: &Keys, job: &[u8]) {
        // Its size is known, and there is one command for each job: none of them grows.
        let mut cmd = Cmd::with_capacity(5, job.len() + keys.stream.len() + 16);
        cmd.arg("XADD").arg(&keys.stream).arg("*");
        cmd.arg(JOB_FIELD).arg(job);
        self.0.add_command(cmd);
    }
}

/// The shared connection of a moment at which Redis could be used.
pub(crate) struct Appender {
    connection: MultiplexedConnection,
    generation: u64,
    /// How long a reply may take to a command that carries next to nothing.
    response_timeout: Duration,
}

impl Appender {
    /// None when Redis cannot be used now.
    pub(crate) fn new(connector: &Connector) -> Option<Self> {
        let (status, connection) = connector.shared()?;
        Some(Self {
            connection,
            generation: status.generation,
            response_timeout: connector.response_timeout(),
        })
    }

    /// Which of the process' shared connections this is, for [`Connector::lost`].
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Appends jobs. The reply may take `time` longer than that of a command that carries next
    /// to nothing. Gives the result of each job in their order: the id of its entry, if Redis
    /// told one, or the error that Redis answered.
    ///
    /// # Errors
    /// When no reply came, and the jobs may or may not be appended.
    ///
    /// Not cancel safe: a dropped future's jobs may still be appended.
    pub(crate) async fn append(
        &mut self,
        jobs: &Appends,
        time: Duration,
    ) -> Result<impl Iterator<Item = Result<Option<EntryId>, Error>> + use<>, Error> {
        let Appends(pipeline) = jobs;
        self.connection
            .set_response_timeout(self.response_timeout + time);
        let replies = self
            .connection
            .send_packed_commands(pipeline, 0, pipeline.len())
            .await?;
        if replies.len() != pipeline.len() {
            return Err(Error::unexpected_reply("XADD"));
        }
        Ok(replies.into_iter().map(|reply| match reply {
            Value::ServerError(error) => Err(Error::from(&error)),
            id => Ok(entry_id(&id)),
        }))
    }
}
