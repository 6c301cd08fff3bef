//! What can happen, and when.

use super::Protocol;
use super::bugs::Bug;
use super::state::{
    Entry, Fetch, Held, Name, Outcome, Phase, Place, State, Stray, WORKERS, Worker,
};

/// A worker's place; its name changes with each life.
pub(crate) type At = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    // What a worker does.
    Read(At, Entry),
    /// A reclaim is on its way to Redis, while this is held,
    Send(At, Entry),
    /// and reaches it.
    Reclaim(At, Entry),
    ReclaimNothing(At),
    /// A reply arrives that brings what is held, or was.
    Receive(At),
    /// Redis is told what becomes of what a reclaim has brought so.
    Recount(At),
    /// The orphan check lists what is pending for this consumer,
    Look(At),
    /// and takes what of it is not held.
    Take(At),
    Run(At, Entry),
    Succeed(At, Entry),
    Fail(At, Entry),
    PutBackReady(At, Entry),
    /// The outcome reaches Redis.
    Settle(At, Entry),
    /// A park reaches Redis when the delay is over.
    SettleDue(At, Entry),
    /// The outcome's answer arrives, when that is of consequence.
    Confirm(At, Entry),
    Renew(At),
    /// SIGTERM.
    Stop(At),
    /// A stopping worker has nothing left; another process takes its place.
    Exit(At),
    /// A look puts back what is stranded.
    FindStranded(At),
    // What time does.
    Promote(Entry),
    Expire(Entry),
    HoldEnds,
    // Faults, and their ends.
    /// Another process takes its place.
    Crash(At),
    /// Frozen, or cut off from Redis, for longer than a lease.
    GoAway(At),
    ComeBack(At),
    /// Redis stands still, or its clock leaps: all leases look expired.
    Stall,
    /// What was delivered waits again, from this on: the group is made anew or set back,
    /// or Redis' last second lost.
    ForgetDeliveries(Entry),
    /// Redis does it and the reply is lost.
    ReadLost(At, Entry),
    ReclaimLost(At, Entry),
    SettleLost(At, Entry),
    /// A command is given up on, and not out of the world.
    SettleOutlives(At, Entry),
    ReadOutlives(At),
    ReclaimOutlives(At),
    RenewOutlives(At, Entry),
    /// Redis does such a command, on this entry if it is one that looks for some,
    /// or never.
    Arrive(Stray, Option<Entry>),
    /// The shutdown's deadline is over.
    CutOff(At, Entry),
    /// An operator deletes a consumer with what is pending for it,
    DeleteConsumer(Name),
    /// or makes the group skip what waits.
    SkipBacklog,
    /// The clock of Redis goes back, and the next look finds it.
    TurnClockBack,
}

impl Action {
    /// Whether the queue would get along without it: a fault, or a worker's whim.
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
            // What a handler does meanwhile it may as well do when its process is back.
            if worker.away {
                actions.push(Action::ComeBack(at));
            } else {
                self.handler_actions(at, worker, actions);
                self.worker_actions(state, at, worker, actions);
            }
        }
        self.time_and_redis(state, actions);
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
                Phase::Ended(_) | Phase::Answered(..) => {}
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
            Fetch::Declined { .. } => actions.push(Action::Recount(at)),
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

    /// What an operator or the clock does to a queue, and how a look mends it.
    fn operator_and_mending(&self, state: &State, actions: &mut Vec<Action>) {
        let redis = &state.redis;
        let mut owners: Vec<Name> = redis.all_pending().map(|(_, p)| p.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        actions.extend(owners.into_iter().map(Action::DeleteConsumer));
        if redis.next_to_read().is_some() {
            actions.push(Action::SkipBacklog);
        }
        if redis.all_pending().next().is_some() {
            actions.push(Action::TurnClockBack);
        }
        let looks = |worker: &Worker| worker.takes_jobs();
        let stranded = redis.stream.iter().any(|s| s.place == Place::Stranded);
        if stranded && self.bug != Some(Bug::StrandedForgotten) {
            let looking = (0..WORKERS).filter(|at| looks(&state.workers[*at]));
            actions.extend(looking.map(Action::FindStranded));
        }
    }

    /// A renewal that changes nothing is no action.
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
    // When it was sent is of consequence to what is about to be forgotten alone.
    for held in &state.workers[at].held {
        if matches!(held.phase, Phase::Answered(..)) {
            actions.push(Action::Send(at, held.entry));
        }
    }
}

fn settle_actions(at: At, held: &Held, actions: &mut Vec<Action>) {
    match held.phase {
        Phase::Ended(outcome) => {
            actions.push(Action::Settle(at, held.entry));
            if outcome == Outcome::Park {
                actions.push(Action::SettleDue(at, held.entry));
            }
            actions.push(Action::SettleLost(at, held.entry));
            actions.push(Action::SettleOutlives(at, held.entry));
        }
        Phase::Answered(..) => actions.push(Action::Confirm(at, held.entry)),
        Phase::Ready | Phase::Running => {}
    }
}

impl State {
    /// Whether a live process sees to it that the lease does not end: it holds the entry,
    /// or is just being told of it.
    fn is_renewed(&self, entry: Entry) -> bool {
        let Some(pending) = self.redis.pending(entry) else {
            return false;
        };
        self.workers.iter().any(|worker| {
            !worker.away
                && worker.name == pending.owner
                && (worker.renews(entry) || worker.receives(entry))
        })
    }

    /// Whether somebody who is there has not renewed yet what a stall made look expired.
    /// One that is or was away is not waited for: the hold is a time, not a handshake.
    pub(crate) fn is_renewal_awaited(&self) -> bool {
        self.redis
            .all_pending()
            .any(|(entry, p)| p.expired && !p.excused && self.is_renewed(entry))
    }

    fn is_reclaimable(&self, entry: Entry) -> bool {
        let pending = self.redis.pending(entry);
        !self.redis.holding && pending.is_some_and(|pending| pending.expired)
    }

    /// What a read or a reclaim that outlived its connection may get.
    pub(crate) fn deliverable(&self, stray: Stray) -> Vec<Entry> {
        let pending = self.redis.all_pending().map(|(entry, _)| entry);
        match stray {
            Stray::Read { .. } => self.redis.next_to_read().into_iter().collect(),
            Stray::Reclaim { .. } => pending.filter(|e| self.is_reclaimable(*e)).collect(),
            Stray::Settle { .. } | Stray::Renew { .. } => Vec::new(),
        }
    }
}
