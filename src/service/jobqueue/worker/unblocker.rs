//! Ends the fetcher's blocking read, from another connection, when the worker stops.
//!
//! A read is never dropped, because Redis would still deliver to it. It ends by itself within a
//! second, which is too long for a worker that has nothing to do.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::shared::Shared;
use crate::service::jobqueue::redis::{Broker, Connector};

/// How often the request is repeated: one that comes before the read begins does nothing.
const INTERVAL: Duration = Duration::from_millis(10);

/// Ends the reads of one connection.
#[derive(Debug)]
pub(crate) struct Unblocker {
    broker: Arc<Broker>,
    connector: Connector,
    client_id: Arc<AtomicI64>,
}

impl Unblocker {
    /// `client_id` is the id of the connection, or 0 while there is none.
    pub(crate) fn new(shared: &Shared, client_id: Arc<AtomicI64>) -> Self {
        Self {
            broker: Arc::clone(&shared.broker),
            connector: shared.connector.clone(),
            client_id,
        }
    }

    /// Ends one read after the other. Never returns: drop it when the fetcher has ended.
    pub(crate) async fn run(&self) -> Infallible {
        let mut link = self.connector.shared_link();
        loop {
            let id = self.client_id.load(Ordering::Relaxed);
            if id != 0 && self.connector.is_up() {
                link.connect().await;
                self.broker.unblock(&mut link, id).await;
            }
            sleep(INTERVAL).await;
        }
    }
}
