//! The queue's commands and scripts, as changes of the model's Redis. Each is one step.

use super::bugs::Bug;
use super::state::{
    Delivered, Effect, Entry, MANY_DELIVERIES, Name, Outcome, Pending, Place, State, Stored,
};

impl State {
    /// XREADGROUP of one entry.
    pub(crate) fn read(&mut self, by: Name, entry: Entry) -> Delivered {
        for stored in &mut self.redis.stream {
            if stored.entry == entry {
                stored.place = Place::Pending(Pending {
                    owner: by,
                    deliveries: 1,
                    expired: false,
                    put_back: false,
                    future: false,
                    excused: false,
                    late: false,
                });
            }
        }
        Delivered {
            entry,
            deliveries: 1,
        }
    }

    /// `reclaim.lua`, which returns one entry whose lease has ended.
    pub(crate) fn reclaim(&mut self, by: Name, entry: Entry) -> Delivered {
        let pending = self.redis.pending_mut(entry).expect("it is pending");
        let before = *pending;
        let deliveries = (before.deliveries + 1).min(MANY_DELIVERIES);
        *pending = Pending {
            owner: by,
            deliveries,
            expired: false,
            put_back: false,
            future: false,
            excused: before.excused && before.owner == by,
            late: false,
        };
        // When a process gets its own entry again, no other process could have run it.
        if before.excused && before.owner != by {
            self.runs_mut(entry).credit += 1;
        }
        Delivered { entry, deliveries }
    }

    /// `take.lua`: delivers the entries again that the consumer owns and whose lease has not ended.
    pub(crate) fn take(&mut self, by: Name, ids: &[Entry], bug: Option<Bug>) -> Vec<Delivered> {
        let mut taken = Vec::new();
        for &entry in ids {
            let Some(pending) = self.redis.pending_mut(entry) else {
                continue;
            };
            let owned = pending.owner == by && !pending.expired;
            if !owned && bug != Some(Bug::OrphanCheckSteals) {
                continue;
            }
            let stolen = pending.owner != by && !pending.expired;
            pending.owner = by;
            pending.expired = false;
            pending.put_back = false;
            pending.future = false;
            pending.late = false;
            taken.push(Delivered {
                entry,
                deliveries: pending.deliveries,
            });
            self.marks.stolen_lease |= stolen;
        }
        taken
    }

    /// `touch.lua` without a count. Returns whether the sender still owned the entry.
    pub(crate) fn renew(&mut self, by: Name, entry: Entry, bug: Option<Bug>) -> bool {
        let Some(pending) = self.redis.pending_mut(entry) else {
            return false;
        };
        let owned = pending.owner == by;
        if owned || bug == Some(Bug::HeartbeatSteals) {
            let stolen = !owned && !pending.expired;
            pending.owner = by;
            pending.expired = false;
            pending.put_back = false;
            pending.future = false;
            if bug == Some(Bug::RenewalCounts) {
                pending.deliveries = (pending.deliveries + 1).min(MANY_DELIVERIES);
            }
            self.marks.stolen_lease |= stolen;
        }
        owned
    }

    /// `touch.lua` with a count, after a reclaim has returned a held entry. The claim has counted a
    /// delivery that did not happen.
    pub(crate) fn take_back(&mut self, by: Name, delivered: Delivered, keep: bool) {
        if let Some(pending) = self.redis.pending_mut(delivered.entry)
            && pending.owner == by
        {
            pending.expired = !keep;
            pending.put_back = !keep;
            pending.future = false;
            // MANY_DELIVERIES stands for all large counts, so one less may still be one of them.
            if delivered.deliveries < MANY_DELIVERIES {
                pending.deliveries = delivered.deliveries.saturating_sub(1);
            }
        }
    }

    /// `acknowledge.lua`, `schedule.lua`, `bury.lua` or `touch.lua`.
    pub(crate) fn settle(
        &mut self,
        from: Name,
        entry: Entry,
        outcome: Outcome,
        bug: Option<Bug>,
    ) -> Effect {
        let owned = self.redis.pending(entry).is_some_and(|p| p.owner == from);
        let fenced = match outcome {
            Outcome::Done => false,
            Outcome::Retry => bug != Some(Bug::UnfencedRetry),
            Outcome::PutBack { .. } => bug != Some(Bug::UnfencedPutBack),
            Outcome::Park => bug != Some(Bug::UnfencedPark),
            Outcome::Dead => bug != Some(Bug::UnfencedBurial),
        };
        if fenced && !owned {
            return Effect::NotOwner;
        }
        let moves = matches!(outcome, Outcome::Park | Outcome::Retry);
        if moves && self.redis.cancel.contains(&entry) && bug != Some(Bug::MoveIgnoresCancel) {
            return Effect::Cancelled;
        }
        let known = self.redis.stores(entry);
        match outcome {
            Outcome::Done => {
                if known && bug == Some(Bug::AckWithoutDelete) {
                    self.strand(entry);
                } else if known {
                    self.remove(entry);
                    self.redis.gone.push(entry.job);
                }
                return Effect::Applied;
            }
            Outcome::Park | Outcome::Retry => {
                self.remove(entry);
                let twin = bug == Some(Bug::EqualMembers) && !self.redis.scheduled.is_empty();
                if bug != Some(Bug::ScheduleRemovesFirst) && !twin {
                    let next = Entry {
                        failed: entry.failed || outcome == Outcome::Retry,
                        ..entry.next()
                    };
                    self.redis.scheduled.push(next);
                }
            }
            Outcome::Dead => {
                self.remove(entry);
                self.redis.dead.push(entry);
            }
            Outcome::PutBack { deliveries } => {
                if bug == Some(Bug::PutBackDropsCancel) {
                    self.redis.cancel.retain(|cancelled| *cancelled != entry);
                }
                if let Some(pending) = self.redis.pending_mut(entry) {
                    pending.expired = true;
                    pending.put_back = true;
                    pending.future = false;
                    pending.deliveries = deliveries;
                }
            }
        }
        self.marks.usurped |= known && !owned;
        Effect::Applied
    }

