//! The actions of a worker's fetcher and handlers.

use super::Protocol;
use super::actions::{Action, At};
use super::bugs::Bug;
use super::operator::Way;
use super::state::{Delivered, Entry, Fetch, HeldEntry, MAX_DELIVERIES, Outcome, Phase, State};
use super::steps::name;

impl Protocol {
    pub(crate) fn fetch(&self, state: &mut State, action: Action) {
        match action {
            Action::Read(at, entry) => {
                let delivered = state.read(name(state, at), entry);
                self.receive_read(state, at, delivered);
            }
            Action::Send(at, entry) => state.workers[at].fetch = Fetch::Sent(entry),
            Action::Reclaim(at, entry) => {
                let delivered = state.reclaim(name(state, at), entry);
                let sent = replace_fetch(state, at) == Fetch::Sent(entry);
                if sent || state.workers[at].holds(entry) {
                    state.workers[at].fetch = Fetch::Reclaimed(delivered);
                } else {
                    self.admit(state, at, delivered, Way::Reclaim);
                }
            }
            Action::ReclaimNothing(at) => {
                replace_fetch(state, at);
            }
            Action::Receive(at) => self.receive(state, at),
            Action::TakeBack(at) => {
                if let Fetch::TakingBack { delivered, keep } = replace_fetch(state, at) {
                    state.take_back(name(state, at), delivered, keep);
                }
            }
            Action::Look(at) => {
                let me = name(state, at);
                let mine = state.redis.all_pending().filter(|(_, p)| p.owner == me);
                let page = mine.map(|(entry, _)| entry).collect();
                // While a reply is on its way, a second look must follow. The reply has arrived by
                // then.
                state.workers[at].look = state.workers[at].awaits_reply();
                let worker = &mut state.workers[at];
                let page: Vec<Entry> = page;
                let settling = page.iter().any(|entry| worker.holds(*entry));
                worker.fetch = Fetch::Page(page);
                let later = match self.bug {
                    Some(Bug::OrphanCheckSteals) => true,
                    Some(Bug::OrphanCheckAsksFirst) => state.redis.cancel.is_empty(),
                    _ => settling,
                };
                if !later {
                    self.take(state, at, Way::Take);
                }
            }
            Action::Take(at) => self.take(state, at, Way::TakeLater),
            Action::ReadLost(at, entry) => {
                state.read(name(state, at), entry);
                state.workers[at].look = self.bug != Some(Bug::NoOrphanCheck);
            }
            Action::ReclaimLost(at, entry) => {
                state.reclaim(name(state, at), entry);
                replace_fetch(state, at);
                state.workers[at].look = self.bug != Some(Bug::NoOrphanCheck);
            }
            _ => unreachable!("no fetch: {action:?}"),
        }
    }

    /// An entry that this process was given before is left to the orphan check. The check asks
    /// Redis who owns the entry by now.
    fn receive_read(&self, state: &mut State, at: At, delivered: Delivered) {
        let entry = delivered.entry;
        if self.bug == Some(Bug::ReadJudgedLate) && state.workers[at].holds(entry) {
            state.workers[at].fetch = Fetch::Read(delivered);
            return;
        }
        let judged_by_id = !matches!(self.bug, Some(Bug::ReadJudgedLate | Bug::ReadStartsAgain));
        if judged_by_id && state.was_given(at, entry) {
            state.workers[at].look |= self.bug != Some(Bug::ReadAgainForgotten);
            return;
        }
        state.remember(at, entry);
        self.admit(state, at, delivered, Way::Read);
    }

    /// A reply arrives that may bring a held entry. A reclaim's reply is compared with what was held
    /// when the reclaim was sent.
    fn receive(&self, state: &mut State, at: At) {
        match replace_fetch(state, at) {
            Fetch::Reclaimed(delivered) => {
                let held = state.workers[at].holds(delivered.entry);
                if self.bug == Some(Bug::ClaimStartsHeld)
                    || self.bug == Some(Bug::ClaimJudgedLate) && !held
                {
                    return self.admit(state, at, delivered, Way::Reclaim);
                }
                // An entry keeps its lease when the heartbeat renews it. Otherwise it is put back.
                // An orphan check must follow, because a reply on its way may say `NotOwner`: the
                // entry was another worker's for a while. Then the entry is no longer held.
                let keep = state.workers[at].renews(delivered.entry);
                state.workers[at].look |= self.bug != Some(Bug::HeldClaimForgotten);
                state.workers[at].fetch = Fetch::TakingBack { delivered, keep };
            }
            Fetch::Read(delivered) => {
                // Only a bug has such a reply.
                if state.workers[at].holds(delivered.entry) {
                    state.workers[at].look = true;
                } else {
                    self.admit(state, at, delivered, Way::Read);
                }
            }
            fetch => unreachable!("no reply: {fetch:?}"),
        }
    }

