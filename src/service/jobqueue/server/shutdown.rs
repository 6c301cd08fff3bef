//! Ends the parts of a worker in an order that loses nothing.
//!
//! The end, from the request to stop until `Worker::run` returns:
//!
//! 1. What is ready is put back, and the fetcher ends. From here on nothing is delivered, so
//!    nothing can be started any more. What its last read brought is put back too.
//! 2. The runners finish the jobs that run. At the deadline the handlers are dropped, and their
//!    jobs are put back.
//! 3. The settler sends the outcomes of all that.
//! 4. The heartbeat and the prober end. The other parts needed them until here: the leases of
//!    jobs that still ran had to be renewed, and an outage had to be overcome.
//! 5. The worker leaves the group, if every outcome was sent. A heartbeat would tell of it again.
//!
//! The promoter, the janitor and the fetcher of large entries end at the request. What they
//! leave undone is done by other workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::exit::Exit;
use super::handle::WorkerHandle;
use crate::service::jobqueue::redis::{Broker, Connector};
use crate::service::jobqueue::worker::held::Held;
use crate::service::jobqueue::worker::job_log::JobLog;
use crate::service::jobqueue::worker::runner::Runners;
use crate::service::jobqueue::worker::unblocker::Unblocker;

/// How long dropped handlers may take to end, after the shutdown's deadline.
const CUT_OFF_GRACE: Duration = Duration::from_millis(150);
/// How long the last outcomes may take to get to Redis, after the shutdown's deadline.
const SETTLE_GRACE: Duration = Duration::from_millis(350);
/// How long leaving the group may take. If it fails, the janitors of other workers do it.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(100);

/// The parts that the shutdown has to wait for or to end.
pub(super) struct Parts {
    pub(super) runners: Arc<Runners>,
    pub(super) held: Arc<Held>,
    pub(super) log: Arc<JobLog>,
    pub(super) fetcher: JoinHandle<()>,
    pub(super) unblocker: Unblocker,
    pub(super) settler: JoinHandle<()>,
    /// Ends the settler once everything is settled.
    pub(super) finish: CancellationToken,
    /// Ends the heartbeat and the prober, which the other parts need until they have ended.
    pub(super) end: CancellationToken,
}

/// Ends all parts of a worker whose `Worker::run` is dropped before it is over.
pub(super) struct EndWhenDropped {
    held: Arc<Held>,
    tokens: [CancellationToken; 4],
    is_over: bool,
}

impl EndWhenDropped {
    pub(super) fn new(parts: &Parts, handle: &WorkerHandle) -> Self {
        Self {
            held: Arc::clone(&parts.held),
            tokens: [
                handle.flags.stop.clone(),
                handle.cutoff.clone(),
                parts.finish.clone(),
                parts.end.clone(),
            ],
            is_over: false,
        }
    }

    /// All parts have ended.
    pub(super) fn disarm(mut self) {
        self.is_over = true;
    }
}

impl Drop for EndWhenDropped {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // First this: each handler that is dropped makes room for the next job that is ready.
        self.held.stop_starting();
        for token in &self.tokens {
            token.cancel();
        }
    }
}

impl Parts {
    /// Ends the parts, in the order that the head of this file gives.
    pub(super) async fn shut_down(
        self,
        broker: &Broker,
        handle: &WorkerHandle,
        deadline: Instant,
    ) -> Exit {
        let Self { runners, held, .. } = self;
        stop_fetching(&held, self.fetcher, &self.unblocker, deadline).await;
        finish_running(&runners, &handle.cutoff, deadline).await;

        self.finish.cancel();
        let last = deadline.max(Instant::now()) + SETTLE_GRACE;
        drop(timeout_at(last.into(), self.settler).await);
        let (unsettled, running) = (held.unsettled(), held.running());
        self.end.cancel();
        if unsettled + running == 0 {
            leave(broker, &handle.connector).await;
        } else {
            warn!(
                unsettled,
                running, "some jobs have no outcome in redis; they will run again"
            );
        }
        self.log.tell_rest();

        if handle.flags.is_broken() {
            Exit::Broken
        } else if runners.is_unfit() {
            Exit::Unfit
        } else if unsettled + running + runners.cut_off() > 0 {
            Exit::CutOff
        } else {
            Exit::Clean
        }
    }
}

/// Waits for the jobs that run, and cuts them off at the deadline.
async fn finish_running(runners: &Runners, cutoff: &CancellationToken, deadline: Instant) {
    if timeout_at(deadline.into(), runners.wait()).await.is_err() {
        warn!(
            running = runners.held().running(),
            "the shutdown's deadline is over; cutting jobs off"
        );
        cutoff.cancel();
        // A handler that does not yield cannot be dropped, so this wait has an end.
        drop(timeout(CUT_OFF_GRACE, runners.wait()).await);
    }
}

/// Leaves the group, if Redis knows of nothing that is pending for this worker.
async fn leave(broker: &Broker, connector: &Connector) {
    if !connector.is_up() {
        return;
    }
    let mut link = connector.shared_link();
    let leave = async {
        link.connect().await;
        broker.leave(&mut link).await
    };
    drop(timeout(LEAVE_TIMEOUT, leave).await);
}

/// Puts back all that was not started, and waits until the fetcher has ended.
async fn stop_fetching(
    held: &Held,
    fetcher: JoinHandle<()>,
    unblocker: &Unblocker,
    deadline: Instant,
) {
    // This does not wait for the fetcher: while its last read ends, jobs would be started.
    held.stop_starting();
    tokio::select! {
        // If the read has not ended at the deadline, other workers run what it was about to get
        // once the leases are over.
        _ = timeout_at(deadline.into(), fetcher) => {}
        _ = unblocker.run() => {}
    }
}
