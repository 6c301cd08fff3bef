//! The actions of the model, and the states in which each can happen. `steps` says what they change.

use super::Protocol;
use super::bugs::Bug;
use super::state::{Entry, Fetch, HeldEntry, Name, Outcome, Phase, State, Stray, WORKERS, Worker};

/// A worker's place. The worker's name changes when its process is replaced.
pub(crate) type At = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    // What a worker does.
    Read(At, Entry),
    /// A reclaim is sent to Redis while this entry is held.
    Send(At, Entry),
    /// The reclaim reaches Redis and returns this entry.
    Reclaim(At, Entry),
    /// The reclaim reaches Redis and returns nothing.
    ReclaimNothing(At),
    /// A reply arrives with an entry that is held, or that was held.
    Receive(At),
    /// Redis takes back the claim of such an entry.
    TakeBack(At),
    /// The orphan check lists the entries that are pending for this consumer.
    Look(At),
    /// The orphan check takes those of the listed entries that are not held.
    Take(At),
    Run(At, Entry),
    Succeed(At, Entry),
    Fail(At, Entry),
    PutBackReady(At, Entry),
    /// The outcome reaches Redis.
    Settle(At, Entry),
    /// A park reaches Redis after the delay is over.
    SettleDue(At, Entry),
    /// The reply to the outcome arrives. There is no such action where its time makes no difference.
    Confirm(At, Entry),
    Renew(At),
    /// The heartbeat asks which held entries are to be cancelled.
    Heed(At),
    /// The worker gets SIGTERM.
    Stop(At),
    /// A stopping worker holds nothing any more. Another process takes its place.
    Exit(At),
    /// A look puts the stranded entries back.
    FindStranded(At),
    // What time does.
    Promote(Entry),
    Expire(Entry),
    HoldEnds,
    // Faults, and their ends.
    /// The process ends, and another one takes its place.
    Crash(At),
    /// The process is frozen, or cut off from Redis, for longer than a lease.
    GoAway(At),
    ComeBack(At),
    /// Redis stands still, or its clock leaps, so that all leases look expired.
    Stall,
    /// The delivered entries wait again, from this one on. The group was created again or set back,
    /// or Redis lost its last second.
    ForgetDeliveries(Entry),
    /// The group is created again, and the cancels are dropped.
    RemakeGroup(Entry),
    /// Redis runs the command, and the reply is lost.
    ReadLost(At, Entry),
    ReclaimLost(At, Entry),
    SettleLost(At, Entry),
    /// The sender gives up on a command that Redis may still run.
    SettleOutlives(At, Entry),
    ReadOutlives(At),
    ReclaimOutlives(At),
    RenewOutlives(At, Entry),
    /// Redis runs such a command. A read or a reclaim returns this entry. A command that never runs
    /// has no action.
    Arrive(Stray, Option<Entry>),
    /// The shutdown's deadline is over while the handler runs.
    CutOff(At, Entry),
    /// An operator deletes a consumer that has pending entries.
    DeleteConsumer(Name),
    /// An operator sets the group to the end of the stream, so it skips all waiting entries.
    SkipBacklog,
    /// The clock of Redis goes back, and the next look finds it.
    TurnClockBack,
    /// An operator cancels the job of an entry in the stream.
    Cancel(Entry),
    /// An operator removes a job from the scheduled set.
    Unschedule(Entry),
    /// Moves a scheduled job to the stream. Only a bug needs this: otherwise it is a promotion.
    RunNow(Entry),
    /// Moves a dead letter to the stream.
    RetryDead(Entry),
    DeleteDead(Entry),
}

impl Action {
    /// Whether the action is a fault, or something that the queue does not need in order to drain.
    pub(crate) fn disturbs(&self) -> bool {
        matches!(
            self,
            Self::PutBackReady(..)
                | Self::Stop(_)
                | Self::CutOff(..)
                | Self::Crash(_)
                | Self::GoAway(_)
                | Self::Stall
                | Self::ForgetDeliveries(_)
                | Self::RemakeGroup(_)
                | Self::DeleteConsumer(_)
                | Self::SkipBacklog
                | Self::TurnClockBack
                | Self::ReadLost(..)
                | Self::ReclaimLost(..)
                | Self::SettleLost(..)
                | Self::SettleOutlives(..)
                | Self::ReadOutlives(_)
                | Self::ReclaimOutlives(_)
                | Self::RenewOutlives(..)
        )
    }
}

