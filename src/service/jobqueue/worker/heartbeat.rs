//! Renews the lease of everything this process holds, asks whether somebody has cancelled any of it, and
//! tells of this worker.
//!
//! It has a thread, a runtime and a connection of its own: a handler that burns every executor
//! thread, or a reply that takes long, cannot make others think that this process is dead.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio::runtime::Builder;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::held::{Held, Lease};
use super::shared::{Flags, Shared};
use super::trail::{self, Step};
use crate::VERSION;
use crate::config::WorkerConfig;
use crate::service::jobqueue::redis::{
    Announcement, Broker, Class, Connector, EntryId, LONG_TRIP, Link, NAME_BYTES, OPERATOR_RETRY,
    Window,
};
use crate::threads;

/// How many leases one command renews.
const BATCH: usize = 500;

/// The renewals of one worker.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    broker: Arc<Broker>,
    held: Arc<Held>,
    interval: Duration,
    /// How many jobs this worker runs at once.
    concurrency: usize,
    host: String,
    began: Instant,
    stop: CancellationToken,
}

impl Heartbeat {
    /// The heartbeat of a worker with these settings.
    pub(crate) fn new(shared: &Shared, config: &WorkerConfig, stop: CancellationToken) -> Self {
        Self {
            broker: Arc::clone(&shared.broker),
            held: Arc::clone(&shared.held),
            interval: config.heartbeat(),
            concurrency: config.concurrency,
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            began: Instant::now(),
            stop,
        }
    }

    /// Starts the thread, which ends soon after `stop` is cancelled. Nobody waits for it: one more
    /// renewal does no harm. `flags` learn of its panic: without renewals the leases run out.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub(crate) fn spawn(self, connector: &Connector, flags: Flags) -> std::io::Result<()> {
        let link = connector.link("heartbeat", Duration::ZERO);
        let (told, built) = mpsc::sync_channel(1);
        // The thread builds its runtime: where the thread is refused, there is none to be dropped
        // here, which must not be done within another runtime.
        threads::spawn("heartbeat", move || {
            match threads::runtime(&mut Builder::new_current_thread()) {
                Ok(runtime) => {
                    told.send(Ok(())).ok();
                    runtime.block_on(flags.guard("heartbeat", self.run(link)));
                }
                Err(error) => drop(told.send(Err(error))),
            }
        })?;
        // The thread says one or the other.
        built.recv().unwrap_or(Ok(()))
    }

    async fn run(self, mut link: Link) {
        let mut window = Window::new(LONG_TRIP);
        while !self.stop.is_cancelled() {
            tokio::select! {
                fresh = link.connect() => if fresh { window.connected() },
                () = self.stop.cancelled() => return,
            }
            let pause = match self.beat(&mut link, &mut window).await {
                Ok(()) => {
                    // A worker that has left is not to be told of again.
                    if !self.stop.is_cancelled() {
                        self.announce(&mut link).await;
                    }
                    self.interval
                }
                Err(Class::Operator) => OPERATOR_RETRY.min(self.interval),
                // The link waits until Redis is there again, and then this is urgent.
                Err(_) => Duration::ZERO,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Renews all leases once. A command is sent also when there are none: a refusal has to be
    /// noticed before it costs a lease, and its end when there is nothing left to renew.
    async fn beat(&self, link: &mut Link, window: &mut Window) -> Result<(), Class> {
        let leases = self.held.renewable(Instant::now());
        let mut left = &leases[..];
        loop {
            let (batch, rest) = left.split_at(batch_size(left.len(), window.bytes()));
            left = rest;
            let ids: Vec<EntryId> = batch.iter().map(|lease| lease.id).collect();
            let (bytes, began) = (ids.len() * NAME_BYTES, Instant::now());
            let owned = self.broker.renew(link, &ids, window.time(bytes)).await;
            match &owned {
                Ok(_) => window.passed(bytes, began.elapsed()),
                Err(_) => window.lost(bytes),
            }
            drop_lost(&self.held, batch, &owned.map_err(|error| error.class)?);
            if left.is_empty() {
                break;
            }
        }
        // Only now, so that no renewal waits for it.
        let mut cancelled = FxHashSet::default();
        for batch in leases.chunks(BATCH) {
            let ids: Vec<EntryId> = batch.iter().map(|lease| lease.id).collect();
            // After an error it is asked again with the next heartbeat.
            cancelled.extend(self.broker.cancelled(link, &ids).await.unwrap_or_default());
        }
        self.held.cancel(&cancelled);
        Ok(())
    }

    /// Tells of this worker.
    async fn announce(&self, link: &mut Link) {
        let (running, held) = (self.held.running(), self.held.len());
        let announcement = Announcement {
            host: &self.host,
            pid: std::process::id(),
            version: VERSION,
            concurrency: self.concurrency,
            running,
            held,
            uptime: self.began.elapsed(),
        };
        self.broker.announce(link, &announcement).await;
    }
}

/// How many of `left` leases the next command renews, when a round trip carries `bytes`.
fn batch_size(left: usize, bytes: usize) -> usize {
    left.min((bytes / NAME_BYTES).clamp(1, BATCH))
}

/// Drops what Redis says is no longer this consumer's, where that can still be done.
fn drop_lost(held: &Held, leases: &[Lease], owned: &[bool]) {
    let lost = leases.iter().zip(owned).filter(|(_, owned)| !**owned);
    let lost: Vec<Lease> = lost.map(|(lease, _)| *lease).collect();
    if lost.is_empty() {
        return;
    }
    for lease in &lost {
        // It was settled a moment ago, or another worker has taken it over. If a handler runs it
        // here, only a success still counts: Redis refuses each other outcome of a worker that is
        // not the owner.
        debug!(entry_id = %lease.id, "an entry is no longer pending for this worker");
    }
    for delivery in held.lose(lost) {
        if trail::is_on() {
            delivery.tell(Step::LeaseLost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::worker::held::Admission;
    use crate::service::jobqueue::worker::held::tests::{LIMITS, delivery, id};

    #[test]
    fn a_batch_is_what_a_command_and_the_line_carry() {
        let line = |names| names * NAME_BYTES;
        assert_eq!(batch_size(0, line(1000)), 0);
        assert_eq!(batch_size(499, line(1000)), 499);
        assert_eq!(batch_size(501, line(1000)), 500);
        assert_eq!(batch_size(501, line(100)), 100);
        assert_eq!(batch_size(501, 1), 1, "or there would be no end");
    }

    #[test]
    fn what_another_worker_has_taken_is_dropped_and_the_rest_stays() {
        let (held, now) = (Held::new(LIMITS, || {}), Instant::now());
        let admission = Admission {
            ready: (1..=4).map(delivery).collect(),
            ..Admission::default()
        };
        held.admit(admission, 0, now);
        let running = held.start(now).unwrap();
        let mut leases = held.renewable(now);
        leases.sort_by_key(|lease| lease.id);
        drop_lost(&held, &leases, &[false, true, false, true]);
        let mut left: Vec<_> = held.ids().into_iter().collect();
        left.sort();
        assert_eq!(left, [running.id, id(2), id(4)], "it runs on");
    }
}
