//! The actions of a worker's fetcher, handlers and settler.

use super::Protocol;
use super::actions::{Action, At};
use super::bugs::Bug;
use super::state::{
    Delivered, Effect, Entry, Fetch, HeldEntry, MAX_DELIVERIES, Outcome, Phase, State,
};
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
                    self.admit(state, at, delivered);
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
                if !settling && self.bug != Some(Bug::OrphanCheckSteals) {
                    self.take(state, at);
                }
            }
            Action::Take(at) => self.take(state, at),
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
        self.admit(state, at, delivered);
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
                    return self.admit(state, at, delivered);
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
                    self.admit(state, at, delivered);
                }
            }
            fetch => unreachable!("no reply: {fetch:?}"),
        }
    }

    fn take(&self, state: &mut State, at: At) {
        let Fetch::Page(mut ids) = replace_fetch(state, at) else {
            return;
        };
        ids.retain(|entry| !state.workers[at].holds(*entry));
        for delivered in state.take(name(state, at), &ids, self.bug) {
            self.admit(state, at, delivered);
        }
    }

    /// The triage of an entry that is not held.
    fn admit(&self, state: &mut State, at: At, delivered: Delivered) {
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
        } else if entry.is_delayed() {
            Phase::Ended(Outcome::Park)
        } else {
            Phase::Ready
        };
        state.workers[at].held.push(HeldEntry {
            entry,
            deliveries,
            phase,
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
                held(state, at, entry, Phase::Ready).phase = Phase::Running;
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
                    held(state, at, entry, Phase::Running).phase = Phase::Ended(Outcome::Done);
                }
            }
            Action::Fail(at, entry) => {
                let outcome = if entry.may_retry() {
                    Outcome::Retry
                } else {
                    Outcome::Dead
                };
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

    pub(crate) fn settle(&self, state: &mut State, action: Action) {
        match action {
            Action::Settle(at, entry) => {
                let (me, bug) = (name(state, at), self.bug);
                let outcome = ended(state, at, entry);
                let effect = state.settle(me, entry, outcome, bug);
                self.reply(state, at, entry, outcome, effect);
            }
            Action::SettleDue(at, entry) => {
                let me = name(state, at);
                let owned = state.redis.pending(entry).is_some_and(|p| p.owner == me);
                let effect = if owned {
                    Effect::AlreadyDue
                } else {
                    Effect::NotOwner
                };
                self.reply(state, at, entry, Outcome::Park, effect);
            }
            Action::Confirm(at, entry) => confirm(state, at, entry),
            Action::SettleLost(at, entry) => {
                let outcome = ended(state, at, entry);
                state.settle(name(state, at), entry, outcome, self.bug);
                self.lose_reply(state, at, entry);
            }
            _ => unreachable!("no settling: {action:?}"),
        }
    }

    /// Redis has replied to an outcome. When the entry has left the stream and no other reply
    /// brings it to this process, the time of the reply makes no difference. So it arrives at once.
    fn reply(&self, state: &mut State, at: At, entry: Entry, outcome: Outcome, effect: Effect) {
        for held in &mut state.workers[at].held {
            if held.entry == entry && matches!(held.phase, Phase::Ended(_)) {
                held.phase = Phase::Replied(outcome, effect);
                break;
            }
        }
        if !state.redis.stores(entry) && !state.workers[at].receives(entry) {
            confirm(state, at, entry);
        }
    }

    pub(crate) fn lose_reply(&self, state: &mut State, at: At, entry: Entry) {
        if self.bug == Some(Bug::SettleDropped) {
            state.workers[at].held.retain(|held| held.entry != entry);
        }
    }
}

const DUE: Phase = Phase::Replied(Outcome::Park, Effect::AlreadyDue);

fn held(state: &mut State, at: At, entry: Entry, phase: Phase) -> &mut HeldEntry {
    let mut held = state.workers[at].held.iter_mut();
    held.find(|h| h.entry == entry && h.phase == phase)
        .expect("the action was possible")
}

pub(crate) fn ended(state: &State, at: At, entry: Entry) -> Outcome {
    let mut held = state.workers[at].held.iter().filter(|h| h.entry == entry);
    held.find_map(|h| match h.phase {
        Phase::Ended(outcome) => Some(outcome),
        _ => None,
    })
    .expect("the action was possible")
}

fn confirm(state: &mut State, at: At, entry: Entry) {
    let worker = &mut state.workers[at];
    for held in &mut worker.held {
        if held.entry == entry && held.phase == DUE {
            held.phase = Phase::Ready;
            return;
        }
    }
    let replied = |held: &HeldEntry| matches!(held.phase, Phase::Replied(..));
    let over = |held: &HeldEntry| match held.phase {
        Phase::Replied(Outcome::PutBack { .. }, _) => false,
        Phase::Replied(_, effect) => effect == Effect::Applied,
        _ => false,
    };
    if worker.held.iter().any(|h| h.entry == entry && over(h)) {
        worker.settled.push(entry);
    }
    worker
        .held
        .retain(|held| held.entry != entry || !replied(held));
}

fn replace_fetch(state: &mut State, at: At) -> Fetch {
    std::mem::replace(&mut state.workers[at].fetch, Fetch::Idle)
}
