//! What the parts of one worker share: the way to Redis, what is held, the log of single jobs,
//! and flags.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use super::held::Held;
use super::job_log::JobLog;
use crate::service::jobqueue::redis::{Broker, Connector};

/// What a part is made from. Each part keeps what it needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) broker: Arc<Broker>,
    pub(crate) connector: Connector,
    pub(crate) held: Arc<Held>,
    pub(crate) log: Arc<JobLog>,
    pub(crate) flags: Flags,
}

/// Flags that any part may read. All clones are the same flags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// Cancelled when the shutdown begins: nothing is taken or started any more.
    pub(crate) stop: CancellationToken,
    /// The process cannot do any job for the time being. The program sets and clears it.
    pub(crate) suspended: Arc<AtomicBool>,
    /// An operator has paused the queue. Each look for expired leases reads it from Redis.
    paused: Arc<AtomicBool>,
}

/// What this worker takes from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taking {
    All,
    /// The queue is paused: no entry is read that was never delivered.
    NothingNew,
    /// The worker is suspended: it takes over nothing from dead workers either.
    Nothing,
}

impl Flags {
    pub(crate) fn taking(&self) -> Taking {
        if self.suspended.load(Ordering::Relaxed) {
            Taking::Nothing
        } else if self.paused.load(Ordering::Relaxed) {
            Taking::NothingNew
        } else {
            Taking::All
        }
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }
}
