//! What the parts of one worker share: the way to Redis, what is held, the log of single jobs,
//! and flags.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::held::Held;
use super::job_log::JobLog;
use super::tally::Tally;
use crate::service::jobqueue::redis::{Broker, Connector};

/// What a part is made from. Each part keeps what it needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) broker: Arc<Broker>,
    pub(crate) connector: Connector,
    pub(crate) held: Arc<Held>,
    pub(crate) log: Arc<JobLog>,
    pub(crate) tally: Arc<Tally>,
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
    /// A part has panicked.
    broken: Arc<AtomicBool>,
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

    /// Runs a part of the worker. When it panics, the worker stops, so that a new process can take
    /// its place. Otherwise the other parts would go on without the one that is missing.
    pub(crate) async fn guard(&self, part: &'static str, run: impl Future<Output = ()>) {
        if AssertUnwindSafe(run).catch_unwind().await.is_err() {
            self.part_panicked(part);
        }
    }

    /// The same for what a part has another thread do.
    pub(crate) fn guard_call(&self, part: &'static str, call: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            self.part_panicked(part);
        }
    }

    fn part_panicked(&self, part: &'static str) {
        error!(part, "a part of this worker panicked; stopping");
        self.broken.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }

    /// Whether a part has panicked.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_stops_the_worker() {
        let flags = Flags::default();
        flags.guard("good", async {}).await;
        flags.guard_call("good", || {});
        assert!(!flags.stop.is_cancelled() && !flags.is_broken());
        flags.guard("bad", async { panic!("on purpose") }).await;
        assert!(flags.stop.is_cancelled() && flags.is_broken());
        let flags = Flags::default();
        flags.guard_call("bad", || panic!("on purpose"));
        assert!(flags.stop.is_cancelled() && flags.is_broken());
    }
}
