//! Fetches by themselves, one at a time, entries that one reply could not carry.
//!
//! On a connection of its own, which is opened when there is such an entry: one that does not
//! get through ends its connection, or takes long, and the reads of others must not wait for
//! that. The entries are in [`Held`] all the while, so nobody else starts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::held::{Aside, Held};
use super::trail::Step;
use super::triage::Triage;
use crate::service::jobqueue::redis::broker::{Broker, Take};
use crate::service::jobqueue::redis::connector::OPERATOR_RETRY;
use crate::service::jobqueue::redis::error::{Class, Error};
use crate::service::jobqueue::redis::link::Link;
use crate::service::jobqueue::redis::reply::{Body, Entry, EntryId};
use crate::service::jobqueue::redis::window::time_for;

/// How often it looks for a free slot while there is none.
const ROOM_CHECK: Duration = Duration::from_millis(100);
/// How often the time for a try is doubled at most.
const MAX_DOUBLINGS: u32 = 4;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct LargeEntryFetcher {
    pub(crate) broker: Arc<Broker>,
    pub(crate) held: Arc<Held>,
    pub(crate) triage: Triage,
    pub(crate) link: Link,
    pub(crate) lease: Duration,
    /// The queue is paused, or this worker takes no jobs.
    pub(crate) paused: Arc<AtomicBool>,
    pub(crate) suspended: Arc<AtomicBool>,
    pub(crate) stop: CancellationToken,
}

impl LargeEntryFetcher {
    /// Fetches until `stop`. What it had asked for then is found by its lease.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        let fetch = async {
            loop {
                let (id, aside) = self.next().await;
                if let Err(error) = self.fetch(id, aside).await
                    && error.class == Class::Operator
                {
                    sleep(OPERATOR_RETRY).await;
                }
            }
        };
        tokio::select! {
            () = fetch => {}
            () = stop.cancelled() => {}
        }
    }

    /// Waits until an entry is to be tried, and may be run.
    async fn next(&self) -> (EntryId, Aside) {
        loop {
            let now = Instant::now();
            match self.held.next_aside() {
                None => self.held.wait_for_aside().await,
                Some((_, aside)) if aside.due > now => {
                    tokio::select! {
                        () = sleep_until(aside.due.into()) => {}
                        () = self.held.wait_for_aside() => {}
                    }
                }
                Some(next) if self.may_fetch(now) => return next,
                Some(_) => sleep(ROOM_CHECK).await,
            }
        }
    }

    fn may_fetch(&self, now: Instant) -> bool {
        let stopped = [&self.paused, &self.suspended];
        let stopped = stopped.iter().any(|flag| flag.load(Ordering::Relaxed));
        !stopped && self.held.room(now).entries > 0
    }

    /// Tries one entry, with as much time as its bytes may take, and more each time. Once one
    /// try has ended its connection, which Redis does to what is too large for its output
    /// buffer, the next ones count as deliveries, and after the last it is told to the triage.
    async fn fetch(&mut self, id: EntryId, aside: Aside) -> Result<(), Error> {
        self.link.connect().await;
        let epoch = self.link.epoch();
        self.held.wait_recognised(epoch).await;
        let tries = self.held.try_aside(id, Instant::now());
        let (bytes, deliveries) = (aside.bytes, aside.deliveries);
        if tries.ended > 0 && deliveries >= self.triage.max_deliveries {
            let entry = Entry {
                id,
                body: Body::TooLarge(bytes),
                bytes,
                // The one that it does not get.
                deliveries: deliveries.saturating_add(1),
            };
            self.triage.deliver(Step::Delivered, vec![entry], epoch);
            return Ok(());
        }
        let take = Take {
            lease: self.lease,
            time: time_for(bytes) * 2_u32.pow(tries.all.min(MAX_DOUBLINGS)),
            max_bytes: bytes,
            counts: tries.ended > 0,
        };
        let took = self.broker.take(&mut self.link, take, &[id]).await;
        if let Err(error) = &took
            && error.code.is_none()
            && !error.is_timeout()
        {
            self.held.ended_by_aside(id);
        }
        let (_, entries) = took?;
        if entries.is_empty() {
            self.held.drop_aside(id);
        }
        self.triage.deliver(Step::Delivered, entries, epoch);
        Ok(())
    }
}
