//! What runners do with the entries that are held: take one that is ready, and end it.

use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use super::Held;
use super::inner::Inner;
use super::phase::Event;
use crate::service::jobqueue::worker::outcome::{Delivery, Outcome};

impl Held {
    /// The first delivery of a new runner, which takes a slot. None ends the runner.
    pub(crate) fn start(&self, now: Instant) -> Option<Arc<Delivery>> {
        let mut inner = self.lock();
        inner.runner_came();
        let was_stuck = std::mem::take(&mut inner.stuck);
        let next = inner.start_next(self.limits, now);
        self.release(inner);
        if was_stuck {
            self.room.notify_one();
        }
        next
    }

    /// A handler is over: its slot is free, its outcome goes to the settler. Answers what its
    /// runner takes next, as [`Self::start`] does.
    #[must_use]
    pub(crate) fn end(
        &self,
        delivery: &Arc<Delivery>,
        outcome: Outcome,
        now: Instant,
    ) -> Option<Arc<Delivery>> {
        let mut inner = self.lock();
        inner.stuck = false;
        inner.end_run(delivery, outcome, self.limits, now);
        let next = inner.start_next(self.limits, now);
        self.release_after_end(inner);
        next
    }

    /// A handler has done its part and its output is on its way, for as long as that takes: it
    /// does not hang. It keeps its slot. Answers what its runner takes next, as [`Self::start`]
    /// does.
    #[must_use]
    pub(crate) fn leave_to_output(
        &self,
        delivery: &Arc<Delivery>,
        now: Instant,
    ) -> Option<Arc<Delivery>> {
        let mut inner = self.lock();
        inner.entries.step_delivery(delivery, Event::LeaveToOutput);
        let next = inner.start_next(self.limits, now);
        self.release(inner);
        next
    }

    /// What was left to its output is over: its slot is free, its outcome goes to the settler.
    pub(crate) fn end_output(&self, delivery: &Arc<Delivery>, outcome: Outcome, now: Instant) {
        let mut inner = self.lock();
        inner.end_run(delivery, outcome, self.limits, now);
        self.release_after_end(inner);
    }

    /// The same as [`Self::release`] after a handler has ended.
    fn release_after_end(&self, inner: MutexGuard<'_, Inner>) {
        let outcomes = inner.outcomes.len();
        self.release(inner);
        self.room.notify_one();
        // The settler looks by itself for what gathers while it sends, unless that is much.
        if outcomes == 1 || outcomes.is_multiple_of(self.limits.many()) {
            self.outcomes.notify_one();
        }
    }

    /// Whether another job could start now.
    pub(crate) fn has_free_slot(&self) -> bool {
        self.running() < self.limits.concurrency
    }

    /// How many slots are taken.
    pub(crate) fn running(&self) -> usize {
        self.lock().entries.counts().slots()
    }
}
