//! Fetches entries that were set aside because one reply could not carry them: each by itself,
//! one at a time.
//!
//! It has a connection of its own, which is opened when there is such an entry. Such an entry
//! takes long, or ends its connection, and the reads of the fetcher must not wait for that. The
//! entries are in [`Held`] all the time, so nobody else in this process starts them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use super::held::{Aside, Held, Tries};
use super::shared::{Flags, Shared, Taking};
use super::trail::Step;
use super::triage::Triage;
use crate::service::jobqueue::redis::{
    Body, Broker, Class, Entry, EntryId, Error, Link, OPERATOR_RETRY, Take, time_for,
};

/// How often it looks whether there is room, while there is none.
const ROOM_CHECK: Duration = Duration::from_millis(100);
/// How many times the time for a try is doubled at most.
const MAX_DOUBLINGS: u32 = 4;

/// Fetches large entries for one worker.
#[derive(Debug)]
pub(crate) struct LargeEntryFetcher {
    broker: Arc<Broker>,
    held: Arc<Held>,
    triage: Triage,
    flags: Flags,
    link: Link,
    lease: Duration,
    max_deliveries: u32,
}

impl LargeEntryFetcher {
    pub(crate) fn new(
        shared: &Shared,
        triage: Triage,
        lease: Duration,
        max_deliveries: u32,
    ) -> Self {
        Self {
            broker: Arc::clone(&shared.broker),
            held: Arc::clone(&shared.held),
            triage,
            flags: shared.flags.clone(),
            link: shared.connector.link("aside", Duration::ZERO),
            lease,
            max_deliveries,
        }
    }

    /// Fetches until the stop is requested. An entry that was asked for then is found by other
    /// workers when its lease ends.
    pub(crate) async fn run(mut self) {
        let stop = self.flags.stop.clone();
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

    /// Waits until an entry is to be tried, and there is room to run it.
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
        self.flags.taking() == Taking::All && self.held.room(0, Duration::ZERO, now).entries > 0
    }

    /// Tries to fetch one entry.
    async fn fetch(&mut self, id: EntryId, aside: Aside) -> Result<(), Error> {
        self.link.connect().await;
        let epoch = self.link.epoch();
        self.held.wait_recognised(epoch).await;
        let tries = self.held.try_aside(id, Instant::now());
        let Some(take) = next_try(self.lease, self.max_deliveries, aside, tries) else {
            let entry = given_up(id, aside);
            self.triage.deliver(Step::Delivered, vec![entry], epoch);
            return Ok(());
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
        let cancelled = self.broker.cancelled(&mut self.link, &[id]).await?;
        self.triage
            .deliver_again(Step::Delivered, entries, &cancelled, epoch);
        Ok(())
    }
}

/// How an entry is tried next, or none when it had its last try.
///
/// It gets as much time as its bytes may take, and more at each try. A try that ends the
/// connection is a sign that the entry is too large for Redis' output buffer. From then on each
/// try counts as a delivery, and the entry is given up when it has had `max_deliveries`.
fn next_try(lease: Duration, max_deliveries: u32, aside: Aside, tries: Tries) -> Option<Take> {
    let counts = tries.ended > 0;
    if counts && aside.deliveries >= max_deliveries {
        return None;
    }
    Some(Take {
        lease,
        time: time_for(aside.bytes) * 2_u32.pow(tries.all.min(MAX_DOUBLINGS)),
        max_bytes: aside.bytes,
        counts,
    })
}

/// What triage gets of an entry that cannot be fetched: one delivery more than it may have, so
/// that it is buried.
fn given_up(id: EntryId, aside: Aside) -> Entry {
    Entry {
        id,
        body: Body::TooLarge(aside.bytes),
        bytes: aside.bytes,
        deliveries: aside.deliveries.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);
    const BYTES: usize = 256 * 1024;

    fn try_after(deliveries: u32, all: u32, ended: u32) -> Option<Take> {
        let aside = Aside {
            bytes: BYTES,
            deliveries,
            due: Instant::now(),
        };
        next_try(LEASE, 5, aside, Tries { all, ended })
    }

    #[test]
    fn each_try_may_take_twice_as_long_up_to_a_limit() {
        let times = (0..7).map(|all| try_after(1, all, 0).unwrap().time);
        let shortest = time_for(BYTES);
        let expected = [1, 2, 4, 8, 16, 16, 16].map(|factor| shortest * factor);
        assert_eq!(times.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_try_counts_as_a_delivery_once_one_has_ended_its_connection() {
        for (ended, counts) in [(0, false), (1, true), (2, true)] {
            let take = try_after(1, 3, ended).unwrap();
            assert_eq!(take.counts, counts);
            assert_eq!(take.max_bytes, BYTES, "the whole entry");
        }
    }

    #[test]
    fn only_an_entry_that_ends_connections_is_given_up() {
        assert!(try_after(5, 100, 0).is_some(), "the line is only slow");
        assert!(try_after(4, 4, 1).is_some());
        assert!(try_after(5, 5, 1).is_none());
        let aside = Aside {
            bytes: BYTES,
            deliveries: 5,
            due: Instant::now(),
        };
        let entry = given_up("5-1".parse().unwrap(), aside);
        assert_eq!(entry.deliveries, 6, "more than it may have");
        assert_eq!(entry.body, Body::TooLarge(BYTES));
    }
}
