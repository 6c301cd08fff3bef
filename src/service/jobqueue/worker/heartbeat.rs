//! Renews the lease of everything this process holds.
//!
//! From a thread, a runtime and a connection of its own: a handler that burns every
//! executor thread, or a reply that takes long, cannot make others think that this
//! process is dead.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::held::Held;
use crate::service::jobqueue::redis::broker::Broker;
use crate::service::jobqueue::redis::connector::{Connector, OPERATOR_RETRY};
use crate::service::jobqueue::redis::error::Class;
use crate::service::jobqueue::redis::link::Link;
use crate::service::jobqueue::redis::window::{LONG_TRIP, NAME_BYTES, Window};
use crate::threads;

/// How many leases one command renews.
const BATCH: usize = 500;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) broker: Arc<Broker>,
    pub(crate) held: Arc<Held>,
    pub(crate) interval: Duration,
    /// A handler that was started longer ago is not renewed: it hangs.
    pub(crate) limit: Duration,
    pub(crate) stop: CancellationToken,
}

impl Heartbeat {
    /// Starts the thread, which ends soon after [`Self::stop`] is cancelled. Nobody
    /// waits for it: a renewal more does no harm.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub(crate) fn spawn(self, connector: &Connector) -> std::io::Result<()> {
        let link = connector.link("heartbeat", Duration::ZERO);
        let (told, built) = mpsc::sync_channel(1);
        // A runtime must not be dropped here, where the thread was refused: the thread builds it.
        threads::spawn("heartbeat", move || {
            match threads::runtime(&mut Builder::new_current_thread()) {
                Ok(runtime) => {
                    told.send(Ok(())).ok();
                    runtime.block_on(self.run(link));
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
                Ok(()) => self.interval,
                Err(Class::Operator) => OPERATOR_RETRY.min(self.interval),
                // The link waits until Redis is there again, then it is urgent.
                Err(_) => Duration::ZERO,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn beat(&self, link: &mut Link, window: &mut Window) -> Result<(), Class> {
        let held = self.held.renewable(Instant::now(), self.limit);
        // At least once: a refusal has to be noticed before it costs a lease, and its end
        // when there is nothing left to renew.
        let mut left = &held[..];
        loop {
            let fit = (window.bytes() / NAME_BYTES).min(BATCH);
            let (ids, rest) = left.split_at(left.len().min(fit));
            left = rest;
            let (bytes, began) = (ids.len() * NAME_BYTES, Instant::now());
            let owned = self.broker.renew(link, ids, window.time(bytes)).await;
            match &owned {
                Ok(_) => window.passed(bytes, began.elapsed()),
                Err(_) => window.lost(bytes),
            }
            let owned = owned.map_err(|error| error.class)?;
            for (id, _) in ids.iter().zip(owned).filter(|(_, owned)| !owned) {
                // Settled a moment ago, or taken over by another worker: then only a
                // success of the handler here still counts, by the fences.
                debug!(entry_id = %id, "an entry is no longer pending for this worker");
            }
            if left.is_empty() {
                return Ok(());
            }
        }
    }
}
