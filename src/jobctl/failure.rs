//! How a command ends that did not do what it was asked for. Each end has its exit status.

use std::io::{self, ErrorKind};

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Not found, nothing matched, or refused. What was done in part is told already.
    #[error("{0}")]
    NotDone(String),
    /// As before, and stderr says why already.
    #[error("not done")]
    Told,
    #[error("{0}")]
    Usage(String),
    /// Redis is away, or refuses what is needed.
    #[error("{0}")]
    Redis(String),
    #[error("{0}")]
    Interrupted(String),
    /// Nobody reads stdout any more.
    #[error("stdout is closed")]
    Closed,
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
}

impl Failure {
    /// The exit status. [`super::help::JOBCTL`] has the same list.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::NotDone(_) | Self::Told => 1,
            Self::Usage(_) => 2,
            Self::Redis(_) => 69,
            Self::Interrupted(_) => 130,
            Self::Stdout(_) => 74,
            // The reader has what it wanted: `jobctl list dead | head -1`.
            Self::Closed => 0,
        }
    }

    /// What stderr says of it.
    pub(super) fn words(&self) -> Option<String> {
        match self {
            Self::Told | Self::Closed => None,
            Self::Interrupted(done) => Some(format!("stopped: {done}")),
            failure => Some(format!("error: {failure}")),
        }
    }

    /// What became of a line for stdout that could not be written.
    pub(super) fn of_stdout(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Stdout(error),
        }
    }
}