    fn take(&self, state: &mut State, at: At, way: Way) {
        let Fetch::Page(mut ids) = replace_fetch(state, at) else {
            return;
        };
        ids.retain(|entry| !state.workers[at].holds(*entry));
        for delivered in state.take(name(state, at), &ids, self.bug) {
            self.admit(state, at, delivered, way);
        }
    }

    /// The triage of an entry that is not held.
    fn admit(&self, state: &mut State, at: At, delivered: Delivered, way: Way) {
        let Delivered { entry, deliveries } = delivered;
        if self.bug != Some(Bug::OnlyReadsRemembered) {
            state.remember(at, entry);
        }
        state.marks.rerun |= state.workers[at].settled.contains(&entry);
        let phase = if deliveries > MAX_DELIVERIES {
            // Each delivery after the first needs a disturbance.
            let spent = self.disturbances - state.disturbances;
            state.marks.undeserved_burial |= spent < MAX_DELIVERIES;
            Phase::Ended(Outcome::Dead)
        } else if self.finds_cancelled(state, entry, way) {
            Phase::Ended(Outcome::Dead)
        } else if entry.is_delayed() {
            Phase::Ended(Outcome::Park)
        } else {
            Phase::Ready
        };
        let should_know = phase == Phase::Ready && state.tells_of_cancel(entry, way);
        state.workers[at].held.push(HeldEntry {
            entry,
            deliveries,
            phase,
            should_know,
        });
    }

    pub(crate) fn handle(&self, state: &mut State, action: Action) {
        match action {
            Action::Run(at, entry) => {
                let runs = state.runs_mut(entry);
                if runs.started && runs.credit == 0 {
                    state.marks.unexplained_run = true;
                } else if runs.started {
                    runs.credit -= 1;
                }
                state.runs_mut(entry).started = true;
                state.marks.lost_cancel |= state.is_later_attempt(entry);
                let held = held(state, at, entry, Phase::Ready);
                held.phase = Phase::Running;
                let should_know = held.should_know;
                state.marks.lost_cancel |= should_know;
                if self.bug == Some(Bug::AckBeforeRun) {
                    state.settle(name(state, at), entry, Outcome::Done, self.bug);
                }
            }
            Action::Succeed(at, entry) => {
                if !state.marks.printed.contains(&entry.job) {
                    state.marks.printed.push(entry.job);
                }
                let forgotten = &mut state.workers[at].forgotten;
                if let Some(found) = forgotten.iter().position(|e| *e == entry) {
                    forgotten.remove(found);
                } else {
                    let held = held(state, at, entry, Phase::Running);
                    held.phase = Phase::Ended(Outcome::Done);
                    let should_know = held.should_know;
                    state.marks.lost_cancel |= should_know;
                }
            }
            Action::Fail(at, entry) => {
                let outcome = if entry.may_retry() {
                    Outcome::Retry
                } else {
                    Outcome::Dead
                };
                // Job 0 is the one that has a retry.
                let short = entry.job == 0 && outcome == Outcome::Dead;
                state.marks.short_retry |= short && state.marks.retried.contains(&entry);
                held(state, at, entry, Phase::Running).phase = Phase::Ended(outcome);
            }
            Action::PutBackReady(at, entry) => {
                let held = held(state, at, entry, Phase::Ready);
                let deliveries = held.deliveries.saturating_sub(1);
                held.phase = Phase::Ended(Outcome::PutBack { deliveries });
            }
            Action::CutOff(at, entry) => {
                let held = held(state, at, entry, Phase::Running);
                let deliveries = held.deliveries;
                held.phase = Phase::Ended(Outcome::PutBack { deliveries });
                state.excuse(name(state, at), entry);
            }
            _ => unreachable!("no handler's: {action:?}"),
        }
    }
}

fn held(state: &mut State, at: At, entry: Entry, phase: Phase) -> &mut HeldEntry {
    let mut held = state.workers[at].held.iter_mut();
    held.find(|h| h.entry == entry && h.phase == phase)
        .expect("the action was possible")
}

fn replace_fetch(state: &mut State, at: At) -> Fetch {
    std::mem::replace(&mut state.workers[at].fetch, Fetch::Idle)
}
