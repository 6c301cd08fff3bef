//! Renews the lease of everything this process holds.
//!
//! From a thread, a runtime and a connection of its own: a handler that burns every
//! executor thread, or a reply that takes long, cannot make others think that this
//! process is dead.

use std::iter;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::broker::Broker;
use super::connection::{Connector, OPERATOR_RETRY};
use super::error::Class;
use super::held::Held;
use super::link::Link;

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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let link = connector.link("heartbeat", Duration::ZERO);
        thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || runtime.block_on(self.run(link)))?;
        Ok(())
    }

    async fn run(self, mut link: Link) {
        while !self.stop.is_cancelled() {
            tokio::select! {
                _ = link.connect() => {}
                () = self.stop.cancelled() => return,
            }
            let pause = match self.beat(&mut link).await {
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

    async fn beat(&self, link: &mut Link) -> Result<(), Class> {
        let held = self.held.renewable(Instant::now(), self.limit);
        // At least once: a refusal has to be noticed before it costs a lease, and its end
        // when there is nothing left to renew.
        let (first, rest) = held.split_at(held.len().min(BATCH));
        for ids in iter::once(first).chain(rest.chunks(BATCH)) {
            let owned = self
                .broker
                .renew(link, ids)
                .await
                .map_err(|error| error.class)?;
            for (id, _) in ids.iter().zip(owned).filter(|(_, owned)| !owned) {
                // Settled a moment ago, or taken over by another worker: then only a
                // success of the handler here still counts, by the fences.
                debug!(%id, "an entry is no longer pending for this worker");
            }
        }
        Ok(())
    }
}
