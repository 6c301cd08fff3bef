//! The entries that this process holds, each in its phase, and how many there are in which.
//!
//! Invariant: a phase changes in [`Entries::step_if`] and [`Entries::forget_others`] and nowhere
//! else, always by [`next`], and the counters change with it.
//!
//! The functions of a transition are inlined: each caller names its event, and then little is left of
//! them. This saves 3 % of the instructions of a job.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::phase::{Event, Phase, Sending, next};
use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::worker::outcome::{Delivery, Settlement};

/// All that is held, by id.
#[derive(Debug, Default)]
pub(super) struct Entries {
    by_id: FxHashMap<EntryId, HeldEntry>,
    counts: Counts,
    /// How many entries were ever held.
    serials: u64,
    /// The newest epoch. What was read before it began is not taken in any more.
    epoch: u64,
}

/// One entry that is held.
#[derive(Debug)]
pub(super) struct HeldEntry {
    phase: Phase,
    /// No other entry has this number, not even one with the same id.
    serial: u64,
    /// The epoch in which it was known to be the entry of its id.
    epoch: u64,
    /// The job. It is absent if a new delivery of the entry would end in the same way.
    delivery: Option<Arc<Delivery>>,
    deliveries: u32,
}

/// How many entries are in which phases.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) set_aside: usize,
    /// Entries that have a slot.
    pub(super) running: usize,
    /// Handlers that run on although their entry was forgotten. They have their slots still.
    pub(super) abandoned: usize,
    /// Entries whose outcome waits for the settler or is on its way to Redis.
    pub(super) sending: usize,
    /// Entries whose outcome waits for an operator.
    pub(super) refused: usize,
}

impl Counts {
    /// How many slots are taken.
    pub(super) fn slots(self) -> usize {
        self.running + self.abandoned
    }

    /// How many entries have an outcome that Redis has not confirmed.
    pub(super) fn unsettled(self) -> usize {
        self.sending + self.refused
    }

    #[inline(always)]
    fn moved(&mut self, from: Phase, to: Phase) {
        if let Some(count) = self.of(from) {
            *count -= 1;
        }
        if let Some(count) = self.of(to) {
            *count += 1;
        }
        if to == Phase::Forgotten && from.has_slot() {
            self.abandoned += 1;
        }
    }

    /// The counter of the entries in `phase`, if they are counted. It is one at most.
    #[inline(always)]
    fn of(&mut self, phase: Phase) -> Option<&mut usize> {
        match phase {
            Phase::SetAside { .. } => Some(&mut self.set_aside),
            Phase::Running(_) | Phase::Output => Some(&mut self.running),
            Phase::Ended(Sending::Refused) | Phase::PutBack(Sending::Refused) => {
                Some(&mut self.refused)
            }
            Phase::Ended(_) | Phase::PutBack(_) => Some(&mut self.sending),
            Phase::New | Phase::Ready | Phase::Settled | Phase::Lost | Phase::Forgotten => None,
        }
    }
}

impl HeldEntry {
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn delivery(&self) -> Option<&Arc<Delivery>> {
        self.delivery.as_ref()
    }

    pub(super) fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// With what count an entry is put back that was not started: its delivery does not count.
    pub(super) fn deliveries_before(&self) -> u32 {
        self.deliveries.saturating_sub(1)
    }
}

