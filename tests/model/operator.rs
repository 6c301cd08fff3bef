//! What operators do, and how the workers learn that a job is to be cancelled.
//!
//! What the cancel of a running job promises, once Redis has accepted it: neither a death nor a failed
//! attempt loses it. No later attempt of the job begins. A run of this entry begins only in a process
//! that was given the entry before and has not asked since. It asks with each heartbeat, and
//! after each takeover. A run that goes on ends with the next heartbeat of its process. If it ends
//! before that, its result counts: the job is done or dead, and only a failed attempt is buried instead
//! of being repeated. There are two exceptions. When Redis has forgotten the delivery, a read delivers the
//! entry as a new one, and its process asks only with its next heartbeat. When the group is made anew, its
//! cancels are dropped, because another entry may get the same id.
//!
//! What the cancel of another job promises: the job is gone, and it was not in the hands of the worker
//! that Redis knew as its owner.
//!
//! An operator whose reply was lost tries again, which is the same as another operator who does the same.

use super::Protocol;
use super::actions::{Action, At};
use super::bugs::Bug;
use super::marks::Accepted;
use super::state::{Entry, HeldEntry, Name, Outcome, Phase, Place, State, Stored, WORKERS, Worker};

/// How a process was given an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// As a new one. Then nobody could cancel it as a running job before.
    Read,
    Reclaim,
    /// By the orphan check.
    Take,
    /// By the orphan check, a while after it has listed the entries.
    TakeLater,
}

impl Action {
    /// Whether an operator does this to one job.
    pub(crate) fn operates(&self) -> bool {
        matches!(
            self,
            Self::Cancel(_)
                | Self::Unschedule(_)
                | Self::RunNow(_)
                | Self::RetryDead(_)
                | Self::DeleteDead(_)
        )
    }
}

