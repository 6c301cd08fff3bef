//! What remains when the faults stop: from any state the queue drains by itself.
//!
//! A fixed schedule of ordinary steps is followed from each state until nothing is
//! left. That one schedule drains the queue from every state means that every fair
//! one does: in a finite space without faults, whoever keeps taking every step that
//! stays possible takes this way in the end.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use super::Protocol;
use super::actions::Action;
use super::state::{Fetch, State, Worker};

/// More than any way to the end takes.
const MAX_STEPS: usize = 200;

/// States from which the end is known to be reached.
#[derive(Debug, Default)]
pub(crate) struct Drains {
    known: Mutex<HashSet<u64>>,
}

impl Protocol {
    pub(crate) fn drains(&self, state: &State) -> bool {
        if self.lock().contains(&fingerprint(state)) {
            return true;
        }
        let mut way = Vec::new();
        let mut state = state.clone();
        // What is on its way may be lost on it. Where Redis ends up when it arrives is a
        // state of its own.
        state.disturbances = 0;
        state.strays.clear();
        state.tidy();
        state = self.normal(state);
        for _ in 0..MAX_STEPS {
            let print = fingerprint(&state);
            way.push(print);
            if state.is_drained() || self.lock().contains(&print) {
                self.lock().extend(way);
                return true;
            }
            let Some(action) = self.calm_action(&state) else {
                return false;
            };
            self.step(&mut state, action);
            state.tidy();
            state = self.normal(state);
        }
        false
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        let known = self.drains.known.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }

    /// The most urgent ordinary step. Who is away stays away as long as another can do
    /// the work, and a lease ends only when no live process could know of the entry.
    fn calm_action(&self, state: &State) -> Option<Action> {
        let mut actions = Vec::with_capacity(32);
        self.all_actions(state, &mut actions);
        let works = |worker: &Worker| worker.takes_jobs();
        let manned = state.workers.iter().any(works);
        let rank = |action: &Action| match *action {
            Action::Confirm(..) => Some(2),
            Action::Settle(..) => Some(3),
            Action::Receive(_) | Action::Recount(_) | Action::ReclaimNothing(_) => Some(4),
            Action::Take(_) => Some(5),
            Action::Succeed(..) => Some(6),
            Action::Run(..) => Some(7),
            Action::Renew(_) => Some(8),
            Action::Exit(_) => Some(9),
            Action::HoldEnds => Some(10),
            Action::FindStranded(_) => Some(11),
            Action::Look(_) => Some(11),
            Action::Promote(_) => Some(12),
            Action::Reclaim(..) => Some(13),
            Action::Read(..) => Some(14),
            Action::Expire(entry) => {
                let pending = state.redis.pending(entry)?;
                let owner = state.workers.iter().find(|w| w.name == pending.owner);
                let unknown = owner.is_none_or(|w| !w.takes_jobs());
                (pending.late || unknown).then_some(15)
            }
            Action::ComeBack(_) if !manned => Some(17),
            _ => None,
        };
        let ranked = actions.into_iter().filter_map(|a| Some((rank(&a)?, a)));
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, action)| action)
    }
}

/// Of all that decides what happens when nothing disturbs any more.
fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&state.redis, &state.workers).hash(&mut hasher);
    hasher.finish()
}

impl State {
    /// Every job has its end, and no live process believes otherwise.
    fn is_drained(&self) -> bool {
        let idle = |worker: &Worker| {
            worker.away || (worker.held.is_empty() && worker.fetch == Fetch::Idle && !worker.look)
        };
        self.redis.stream.is_empty()
            && self.redis.scheduled.is_empty()
            && self.workers.iter().all(idle)
    }
}
