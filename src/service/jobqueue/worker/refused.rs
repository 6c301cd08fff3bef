//! Settlements that Redis refuses until an operator mends something, for example a missing
//! permission. They wait here, and the others go on meanwhile.
//!
//! Everything here is decided from values and the time: which settlements are kept, and when
//! they are tried again. The settler sends them.

use std::time::Instant;

use super::outcome::{Outcome, Settlement};
use crate::service::jobqueue::redis::OPERATOR_RETRY;

/// How many settlements wait here. Each takes memory, and a renewal with every heartbeat.
const MAX_REFUSED: usize = 4096;

/// The settlements that wait for an operator.
#[derive(Debug)]
pub(crate) struct Refused {
    settlements: Vec<Settlement>,
    /// When to try them again.
    retry_at: Instant,
    /// They were tried for the last time, because the worker ends.
    given_up: bool,
}

/// Settlements that are not kept, by what becomes of their entries.
#[derive(Debug, Default)]
pub(crate) struct Beyond {
    /// The entries are to be put off. They are delivered again after a while and end in the
    /// same way, until the trouble is mended.
    pub(crate) put_off: Vec<Settlement>,
    /// The entries were to be put back or put off already. Their leases run out instead.
    pub(crate) let_go: Vec<Settlement>,
}

impl Refused {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            settlements: Vec::new(),
            retry_at: now,
            given_up: false,
        }
    }

    /// Keeps settlements that were refused at `now`, and returns those beyond the bound. Outcomes
    /// of jobs that ran are always kept. Many of them stop others from being started.
    pub(crate) fn keep(&mut self, refused: Vec<Settlement>, now: Instant) -> Beyond {
        self.retry_at = now + OPERATOR_RETRY;
        let mut beyond = Beyond::default();
        for settlement in refused {
            let full = self.settlements.len() >= MAX_REFUSED;
            match settlement.outcome {
                Outcome::PutBack { .. } | Outcome::PutOff { .. } if full => {
                    beyond.let_go.push(settlement);
                }
                Outcome::Done(_) => self.settlements.push(settlement),
                _ if full => beyond.put_off.push(settlement),
                _ => self.settlements.push(settlement),
            }
        }
        beyond
    }

    /// When the settlements that wait here are to be tried again, if there are any.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        (!self.settlements.is_empty()).then_some(self.retry_at)
    }

    /// Whether settlements that wait here are to be tried now. A worker that is `ending` tries
    /// them once more without waiting for their time.
    pub(crate) fn are_due(&self, now: Instant, ending: bool) -> bool {
        let last_time = ending && !self.given_up;
        self.retry_at().is_some_and(|at| at <= now || last_time)
    }

    /// Takes the settlements that are to be tried now, if they are due.
    pub(crate) fn take_due(&mut self, now: Instant, ending: bool) -> Vec<Settlement> {
        if !self.are_due(now, ending) {
            return Vec::new();
        }
        self.given_up = ending;
        self.take_all()
    }

    /// Takes all settlements that wait here.
    pub(crate) fn take_all(&mut self) -> Vec<Settlement> {
        std::mem::take(&mut self.settlements)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::jobqueue::job::Edits;

    const PUT_BACK: Outcome = Outcome::PutBack { deliveries: 1 };

    fn retry() -> Outcome {
        Outcome::LeaveToOthers {
            edits: Edits {
                of_bytes: 0,
                edits: Vec::new(),
            },
            pause: Duration::ZERO,
        }
    }

    fn settlements(count: usize, outcome: impl Fn() -> Outcome) -> Vec<Settlement> {
        let settlement = |_| Settlement {
            id: "1-0".parse().unwrap(),
            outcome: outcome(),
            serial: 0,
        };
        (0..count).map(settlement).collect()
    }

    #[test]
    fn what_was_refused_is_tried_again_after_a_while() {
        let now = Instant::now();
        let mut refused = Refused::new(now);
        assert!(!refused.are_due(now, false), "there is nothing");
        drop(refused.keep(settlements(2, retry), now));
        let soon = now + OPERATOR_RETRY - Duration::from_millis(1);
        assert!(refused.take_due(soon, false).is_empty());
        assert_eq!(refused.take_due(now + OPERATOR_RETRY, false).len(), 2);
        assert_eq!(refused.retry_at(), None);
    }

    #[test]
    fn a_worker_that_ends_tries_once_more_at_once() {
        let now = Instant::now();
        let mut refused = Refused::new(now);
        drop(refused.keep(settlements(2, retry), now));
        let last = refused.take_due(now, true);
        assert_eq!(last.len(), 2);
        drop(refused.keep(last, now));
        assert!(!refused.are_due(now, true), "that was the last time");
    }

    #[test]
    fn what_ran_is_kept_in_any_case_and_the_rest_up_to_a_bound() {
        let now = Instant::now();
        let mut refused = Refused::new(now);
        let beyond = refused.keep(settlements(MAX_REFUSED + 1, retry), now);
        assert_eq!((beyond.put_off.len(), beyond.let_go.len()), (1, 0));
        let beyond = refused.keep(settlements(3, || PUT_BACK), now);
        assert_eq!((beyond.put_off.len(), beyond.let_go.len()), (0, 3));
        let beyond = refused.keep(settlements(10, || Outcome::Done(None)), now);
        assert_eq!((beyond.put_off.len(), beyond.let_go.len()), (0, 0));
        assert_eq!(refused.take_all().len(), MAX_REFUSED + 10);
    }
}
