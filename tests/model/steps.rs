//! What each action changes. The actions of a worker's fetcher and handlers are in
//! `worker`, those of its settler in `settler`, and those of an operator in `operator`.

use super::Protocol;
use super::actions::{Action, At};
use super::bugs::Bug;
use super::settler::ended;
use super::state::{Effect, Entry, Name, Phase, Place, State, Stray, Worker};

impl Protocol {
    pub(crate) fn step(&self, state: &mut State, action: Action) {
        state.disturbances -= u8::from(action.disturbs());
        state.operations -= u8::from(action.operates());
        match action {
            Action::Exit(at) => replace(state, at),
            Action::Crash(at) => {
                state.abandon_all(name(state, at));
                replace(state, at);
            }
            Action::GoAway(at) => {
                state.abandon_all(name(state, at));
                set_away(state, at, true);
            }
            Action::ComeBack(at) => set_away(state, at, false),
            Action::Stop(at) => state.workers[at].stopping = true,
            Action::Read(..)
            | Action::Send(..)
            | Action::Reclaim(..)
            | Action::ReclaimNothing(_)
            | Action::Receive(_)
            | Action::TakeBack(_)
            | Action::Look(_)
            | Action::Take(_)
            | Action::ReadLost(..)
            | Action::ReclaimLost(..) => self.fetch(state, action),
            Action::Run(..)
            | Action::Succeed(..)
            | Action::Fail(..)
            | Action::PutBackReady(..)
            | Action::CutOff(..) => self.handle(state, action),
            Action::Settle(..)
            | Action::SettleDue(..)
            | Action::Confirm(..)
            | Action::SettleLost(..) => self.settle(state, action),
            Action::Renew(at) => self.renew_all(state, at),
            Action::Promote(entry) => state.promote(entry, self.bug),
            Action::Expire(entry) => state.redis.pending_mut(entry).unwrap().expired = true,
            Action::ForgetDeliveries(from) => state.forget_deliveries(from),
            Action::RemakeGroup(from) => state.remake_group(from),
            Action::HoldEnds => state.redis.holding = false,
            Action::Stall => {
                for stored in &mut state.redis.stream {
                    if let Place::Pending(pending) = &mut stored.place {
                        pending.expired = true;
                    }
                }
                state.redis.holding = self.bug != Some(Bug::ReclaimWithoutHold);
            }
            Action::DeleteConsumer(name) => state.delete_consumer(name),
            Action::SkipBacklog => state.skip_backlog(),
            Action::FindStranded(at) => state.find_stranded(name(state, at)),
            Action::TurnClockBack => {
                state.turn_clock_back();
                if self.bug != Some(Bug::FutureForgotten) {
                    state.reset_future_deliveries();
                }
            }
            Action::SettleOutlives(..)
            | Action::ReadOutlives(_)
            | Action::ReclaimOutlives(_)
            | Action::RenewOutlives(..)
            | Action::Arrive(..) => self.outlive(state, action),
            Action::Cancel(_)
            | Action::Unschedule(_)
            | Action::RunNow(_)
            | Action::RetryDead(_)
            | Action::DeleteDead(_) => self.operate(state, action),
            Action::Heed(at) => self.heed(state, at),
        }
        self.drop_cancels(state);
    }

    fn renew_all(&self, state: &mut State, at: At) {
        let me = name(state, at);
        for held in state.workers[at].held.clone() {
            if !state.workers[at].renews(held.entry) {
                continue;
            }
            let owned = state.renew(me, held.entry, self.bug);
            if let Some(pending) = state.redis.pending_mut(held.entry) {
                pending.excused &= !owned;
            }
            if !owned && self.bug == Some(Bug::HeldForgotten) && held.phase == Phase::Running {
                let worker = &mut state.workers[at];
                worker.held.retain(|h| *h != held);
                worker.forgotten.push(held.entry);
            }
        }
    }

    fn outlive(&self, state: &mut State, action: Action) {
        match action {
            Action::SettleOutlives(at, entry) => {
                let (from, outcome) = (name(state, at), ended(state, at, entry));
                self.lose_reply(state, at, entry);
                state.strays.push(Stray::Settle {
                    from,
                    entry,
                    outcome,
                });
            }
            Action::ReadOutlives(at) => {
                state.strays.push(Stray::Read {
                    from: name(state, at),
                });
                state.workers[at].look = self.bug != Some(Bug::NoOrphanCheck);
            }
            Action::ReclaimOutlives(at) => {
                state.strays.push(Stray::Reclaim {
                    from: name(state, at),
                });
                state.workers[at].look = self.bug != Some(Bug::NoOrphanCheck);
            }
            Action::RenewOutlives(at, entry) => {
                let from = name(state, at);
                state.strays.push(Stray::Renew { from, entry });
            }
            Action::Arrive(stray, entry) => {
                let at = state.strays.iter().position(|s| *s == stray);
                state.strays.remove(at.expect("the action was possible"));
                self.arrive(state, stray, entry);
            }
            _ => unreachable!("no stray: {action:?}"),
        }
    }

    fn arrive(&self, state: &mut State, stray: Stray, entry: Option<Entry>) {
        let touched = match (stray, entry) {
            (
                Stray::Settle {
                    from,
                    entry,
                    outcome,
                },
                _,
            ) => {
                let effect = state.settle(from, entry, outcome, self.bug);
                if effect == Effect::Applied {
                    state.excuse(from, entry);
                }
                entry
            }
            (Stray::Renew { from, entry }, _) => {
                state.renew(from, entry, self.bug);
                entry
            }
            (Stray::Read { from }, Some(entry)) => state.read(from, entry).entry,
            (Stray::Reclaim { from }, Some(entry)) => state.reclaim(from, entry).entry,
            (Stray::Read { .. } | Stray::Reclaim { .. }, None) => return,
        };
        if let Some(pending) = state.redis.pending_mut(touched)
            && pending.owner == stray.from()
        {
            pending.late = true;
        }
    }
}

impl State {
    /// Notes that a fault of the entry's owner explains why others may get the entry.
    pub(crate) fn excuse(&mut self, owner: Name, entry: Entry) {
        if let Some(pending) = self.redis.pending_mut(entry)
            && pending.owner == owner
        {
            pending.excused = true;
        }
    }

    /// Nobody renews the entries of this owner any more. Their leases end at once, because all that
    /// can happen before the end of a lease can happen after it too.
    fn abandon_all(&mut self, owner: Name) {
        for stored in &mut self.redis.stream {
            if let Place::Pending(pending) = &mut stored.place
                && pending.owner == owner
            {
                pending.excused = true;
                // The lease of an entry that was delivered in the future does not end.
                pending.expired |= !pending.future;
            }
        }
    }
}

pub(crate) fn name(state: &State, at: At) -> Name {
    state.workers[at].name
}

/// Another process takes the worker's place at once. A process that starts later is the same as one
/// that does nothing until then.
fn replace(state: &mut State, at: At) {
    state.workers[at] = Worker::new(state.fresh_name());
}

fn set_away(state: &mut State, at: At, now: bool) {
    state.workers[at].away = now;
}