    /// `promote.lua`, which promotes one job.
    pub(crate) fn promote(&mut self, entry: Entry, bug: Option<Bug>) {
        if bug == Some(Bug::StreamTrimmed) {
            self.redis.stream.clear();
            for worker in &mut self.workers {
                worker.newest = None;
            }
        }
        self.redis.scheduled.retain(|e| *e != entry);
        if bug != Some(Bug::PromoteRemovesFirst) {
            self.redis.stream.push(Stored {
                entry,
                place: Place::Waiting,
            });
        }
    }

    /// The group is created again, or Redis comes back without its last second. The delivered
    /// entries wait again, from this one on.
    pub(crate) fn forget_deliveries(&mut self, from: Entry) {
        let mut forgotten = Vec::new();
        let from = self.redis.index(from).expect("it is pending");
        for stored in &mut self.redis.stream[from..] {
            match stored.place {
                Place::Pending(_) => forgotten.push(stored.entry),
                Place::Stranded => {}
                Place::Waiting => continue,
            }
            stored.place = Place::Waiting;
        }
        for entry in forgotten {
            self.forget_delivery_of_cancelled(entry);
            self.runs_mut(entry).credit += 1;
        }
    }

    /// An operator runs DELCONSUMER. All entries of the consumer are pending for nobody.
    pub(crate) fn delete_consumer(&mut self, name: Name) {
        let mut lost = Vec::new();
        for stored in &mut self.redis.stream {
            if matches!(stored.place, Place::Pending(pending) if pending.owner == name) {
                stored.place = Place::Stranded;
                lost.push(stored.entry);
            }
        }
        for entry in lost {
            self.runs_mut(entry).credit += 1;
        }
    }

    /// An operator runs SETID with the end of the stream.
    pub(crate) fn skip_backlog(&mut self) {
        for stored in &mut self.redis.stream {
            if stored.place == Place::Waiting {
                stored.place = Place::Stranded;
            }
        }
    }

    /// `mend.lua`: puts the stranded entries back.
    pub(crate) fn find_stranded(&mut self, by: Name) {
        for stored in &mut self.redis.stream {
            if stored.place == Place::Stranded {
                stored.place = Place::Pending(Pending {
                    owner: by,
                    deliveries: 0,
                    expired: true,
                    put_back: true,
                    future: false,
                    excused: false,
                    late: true,
                });
            }
        }
    }

    /// The clock goes back: no lease ends, and nobody reclaims for a while.
    pub(crate) fn turn_clock_back(&mut self) {
        for stored in &mut self.redis.stream {
            if let Place::Pending(pending) = &mut stored.place {
                // The owner no longer renews an entry whose lease has ended.
                pending.late |= pending.expired;
                pending.expired = false;
                pending.put_back = false;
                pending.future = true;
            }
        }
        self.redis.holding = true;
    }

    /// `mend.lua`: entries that were delivered in the future count as delivered now.
    pub(crate) fn reset_future_deliveries(&mut self) {
        for stored in &mut self.redis.stream {
            if let Place::Pending(pending) = &mut stored.place {
                pending.future = false;
            }
        }
    }

    pub(crate) fn remove(&mut self, entry: Entry) {
        let Some(index) = self.redis.index(entry) else {
            return;
        };
        self.redis.stream.remove(index);
        let older = index.checked_sub(1).map(|at| self.redis.stream[at].entry);
        for worker in &mut self.workers {
            if worker.newest == Some(entry) {
                worker.newest = older;
            }
        }
    }

    fn strand(&mut self, entry: Entry) {
        for stored in &mut self.redis.stream {
            if stored.entry == entry {
                stored.place = Place::Stranded;
            }
        }
        if !self.redis.gone.contains(&entry.job) {
            self.redis.gone.push(entry.job);
        }
    }
}
