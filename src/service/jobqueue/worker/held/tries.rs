//! Remembers the tries of large entries: how many there were, and how many ended the connection.
//!
//! This outlives the entry: one that is too large for any reply can be what ends a connection, and
//! with it the epoch.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::service::jobqueue::redis::EntryId;

/// How long an entry waits at first after a try that failed. After each further one the pause is
/// twice as long, up to four times this.
pub(super) const PAUSE: Duration = Duration::from_secs(2);
/// How many entries' tries are remembered.
const MAX_REMEMBERED: usize = 1000;

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
