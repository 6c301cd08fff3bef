//! What the settler does with the entries that are held: takes their outcomes and says what became
//! of those, and in a new epoch finds out which entries are still the same.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashSet;

use super::Held;
use super::inner::Inner;
use super::phase::Event;
use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::worker::outcome::{Delivery, Outcome, Settlement};

impl Held {
    /// Up to `limit` outcomes, oldest first.
    pub(crate) fn take_outcomes(&self, limit: usize) -> Vec<Settlement> {
        let mut inner = self.lock();
        let count = inner.outcomes.len().min(limit);
        let Inner {
            entries, outcomes, ..
        } = &mut *inner;
        let taken = outcomes.drain(..count);
        taken
            .inspect(|settlement| {
                entries.step_settlement(settlement, Event::Send);
            })
            .collect()
    }

    pub(crate) fn has_outcomes(&self) -> bool {
        !self.lock().outcomes.is_empty()
    }

    /// Whether there are so many outcomes that they are worth a command of their own, while others are
    /// on their way.
    pub(crate) fn has_many_outcomes(&self) -> bool {
        self.lock().outcomes.len() >= self.limits.many()
    }

    /// Waits until there may be outcomes, when there were none, or many of them. Cancel safe.
    pub(crate) async fn wait_for_outcomes(&self) {
        self.outcomes.notified().await;
    }

    /// How many outcomes Redis has not confirmed.
    pub(crate) fn unsettled(&self) -> usize {
        self.lock().entries.counts().unsettled()
    }

    /// The job that an outcome is for, if it was one that could be run.
    pub(crate) fn delivery_of(&self, settlement: &Settlement) -> Option<Arc<Delivery>> {
        let inner = self.lock();
        let entry = inner.entries.get(settlement.id);
        let entry = entry.filter(|entry| entry.serial() == settlement.serial)?;
        entry.delivery().cloned()
    }

    /// Redis has answered these outcomes, or the settler has let them go: their leases run out then,
    /// and another worker takes the entries.
    pub(crate) fn settled(&self, settlements: impl Iterator<Item = Settlement>) {
        let mut inner = self.lock();
        for settlement in settlements {
            inner.entries.step_settlement(&settlement, Event::Confirm);
        }
        self.release(inner);
        self.room.notify_one();
    }

    /// These were not confirmed: they go out again, before the others.
    pub(crate) fn unsettle(&self, settlements: Vec<Settlement>) {
        let mut inner = self.lock();
        for settlement in settlements.into_iter().rev() {
            if inner.entries.step_settlement(&settlement, Event::Unsettle) {
                inner.outcomes.push_front(settlement);
            }
        }
    }

    /// Redis refuses these for a reason of their own, until an operator mends it. They do not stop
    /// others from being started. Outcomes of jobs that ran do: if they were lost, too many jobs would
    /// run twice.
    pub(crate) fn refuse(&self, settlements: &[Settlement]) {
        let mut inner = self.lock();
        for settlement in settlements {
            if !matches!(settlement.outcome, Outcome::Done(_)) {
                inner.entries.step_settlement(settlement, Event::Refuse);
            }
        }
        self.release(inner);
        self.room.notify_one();
    }

    /// Instead of these outcomes their entries are put back, to be delivered after a while. Their
    /// deliveries do not count, since it is no fault of theirs that they have no outcome.
    pub(crate) fn put_off(&self, settlements: &[Settlement]) {
        let mut inner = self.lock();
        for settlement in settlements {
            inner.put_off(settlement);
        }
        drop(inner);
        self.outcomes.notify_one();
    }

    /// Redis says that it ends in another way than this.
    pub(crate) fn replace(&self, settlement: &Settlement, outcome: Outcome) {
        let mut inner = self.lock();
        if inner.entries.step_settlement(settlement, Event::Unsettle) {
            let Settlement { id, serial, .. } = *settlement;
            inner.push_outcome(id, serial, outcome);
        }
        drop(inner);
        self.outcomes.notify_one();
    }

    /// A delivery that was to be parked turned out to be due, or one that might have expired has not: it is
    /// ready.
    pub(crate) fn resume(&self, settlement: Settlement, now: Instant) {
        let mut inner = self.lock();
        if let Outcome::Park(delivery) | Outcome::Expire { delivery, .. } = settlement.outcome
            && inner
                .entries
                .step_delivery(&delivery, Event::Resume)
                .is_some()
        {
            inner.ready.push_back((now, delivery));
        }
        inner.put_back_if_stopping();
        self.release(inner);
        self.outcomes.notify_one();
    }

    /// Another epoch has begun, and nothing that was read before is taken in any more. Returns
    /// all deliveries that are held, so that [`Self::recognised`] can be given those that still
    /// exist.
    pub(crate) fn begin_epoch(&self, epoch: u64) -> Vec<Arc<Delivery>> {
        let mut inner = self.lock();
        inner.entries.begin_epoch(epoch);
        let entries = inner.entries.iter();
        let deliveries = entries.filter_map(|(_, entry)| entry.delivery());
        deliveries.map(Arc::clone).collect()
    }

    /// Keeps of what was read before `epoch` what is in `same`, and forgets the rest, which may be
    /// delivered again under another id, or with another content. Answers how many of those were
    /// to run, or run.
    pub(crate) fn recognised(&self, epoch: u64, same: &FxHashSet<EntryId>) -> usize {
        let mut inner = self.lock();
        let lost = inner.entries.forget_others(epoch, same);
        inner.keep_ready();
        inner.keep_held_outcomes();
        self.release(inner);
        self.recognised.send_replace(epoch);
        self.room.notify_one();
        lost
    }
}