impl Entries {
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: EntryId) -> Option<&HeldEntry> {
        self.by_id.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (EntryId, &HeldEntry)> {
        self.by_id.iter().map(|(id, entry)| (*id, entry))
    }

    /// Takes in an entry, in the phase that `event` leads to. Answers its serial, or None when an
    /// entry of this id is here already, whose delivery has come. One that was set aside may come
    /// by itself.
    pub(super) fn hold(
        &mut self,
        id: EntryId,
        deliveries: u32,
        delivery: Option<Arc<Delivery>>,
        event: Event,
    ) -> Option<u64> {
        let place = self.by_id.entry(id);
        let before = match &place {
            Entry::Occupied(held) => held.get().phase,
            Entry::Vacant(_) => Phase::New,
        };
        if before != Phase::New && !before.is_set_aside() {
            return None;
        }
        let phase = next(before, event)?;
        self.counts.moved(before, phase);
        self.serials += 1;
        place.insert_entry(HeldEntry {
            phase,
            serial: self.serials,
            epoch: self.epoch,
            delivery,
            deliveries,
        });
        Some(self.serials)
    }

    /// Something happens to an entry.
    #[inline(always)]
    pub(super) fn step(&mut self, id: EntryId, event: Event) {
        self.step_if(id, event, |_| true);
    }

    /// Something happens to the entry of a delivery. Answers its serial, or None when it was
    /// forgotten.
    #[inline(always)]
    pub(super) fn step_delivery(&mut self, delivery: &Arc<Delivery>, event: Event) -> Option<u64> {
        let is_its = |entry: &HeldEntry| {
            let held = entry.delivery.as_ref();
            held.is_some_and(|held| Arc::ptr_eq(held, delivery))
        };
        self.step_if(delivery.id, event, is_its)
    }

    /// Something happens to the entry of an outcome. False when it was forgotten.
    #[inline(always)]
    pub(super) fn step_settlement(&mut self, settlement: &Settlement, event: Event) -> bool {
        let is_its = |entry: &HeldEntry| entry.serial == settlement.serial;
        self.step_if(settlement.id, event, is_its).is_some()
    }

    #[inline(always)]
    fn step_if(
        &mut self,
        id: EntryId,
        event: Event,
        is_it: impl FnOnce(&HeldEntry) -> bool,
    ) -> Option<u64> {
        let Entry::Occupied(mut held) = self.by_id.entry(id) else {
            return None;
        };
        let entry = held.get_mut();
        if !is_it(entry) {
            return None;
        }
        let (before, serial) = (entry.phase, entry.serial);
        // A slot or an outcome would be lost in silence. A panic stops the worker, and others run
        // what it held.
        let Some(phase) = next(before, event) else {
            panic!("{event:?} cannot happen to {id} in {before:?}");
        };
        self.counts.moved(before, phase);
        entry.phase = phase;
        if phase.is_over() {
            held.remove();
        }
        Some(serial)
    }

    /// A handler is over whose entry was forgotten while it ran.
    pub(super) fn free_abandoned_slot(&mut self) {
        self.counts.abandoned -= 1;
    }

    pub(super) fn set_deliveries(&mut self, id: EntryId, deliveries: u32) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.deliveries = deliveries;
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn begin_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Keeps of what was read before `epoch` the entries that are in `same`, and forgets the rest.
    /// Answers how many of those ran or were to run. An entry that has ended may have been settled
    /// by a command whose reply was lost, so that is no loss.
    pub(super) fn forget_others(&mut self, epoch: u64, same: &FxHashSet<EntryId>) -> usize {
        let mut lost = 0;
        let counts = &mut self.counts;
        self.by_id.retain(|id, entry| {
            if entry.delivery.is_some() && same.contains(id) {
                entry.epoch = epoch;
            }
            let kept = entry.epoch >= epoch;
            if !kept && let Some(phase) = next(entry.phase, Event::Forget) {
                lost += usize::from(entry.delivery.is_some() && !entry.phase.is_unsettled());
                counts.moved(entry.phase, phase);
            }
            kept
        });
        lost
    }

    /// The entry with this serial is lost if it is ready, and only then. Answers its job.
    pub(super) fn lose(&mut self, id: EntryId, serial: u64) -> Option<Arc<Delivery>> {
        let entry = self.by_id.get(&id)?;
        let delivery = entry.delivery.clone()?;
        let is_it = |entry: &HeldEntry| entry.serial == serial && entry.phase == Phase::Ready;
        self.step_if(id, Event::LoseLease, is_it)?;
        Some(delivery)
    }

    /// An entry that is ready is as one that was delivered just now.
    pub(super) fn renumber_ready(&mut self, id: EntryId) {
        if let Some(entry) = self.by_id.get_mut(&id)
            && entry.phase == Phase::Ready
        {
            self.serials += 1;
            entry.serial = self.serials;
        }
    }
}

#[cfg(test)]
impl Entries {
    /// The counters as they are when they are counted anew, but for handlers whose entry is gone.
    pub(super) fn recount(&self) -> Counts {
        let mut counts = Counts {
            abandoned: self.counts.abandoned,
            ..Counts::default()
        };
        for entry in self.by_id.values() {
            counts.moved(Phase::New, entry.phase);
        }
        counts
    }
}
