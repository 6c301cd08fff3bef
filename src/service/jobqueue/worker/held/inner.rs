//! What is behind the lock of [`super::Held`]: the entries, the queues of those that wait for a
//! runner or for the settler, and whether a runner is wanted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::entries::Entries;
use super::phase::Event;
use super::tries::TryLog;
use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::worker::outcome::{Delivery, Outcome, Settlement};
use crate::service::jobqueue::worker::pace::Pace;

/// How many jobs a worker runs at once, and what it may have beyond those.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The number of slots.
    pub(crate) concurrency: usize,
    /// How many jobs may have run without Redis knowing it, beyond the number of slots. It is also how
    /// many are fetched ahead of the free slots at most.
    pub(crate) ahead: usize,
}

/// What the fetcher may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many entries it may get: free slots, and ahead of them what the pace of short jobs
    /// allows.
    pub(crate) entries: usize,
    /// When the oldest ready delivery was delivered.
    pub(crate) waiting_since: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) entries: Entries,
    /// The deliveries that are `Ready`, oldest first, and since when they wait.
    pub(super) ready: VecDeque<(Instant, Arc<Delivery>)>,
    /// The outcomes that wait for the settler, oldest first.
    pub(super) outcomes: VecDeque<Settlement>,
    pub(super) tries: TryLog,
    pace: Pace,
    /// A runner was started that has not come yet. One is on its way whenever something is ready
    /// and a slot is free.
    runner_comes: bool,
    /// Something was put back although a slot was free: the handlers' threads are all blocked.
    /// Until a runner comes round again, more would only be put back too.
    pub(super) stuck: bool,
    /// Nothing is started any more.
    stopping: bool,
}

impl Inner {
    pub(super) fn room(&mut self, limits: Limits, now: Instant) -> Room {
        let waiting_since = self.ready.front().map(|(since, _)| *since);
        let entries = if self.stuck || self.is_behind(limits) {
            0
        } else {
            let ahead = self.pace.ahead(now).min(limits.ahead);
            let taken = self.ready.len() + self.entries.counts().slots();
            (limits.concurrency + ahead).saturating_sub(taken)
        };
        Room {
            entries,
            waiting_since,
        }
    }

    pub(super) fn admit_ready(&mut self, delivery: Arc<Delivery>, now: Instant) {
        let (id, deliveries) = (delivery.id, delivery.deliveries);
        let held = Some(Arc::clone(&delivery));
        let held = self.entries.hold(id, deliveries, held, Event::Deliver);
        if held.is_some() {
            self.ready.push_back((now, delivery));
        }
    }

    pub(super) fn admit_aside(&mut self, id: EntryId, deliveries: u32, bytes: usize, now: Instant) {
        let due = self.tries.due(id, now);
        self.entries
            .hold(id, deliveries, None, Event::SetAside { bytes, due });
    }

    pub(super) fn admit_ended(&mut self, id: EntryId, deliveries: u32, outcome: Outcome) {
        let delivery = match &outcome {
            Outcome::Park(delivery) => Some(Arc::clone(delivery)),
            _ => None,
        };
        let event = ending(&outcome);
        if let Some(serial) = self.entries.hold(id, deliveries, delivery, event) {
            self.push_outcome(id, serial, outcome);
        }
    }

    /// Takes entries that are no longer held out of the queue for runners.
    pub(super) fn keep_held_ready(&mut self) {
        let entries = &self.entries;
        self.ready
            .retain(|(_, delivery)| entries.get(delivery.id).is_some());
    }

    /// Takes entries that are no longer held out of the queue for the settler.
    pub(super) fn keep_held_outcomes(&mut self) {
        let entries = &self.entries;
        self.outcomes
            .retain(|settlement| entries.get(settlement.id).is_some());
    }

    /// The runner that was started has come.
    pub(super) fn runner_came(&mut self) {
        self.runner_comes = false;
    }

    /// Whether Redis is slower than the handlers, or away: what has ended must go out before more is
    /// started. All that runs or has ended runs twice if this process is killed now.
    fn is_behind(&self, limits: Limits) -> bool {
        let counts = self.entries.counts();
        counts.slots() + counts.sending >= limits.concurrency + limits.ahead
    }

    /// Whether a job may start.
    pub(super) fn may_start(&self, limits: Limits) -> bool {
        self.entries.counts().slots() < limits.concurrency && !self.is_behind(limits)
    }

    /// Whether a runner is to be started now.
    pub(super) fn wants_runner(&mut self, limits: Limits) -> bool {
        let wants = !self.runner_comes && !self.ready.is_empty() && self.may_start(limits);
        self.runner_comes |= wants;
        wants
    }

    /// A runner takes the next delivery and a slot, if there is one of each.
    pub(super) fn start_next(&mut self, limits: Limits, now: Instant) -> Option<Arc<Delivery>> {
        if !self.may_start(limits) {
            return None;
        }
        let (_, delivery) = self.ready.pop_front()?;
        let hangs_at = now + delivery.hang_limit;
        self.entries.step(delivery.id, Event::Start(hangs_at));
        Some(delivery)
    }

    /// A handler is over, and its output as well. An entry that was forgotten meanwhile has no
    /// outcome that Redis could be told.
    pub(super) fn end_run(&mut self, delivery: &Arc<Delivery>, outcome: Outcome) {
        match self.entries.step_delivery(delivery, ending(&outcome)) {
            Some(serial) => self.push_outcome(delivery.id, serial, outcome),
            None => self.entries.free_abandoned_slot(),
        }
    }

    /// Gives up an entry that was not started, so that its delivery does not count.
    pub(super) fn put_back(&mut self, id: EntryId) {
        if let Some(entry) = self.entries.get(id) {
            let (serial, deliveries) = (entry.serial(), entry.deliveries_before());
            self.entries.step(id, Event::GiveUp);
            self.push_outcome(id, serial, Outcome::PutBack { deliveries });
        }
    }

    /// Instead of an outcome that Redis refuses its entry is put back, for a while.
    pub(super) fn put_off(&mut self, settlement: &Settlement) {
        if self.entries.step_settlement(settlement, Event::GiveUp)
            && let Some(entry) = self.entries.get(settlement.id)
        {
            let deliveries = entry.deliveries_before();
            let outcome = Outcome::PutOff { deliveries };
            self.push_outcome(settlement.id, settlement.serial, outcome);
        }
    }

    fn push_outcome(&mut self, id: EntryId, serial: u64, outcome: Outcome) {
        // A put back does not count. Otherwise the worker would fetch more entries only to put
        // them back.
        if ending(&outcome) == Event::End {
            self.pace.count();
        }
        self.outcomes.push_back(Settlement {
            id,
            outcome,
            serial,
        });
    }

    pub(super) fn stop_starting(&mut self) {
        self.stopping = true;
    }

    /// Once nothing is started any more, what waits to be started or fetched is put back.
    pub(super) fn put_back_if_stopping(&mut self) {
        if !self.stopping {
            return;
        }
        while let Some((_, delivery)) = self.ready.pop_front() {
            self.put_back(delivery.id);
        }
        if self.entries.counts().set_aside > 0 {
            let aside = self.entries.iter();
            let aside = aside.filter(|(_, entry)| entry.phase().is_set_aside());
            let aside: Vec<EntryId> = aside.map(|(id, _)| id).collect();
            aside.into_iter().for_each(|id| self.put_back(id));
        }
    }
}

fn ending(outcome: &Outcome) -> Event {
    match outcome {
        Outcome::PutBack { .. } | Outcome::PutOff { .. } => Event::GiveUp,
        _ => Event::End,
    }
}