impl Protocol {
    pub(crate) fn all_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..WORKERS {
            let worker = &state.workers[at];
            actions.push(Action::Crash(at));
            // The handlers of a worker that is away have no actions. They may do the same after it
            // has come back.
            if worker.away {
                actions.push(Action::ComeBack(at));
            } else {
                self.handler_actions(at, worker, actions);
                self.worker_actions(state, at, worker, actions);
            }
        }
        self.time_and_redis(state, actions);
        self.operations(state, actions);
        if state.disturbances == 0 {
            actions.retain(|action| !action.disturbs());
        }
    }

    fn handler_actions(&self, at: At, worker: &Worker, actions: &mut Vec<Action>) {
        for held in &worker.held {
            match held.phase {
                Phase::Ready => {
                    actions.push(Action::Run(at, held.entry));
                    actions.push(Action::PutBackReady(at, held.entry));
                }
                Phase::Running => {
                    actions.push(Action::Succeed(at, held.entry));
                    actions.push(Action::Fail(at, held.entry));
                    if worker.stopping && worker.fetch == Fetch::Idle {
                        actions.push(Action::CutOff(at, held.entry));
                    }
                }
                Phase::Ended(_) | Phase::Replied(..) => {}
            }
        }
        for &entry in &worker.forgotten {
            actions.push(Action::Succeed(at, entry));
        }
    }

    fn worker_actions(&self, state: &State, at: At, worker: &Worker, actions: &mut Vec<Action>) {
        actions.push(Action::GoAway(at));
        if !worker.stopping {
            actions.push(Action::Stop(at));
        }
        match &worker.fetch {
            Fetch::Idle if !worker.stopping => {
                if worker.look {
                    actions.push(Action::Look(at));
                }
                read_actions(state, at, actions);
                reclaim_actions(state, at, actions);
                actions.push(Action::ReadOutlives(at));
                actions.push(Action::ReclaimOutlives(at));
            }
            Fetch::Idle => {
                if worker.held.is_empty() {
                    actions.push(Action::Exit(at));
                }
            }
            Fetch::Sent(entry) => {
                if state.is_reclaimable(*entry) {
                    actions.push(Action::Reclaim(at, *entry));
                    actions.push(Action::ReclaimLost(at, *entry));
                }
                actions.push(Action::ReclaimNothing(at));
            }
            Fetch::Reclaimed(_) | Fetch::Read(_) => actions.push(Action::Receive(at)),
            Fetch::TakingBack { .. } => actions.push(Action::TakeBack(at)),
            Fetch::Page(_) => actions.push(Action::Take(at)),
        }
        for held in &worker.held {
            settle_actions(at, held, actions);
            if worker.renews(held.entry) {
                actions.push(Action::RenewOutlives(at, held.entry));
            }
        }
        if self.renewal_matters(state, worker) {
            actions.push(Action::Renew(at));
        }
        if worker.held.iter().any(|held| state.is_heeded(held)) {
            actions.push(Action::Heed(at));
        }
    }

    fn time_and_redis(&self, state: &State, actions: &mut Vec<Action>) {
        for &entry in &state.redis.scheduled {
            actions.push(Action::Promote(entry));
        }
        for (entry, pending) in state.redis.all_pending() {
            if self.forgets_many || state.redis.newest_pending() == Some(entry) {
                actions.push(Action::ForgetDeliveries(entry));
            }
            if !pending.expired && !pending.future && !state.is_renewed(entry) {
                actions.push(Action::Expire(entry));
            }
        }
        if state.redis.all_pending().any(|(_, p)| !p.expired) {
            actions.push(Action::Stall);
        }
        let holds_for_ever = self.bug == Some(Bug::HoldWithoutEnd);
        if state.redis.holding && !state.is_renewal_awaited() && !holds_for_ever {
            actions.push(Action::HoldEnds);
        }
        self.operator_and_mending(state, actions);
        for &stray in &state.strays {
            match stray {
                Stray::Settle { .. } | Stray::Renew { .. } => {
                    actions.push(Action::Arrive(stray, None));
                }
                Stray::Read { .. } | Stray::Reclaim { .. } => {
                    for entry in state.deliverable(stray) {
                        actions.push(Action::Arrive(stray, Some(entry)));
                    }
                }
            }
        }
    }

    /// Whether a renewal would change anything. One that changes nothing is no action.
    fn renewal_matters(&self, state: &State, worker: &Worker) -> bool {
        worker.held.iter().any(|held| {
            let pending = state.redis.pending(held.entry);
            let owned = pending.filter(|p| p.owner == worker.name);
            worker.renews(held.entry)
                && match owned {
                    Some(pending) => {
                        pending.expired
                            || pending.future
                            || pending.excused
                            || self.bug == Some(Bug::RenewalCounts)
                    }
                    None => match self.bug {
                        Some(Bug::HeldForgotten) => matches!(held.phase, Phase::Running),
                        Some(Bug::HeartbeatSteals) => pending.is_some(),
                        _ => false,
                    },
                }
        })
    }
}

fn read_actions(state: &State, at: At, actions: &mut Vec<Action>) {
    if let Some(entry) = state.redis.next_to_read() {
        actions.push(Action::Read(at, entry));
        actions.push(Action::ReadLost(at, entry));
    }
}

fn reclaim_actions(state: &State, at: At, actions: &mut Vec<Action>) {
    for (entry, _) in state.redis.all_pending() {
        if state.is_reclaimable(entry) {
            actions.push(Action::Reclaim(at, entry));
            actions.push(Action::ReclaimLost(at, entry));
        }
    }
    // The time when a reclaim is sent matters only to entries that are about to leave `held`.
    for held in &state.workers[at].held {
        if matches!(held.phase, Phase::Replied(..)) {
            actions.push(Action::Send(at, held.entry));
        }
    }
}

fn settle_actions(at: At, held: &HeldEntry, actions: &mut Vec<Action>) {
    match held.phase {
        Phase::Ended(outcome) => {
            actions.push(Action::Settle(at, held.entry));
            if outcome == Outcome::Park {
                actions.push(Action::SettleDue(at, held.entry));
            }
            actions.push(Action::SettleLost(at, held.entry));
            actions.push(Action::SettleOutlives(at, held.entry));
        }
        Phase::Replied(..) => actions.push(Action::Confirm(at, held.entry)),
        Phase::Ready | Phase::Running => {}
    }
}
