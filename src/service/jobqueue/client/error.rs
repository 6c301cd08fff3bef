//! Why a job was not appended, and what a client may be told of it.

/// Why a job was not appended, or may not have been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// Nothing was sent, because there is no connection or the client was closed.
    #[error("Redis is not connected")]
    NotConnected,
    /// Nothing was sent: the job waited behind others to which no reply came in time, or the client
    /// was closed while it waited.
    #[error("Redis does not answer, and the job was not sent")]
    NotSent,
    /// The command was handed to the connection and no reply came: the job may
    /// or may not be in the stream.
    #[error("the outcome is unknown: the job was sent to Redis and no reply came")]
    OutcomeUnknown,
    /// Redis answered with an error: the job is not in the stream.
    #[error("{0}")]
    Refused(String),
    /// Nothing was sent, because workers would bury the job: it has more than 256 KiB, a delay of
    /// more than 366 days, or more than 1000 retries.
    #[error("{0}")]
    Malformed(String),
}

impl EnqueueError {
    /// Redis answered with the error `code`. An API client reads the text of this error, so
    /// Redis' own words stay in the log.
    pub(super) fn refused(code: &str) -> Self {
        Self::Refused(match code {
            "OOM" => "Redis is out of memory (maxmemory is reached)".to_owned(),
            "MISCONF" => "Redis cannot write to its disk".to_owned(),
            "READONLY" => "Redis is a read-only replica at the moment".to_owned(),
            "LOADING" => "Redis is loading its data".to_owned(),
            code => format!("Redis refused the job ({code})"),
        })
    }
}
