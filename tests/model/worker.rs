//! What a worker does: it fetches, handles and settles.

use super::Protocol;
use super::actions::{Action, At};
use super::bugs::Bug;
use super::state::{Answer, Delivered, Entry, Fetch, Held, MAX_DELIVERIES, Outcome, Phase, State};
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
            Action::Recount(at) => {
                if let Fetch::Declined { delivered, keep } = replace_fetch(state, at) {
                    state.recount(name(state, at), delivered, keep);
                }
            }
            Action::Look(at) => {
                let me = name(state, at);
                let mine = state.redis.all_pending().filter(|(_, p)| p.owner == me);
                let page = mine.map(|(entry, _)| entry).collect();
                // The second look: what was on its way by the first has arrived by then.
                state.workers[at].look = state.workers[at].awaits_answer();
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

    /// What this process was given before is left to the orphan check, which asks Redis
    /// whose it is by now.
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

    /// A reply is here that may bring what is held. A claim is judged by what was held
    /// when it was sent.
    fn receive(&self, state: &mut State, at: At) {
        match replace_fetch(state, at) {
            Fetch::Reclaimed(delivered) => {
                let held = state.workers[at].holds(delivered.entry);
                if self.bug == Some(Bug::ClaimStartsHeld)
                    || self.bug == Some(Bug::ClaimJudgedLate) && !held
                {
                    return self.admit(state, at, delivered);
                }
                // What lives is kept, the rest is for others. An answer may be on its way
                // by which `held` forgets it: it was another's for a while.
                let keep = state.workers[at].renews(delivered.entry);
                state.workers[at].look |= self.bug != Some(Bug::HeldClaimForgotten);
                state.workers[at].fetch = Fetch::Declined { delivered, keep };
            }
            Fetch::Read(delivered) => {
                // The reply of a bug alone.
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

    /// The fetcher's triage of what it does not hold.
    fn admit(&self, state: &mut State, at: At, delivered: Delivered) {
        let Delivered { entry, deliveries } = delivered;
        if self.bug != Some(Bug::OnlyReadsRemembered) {
            state.remember(at, entry);
        }
        state.marks.rerun |= state.workers[at].settled.contains(&entry);
        let phase = if deliveries > MAX_DELIVERIES {
            // Each delivery but the first takes a disturbance.
            let spent = self.disturbances - state.disturbances;
            state.marks.undeserved_burial |= spent < MAX_DELIVERIES;
            Phase::Ended(Outcome::Dead)
        } else if entry.is_delayed() {
            Phase::Ended(Outcome::Park)
        } else {
            Phase::Ready
        };
        state.workers[at].held.push(Held {
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
                let answer = state.settle(me, entry, outcome, bug);
                self.answer(state, at, entry, outcome, answer);
            }
            Action::SettleDue(at, entry) => {
                let me = name(state, at);
                let owned = state.redis.pending(entry).is_some_and(|p| p.owner == me);
                let answer = if owned { Answer::Due } else { Answer::NotOwned };
                self.answer(state, at, entry, Outcome::Park, answer);
            }
            Action::Confirm(at, entry) => confirm(state, at, entry),
            Action::SettleLost(at, entry) => {
                let outcome = ended(state, at, entry);
                state.settle(name(state, at), entry, outcome, self.bug);
                self.no_answer(state, at, entry);
            }
            _ => unreachable!("no settling: {action:?}"),
        }
    }

    /// Nothing can come between an answer and its arrival when the entry is out of the
    /// stream, and on no other way to this process.
    fn answer(&self, state: &mut State, at: At, entry: Entry, outcome: Outcome, answer: Answer) {
        for held in &mut state.workers[at].held {
            if held.entry == entry && matches!(held.phase, Phase::Ended(_)) {
                held.phase = Phase::Answered(outcome, answer);
                break;
            }
        }
        if !state.redis.stores(entry) && !state.workers[at].receives(entry) {
            confirm(state, at, entry);
        }
    }

    pub(crate) fn no_answer(&self, state: &mut State, at: At, entry: Entry) {
        if self.bug == Some(Bug::SettleDropped) {
            state.workers[at].held.retain(|held| held.entry != entry);
        }
    }
}

const DUE: Phase = Phase::Answered(Outcome::Park, Answer::Due);

fn held(state: &mut State, at: At, entry: Entry, phase: Phase) -> &mut Held {
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
    let answered = |held: &Held| matches!(held.phase, Phase::Answered(..));
    let over = |held: &Held| match held.phase {
        Phase::Answered(Outcome::PutBack { .. }, _) => false,
        Phase::Answered(_, answer) => answer == Answer::Applied,
        _ => false,
    };
    if worker.held.iter().any(|h| h.entry == entry && over(h)) {
        worker.settled.push(entry);
    }
    worker
        .held
        .retain(|held| held.entry != entry || !answered(held));
}

fn replace_fetch(state: &mut State, at: At) -> Fetch {
    std::mem::replace(&mut state.workers[at].fetch, Fetch::Idle)
}
