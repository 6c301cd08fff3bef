//! Entries that one reply could not carry together with others: how they are tried.
//!
//! That such an entry is held, and when it is due, is in its phase. What is here outlives the entry:
//! one that is too large for any reply can be what ends a connection, and with it the epoch.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::Held;
use super::phase::{Event, Phase};
use crate::service::jobqueue::redis::EntryId;

/// How long an entry waits at first after a try that failed. After each further one the pause is
/// twice as long, up to four times this.
pub(super) const PAUSE: Duration = Duration::from_secs(2);
/// How many entries' tries are remembered.
const MAX_REMEMBERED: usize = 1000;

/// An entry that is to be fetched by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) bytes: usize,
    pub(crate) deliveries: u32,
    /// When it is to be tried.
    pub(crate) due: Instant,
}

/// How an entry was tried so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    pub(crate) all: u32,
    /// How many of them ended the connection. A line that is slow does not.
    pub(crate) ended: u32,
}

/// The tries of all entries that were set aside lately.
#[derive(Debug, Default)]
pub(super) struct TryLog(FxHashMap<EntryId, Tries>);

impl TryLog {
    /// Counts a try, and answers what was before it.
    pub(super) fn count(&mut self, id: EntryId) -> Tries {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        let tries = self.0.entry(id).or_default();
        let before = *tries;
        tries.all = tries.all.saturating_add(1);
        before
    }

    /// The latest try has ended its connection.
    pub(super) fn ended(&mut self, id: EntryId) {
        if let Some(tries) = self.0.get_mut(&id) {
            tries.ended = tries.ended.saturating_add(1);
        }
    }

    pub(super) fn forget(&mut self, id: EntryId) {
        self.0.remove(&id);
    }

    /// When an entry is to be tried next.
    pub(super) fn due(&self, id: EntryId, now: Instant) -> Instant {
        now + pause(self.0.get(&id).map_or(0, |tries| tries.all))
    }
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
    /// Answers how it was tried before. Once a try has ended its connection the next ones are
    /// deliveries.
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

fn pause(tries: u32) -> Duration {
    match tries {
        0 => Duration::ZERO,
        tries => PAUSE * 2_u32.pow(tries.min(3) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_waits_longer_after_each_try_up_to_four_times() {
        let pauses = [0, 1, 2, 3, 4, u32::MAX].map(|tries| pause(tries).as_secs());
        assert_eq!(pauses, [0, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn a_bounded_number_of_entries_is_remembered() {
        let mut log = TryLog::default();
        for n in 0..=MAX_REMEMBERED {
            log.count(format!("{n}-0").parse().unwrap());
        }
        assert!(log.0.len() <= MAX_REMEMBERED, "{}", log.0.len());
    }
}
