//! Entries that one reply could not carry together with others, for the large entry fetcher. That
//! such an entry is held, and when it is due, is in its phase.

use std::time::Instant;

use super::Held;
use super::phase::{Event, Phase};
use super::tries::Tries;
use crate::service::jobqueue::redis::EntryId;

/// An entry that is to be fetched by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) bytes: usize,
    pub(crate) deliveries: u32,
    /// When it is to be tried.
    pub(crate) due: Instant,
}

impl Held {
    /// The entry that is to be fetched by itself next, if any is set aside.
    pub(crate) fn next_aside(&self) -> Option<(EntryId, Aside)> {
        let inner = self.lock();
        let asides = inner.entries.iter().filter_map(|(id, entry)| {
            let Phase::SetAside { bytes, due } = entry.phase() else {
                return None;
            };
            let deliveries = entry.deliveries();
            let aside = Aside {
                bytes,
                deliveries,
                due,
            };
            Some((id, aside))
        });
        asides.min_by_key(|(id, aside)| (aside.due, *id))
    }

    /// Waits until another entry may have been set aside. Cancel safe.
    pub(crate) async fn wait_for_aside(&self) {
        self.set_aside.notified().await;
    }

    /// How many entries are set aside.
    pub(crate) fn asides(&self) -> usize {
        self.lock().entries.counts().set_aside
    }

    /// An entry that is set aside is tried now, and again only after a while if that fails.
    /// Returns how it was tried before. After a try that ended its connection, each further try
    /// counts as a delivery.
    pub(crate) fn try_aside(&self, id: EntryId, now: Instant) -> Tries {
        let mut inner = self.lock();
        let before = inner.tries.count(id);
        let due = inner.tries.due(id, now);
        let Some(entry) = inner.entries.get(id) else {
            return before;
        };
        if let Phase::SetAside { bytes, .. } = entry.phase() {
            let counts = u32::from(before.ended > 0);
            let deliveries = entry.deliveries().saturating_add(counts);
            inner.entries.set_deliveries(id, deliveries);
            inner.entries.step(id, Event::SetAside { bytes, due });
        }
        before
    }

    /// A try has ended its connection.
    pub(crate) fn ended_by_aside(&self, id: EntryId) {
        self.lock().tries.ended(id);
    }

    /// An entry that was set aside is not this consumer's any more.
    pub(crate) fn drop_aside(&self, id: EntryId) {
        let mut inner = self.lock();
        let phase = inner.entries.get(id).map(|entry| entry.phase());
        if phase.is_some_and(Phase::is_set_aside) {
            inner.entries.step(id, Event::LoseLease);
        }
        inner.tries.forget(id);
    }
}
