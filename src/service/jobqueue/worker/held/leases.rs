//! Which leases are renewed, and what becomes of an entry whose lease is lost.
//!
//! The answer to a renewal is as old as its way back from Redis. Meanwhile the entry may have been
//! started, settled, or delivered once more, and then the answer says nothing of it:
//!
//! 1. The heartbeat takes the ids. Entry X is `Ready`, with serial 5.
//! 2. Redis renews them: X is another consumer's.
//! 3. The lease of that one ends, and the fetcher claims X back. X is held, so it is not started
//!    again, but it is this consumer's from now on: it gets serial 6.
//! 4. The heartbeat reads the answer: X, with serial 5, is lost. No entry has that serial, so X
//!    stays `Ready`.
//!
//! Without step 3, step 4 drops X. If the claim's reply arrives after step 4, X is no longer held,
//! and the fetcher puts back what it claimed.

use std::sync::Arc;
use std::time::Instant;

use super::Held;
use super::phase::Phase;
use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::worker::outcome::Delivery;

/// The lease of an entry, as it was when the ids for a renewal were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: EntryId,
    /// The entry's serial while it is not started. Otherwise its loss changes nothing here: a
    /// handler that runs goes on, since its success counts whoever owns the entry, and an outcome is
    /// the settler's.
    ready: Option<u64>,
}

impl Held {
    /// The leases to renew: those of all entries but the ones that are put back, and the ones whose
    /// handlers hang.
    pub(crate) fn renewable(&self, now: Instant) -> Vec<Lease> {
        let inner = self.lock();
        let entries = inner.entries.iter();
        let renewed = entries.filter(|(_, entry)| entry.phase().is_renewed(now));
        let leases = renewed.map(|(id, entry)| Lease {
            id,
            ready: (entry.phase() == Phase::Ready).then_some(entry.serial()),
        });
        leases.collect()
    }

    /// Redis says that these are no longer this consumer's. Drops those that were not started and
    /// still are not, and answers them: whoever owns them now runs them.
    pub(crate) fn lose(&self, leases: impl IntoIterator<Item = Lease>) -> Vec<Arc<Delivery>> {
        let mut inner = self.lock();
        let lost = leases.into_iter().filter_map(|lease| {
            let serial = lease.ready?;
            inner.entries.lose(lease.id, serial)
        });
        let lost: Vec<Arc<Delivery>> = lost.collect();
        if !lost.is_empty() {
            inner.keep_ready();
        }
        drop(inner);
        if !lost.is_empty() {
            self.room.notify_one();
        }
        lost
    }

    /// A claim has brought entries that are held already: what an older renewal said of those that
    /// are not started is over.
    pub(crate) fn claimed_again(&self, ids: impl IntoIterator<Item = EntryId>) {
        let mut inner = self.lock();
        for id in ids {
            inner.entries.renumber_ready(id);
        }
    }
}