impl Protocol {
    /// The actions of an operator and of the clock, and the look that mends what they broke.
    pub(crate) fn operator_and_mending(&self, state: &State, actions: &mut Vec<Action>) {
        let redis = &state.redis;
        let mut owners: Vec<Name> = redis.all_pending().map(|(_, p)| p.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        actions.extend(owners.into_iter().map(Action::DeleteConsumer));
        if redis.next_to_read().is_some() {
            actions.push(Action::SkipBacklog);
        }
        if let Some((oldest, _)) = redis.all_pending().next() {
            actions.push(Action::TurnClockBack);
            if !redis.cancel.is_empty() {
                actions.push(Action::RemakeGroup(oldest));
            }
        }
        let looks = |worker: &Worker| worker.takes_jobs();
        let stranded = redis.stream.iter().any(|s| s.place == Place::Stranded);
        if stranded && self.bug != Some(Bug::StrandedForgotten) {
            let looking = (0..WORKERS).filter(|at| looks(&state.workers[*at]));
            actions.extend(looking.map(Action::FindStranded));
        }
    }

    pub(crate) fn operations(&self, state: &State, actions: &mut Vec<Action>) {
        if state.operations == 0 {
            return;
        }
        let redis = &state.redis;
        for stored in &redis.stream {
            if !redis.cancel.contains(&stored.entry) {
                actions.push(Action::Cancel(stored.entry));
            }
        }
        actions.extend(redis.scheduled.iter().copied().map(Action::Unschedule));
        for &letter in &redis.dead {
            actions.push(Action::RetryDead(letter));
            actions.push(Action::DeleteDead(letter));
        }
        // These were scheduled when the operator looked.
        let promoted = redis.stream.iter().map(|stored| stored.entry);
        let promoted = promoted.filter(|entry| entry.number > 0);
        match self.bug {
            Some(Bug::UnscheduleUnchecked) => actions.extend(promoted.map(Action::Unschedule)),
            Some(Bug::RunNowUnchecked) => actions.extend(promoted.map(Action::RunNow)),
            Some(Bug::RetryUnchecked) => {
                actions.extend(state.marks.letters.iter().copied().map(Action::RetryDead));
            }
            _ => {}
        }
    }

    pub(crate) fn operate(&self, state: &mut State, action: Action) {
        match action {
            Action::Cancel(entry) => self.cancel(state, entry),
            Action::Unschedule(entry) => {
                state.redis.scheduled.retain(|e| *e != entry);
                state.redis.deleted.push(entry.job);
            }
            Action::RunNow(entry) => state.append(entry),
            Action::RetryDead(letter) => self.retry_dead(state, letter),
            Action::DeleteDead(letter) => {
                state.redis.dead.retain(|e| *e != letter);
                state.redis.deleted.push(letter.job);
            }
            _ => unreachable!("no operator's: {action:?}"),
        }
    }

    /// One script decides: it deletes an entry that waits, and writes down one that runs.
    fn cancel(&self, state: &mut State, entry: Entry) {
        let pending = state.redis.pending(entry);
        let runs = match self.bug {
            Some(Bug::CancelUnchecked) => true,
            Some(Bug::CancelDeletesPending) => false,
            Some(Bug::CancelTakesExpired) => pending.is_some_and(|p| !p.expired),
            _ => pending.is_some_and(|p| !p.put_back),
        };
        if runs {
            state.redis.cancel.push(entry);
            state.marks.accepted.push(Accepted {
                entry,
                forgotten: false,
            });
        } else {
            state.marks.cut_short |= state.is_in_hand(entry);
            state.remove(entry);
            state.redis.deleted.push(entry.job);
        }
    }

    fn retry_dead(&self, state: &mut State, letter: Entry) {
        let entry = Entry {
            failed: letter.failed && self.bug == Some(Bug::RetryKeepsAttempt),
            ..letter.next()
        };
        if self.bug != Some(Bug::RetryRemovesFirst) {
            state.append(entry);
        }
        if self.bug != Some(Bug::RetryKeepsLetter) {
            state.redis.dead.retain(|e| *e != letter);
        }
        // The cancel was for the life that has ended.
        let accepted = &mut state.marks.accepted;
        accepted.retain(|cancel| cancel.entry.job != letter.job);
        state.marks.retried.push(entry);
    }

    /// Whether a worker that was given an entry finds that it is to be cancelled.
    pub(crate) fn finds_cancelled(&self, state: &State, entry: Entry, way: Way) -> bool {
        let asks = match way {
            Way::Read => false,
            Way::Reclaim => self.bug != Some(Bug::ReclaimIgnoresCancel),
            Way::Take => self.bug != Some(Bug::OrphanCheckIgnoresCancel),
            Way::TakeLater => !matches!(
                self.bug,
                Some(Bug::OrphanCheckIgnoresCancel | Bug::OrphanCheckAsksFirst)
            ),
        };
        asks && state.redis.cancel.contains(&entry)
    }

    /// The heartbeat has asked. What has ended already goes on as it is.
    pub(crate) fn heed(&self, state: &mut State, at: At) {
        let cancel = state.redis.cancel.clone();
        for held in &mut state.workers[at].held {
            let goes_on = matches!(held.phase, Phase::Ready | Phase::Running);
            if !goes_on || !cancel.contains(&held.entry) {
                continue;
            }
            if self.bug == Some(Bug::HeartbeatIgnoresCancel) {
                held.should_know = true;
            } else {
                held.phase = Phase::Ended(Outcome::Dead);
            }
        }
    }

    /// The janitor drops the cancels of entries that have left the stream. Nothing asks for them any
    /// more, so it may as well drop them at once.
    pub(crate) fn drop_cancels(&self, state: &mut State) {
        let redis = &mut state.redis;
        let mut cancel = std::mem::take(&mut redis.cancel);
        cancel.retain(|entry| match self.bug {
            Some(Bug::JanitorDropsCancel) => redis.pending(*entry).is_some(),
            _ => redis.stores(*entry),
        });
        redis.cancel = cancel;
        if self.bug == Some(Bug::RetryUnchecked) {
            for letter in &redis.dead {
                if !state.marks.letters.contains(letter) {
                    state.marks.letters.push(*letter);
                }
            }
        }
    }
}

impl State {
    /// The group is made anew, and the cancels go with the old one.
    pub(crate) fn remake_group(&mut self, oldest: Entry) {
        self.forget_deliveries(oldest);
        self.redis.cancel.clear();
        self.marks.accepted.clear();
    }

    /// Whether the answer to a heartbeat changes anything.
    pub(crate) fn is_heeded(&self, held: &HeldEntry) -> bool {
        matches!(held.phase, Phase::Ready | Phase::Running)
            && self.redis.cancel.contains(&held.entry)
            && !held.should_know
    }

    /// Whether a process that is given the entry in this way should know that it is to be cancelled.
    pub(crate) fn tells_of_cancel(&self, entry: Entry, way: Way) -> bool {
        let mut accepted = self.marks.accepted.iter().filter(|a| a.entry == entry);
        accepted.any(|cancel| way != Way::Read || !cancel.forgotten)
    }

    /// Whether the entry is a later attempt of a job whose cancel was accepted.
    pub(crate) fn is_later_attempt(&self, entry: Entry) -> bool {
        let earlier = |e: Entry| e.job == entry.job && e.number < entry.number;
        self.marks.accepted.iter().any(|a| earlier(a.entry))
    }

    /// Whether the entry's owner will run it, or runs it, and no fault explains that others see the
    /// entry as put back.
    fn is_in_hand(&self, entry: Entry) -> bool {
        let Some(pending) = self.redis.pending(entry) else {
            return false;
        };
        let runs = |held: &HeldEntry| {
            held.entry == entry && matches!(held.phase, Phase::Ready | Phase::Running)
        };
        let mut workers = self.workers.iter();
        let owner = workers.find(|worker| worker.name == pending.owner);
        !pending.excused && !pending.late && owner.is_some_and(|w| w.held.iter().any(runs))
    }

    fn append(&mut self, entry: Entry) {
        self.redis.stream.push(Stored {
            entry,
            place: Place::Waiting,
        });
    }
}
