//! The actions of a worker's settler.

use super::Protocol;
use super::actions::{Action, At};
use super::bugs::Bug;
use super::state::{Effect, Entry, HeldEntry, Outcome, Phase, State};
use super::steps::name;

impl Protocol {
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
                let cancelled = state.redis.cancel.contains(&entry);
                let effect = if !owned {
                    Effect::NotOwner
                } else if cancelled && self.bug != Some(Bug::DueBeforeCancel) {
                    Effect::Cancelled
                } else {
                    Effect::AlreadyDue
                };
                let accepted = state.is_cancel_accepted(entry);
                let mut held = state.workers[at].held.iter_mut();
                if let Some(held) = held.find(|held| held.entry == entry) {
                    held.should_know |= accepted && effect == Effect::AlreadyDue;
                }
                self.reply(state, at, entry, Outcome::Park, effect);
            }
            Action::Confirm(at, entry) => self.confirm(state, at, entry),
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
            self.confirm(state, at, entry);
        }
    }

    /// A job that was not moved because it is to be cancelled is buried instead.
    fn confirm(&self, state: &mut State, at: At, entry: Entry) {
        if self.bug != Some(Bug::CancelledForgotten) {
            for held in &mut state.workers[at].held {
                let cancelled = matches!(held.phase, Phase::Replied(_, Effect::Cancelled));
                if held.entry == entry && cancelled {
                    held.phase = Phase::Ended(Outcome::Dead);
                    return;
                }
            }
        }
        confirm(state, at, entry);
    }

    pub(crate) fn lose_reply(&self, state: &mut State, at: At, entry: Entry) {
        if self.bug == Some(Bug::SettleDropped) {
            state.workers[at].held.retain(|held| held.entry != entry);
        }
    }
}

const DUE: Phase = Phase::Replied(Outcome::Park, Effect::AlreadyDue);

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
