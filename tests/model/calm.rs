//! Checks that the queue drains by itself from every state when the faults stop.
//!
//! From each state the model takes ordinary steps in a fixed order until the queue is empty. If
//! this order drains the queue from every state, then every fair order does: the number of states
//! is finite, and a fair order takes each step at last that stays possible.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use super::Protocol;
use super::actions::Action;
use super::state::{Fetch, State, Worker};

/// The limit of steps. The longest way to the end is shorter.
const MAX_STEPS: usize = 200;

/// The states from which the queue is known to drain.
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
        // A command on its way may get lost, so none of them arrives here. The states after they
        // have arrived are checked by themselves.
        state.disturbances = 0;
        state.operations = 0;
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

    /// The ordinary step that comes first in the order. A worker that is away stays away as long as
    /// another one can do the work. A lease ends only when no live process could know of the entry.
    fn calm_action(&self, state: &State) -> Option<Action> {
        let mut actions = Vec::with_capacity(32);
        self.all_actions(state, &mut actions);
        let works = |worker: &Worker| worker.takes_jobs();
        let manned = state.workers.iter().any(works);
        let rank = |action: &Action| match *action {
            Action::Confirm(..) => Some(2),
            Action::Settle(..) => Some(3),
            Action::Receive(_) | Action::TakeBack(_) | Action::ReclaimNothing(_) => Some(4),
            Action::Take(_) | Action::Heed(_) => Some(5),
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

/// A hash of all that decides what happens without disturbances.
fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&state.redis, &state.workers).hash(&mut hasher);
    hasher.finish()
}

impl State {
    /// Whether every job has ended, and all live processes know it.
    fn is_drained(&self) -> bool {
        let idle = |worker: &Worker| {
            worker.away || (worker.held.is_empty() && worker.fetch == Fetch::Idle && !worker.look)
        };
        self.redis.stream.is_empty()
            && self.redis.scheduled.is_empty()
            && self.workers.iter().all(idle)
    }
}
