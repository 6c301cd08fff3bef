//! The plain account of what must be held, and how each event changes it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::{How, Op};
use crate::service::jobqueue::worker::decide;
use crate::service::jobqueue::worker::held::phase::Sending;
use crate::service::jobqueue::worker::held::tests::{delivery, id};
use crate::service::jobqueue::worker::held::{Admission, Held, Lease, Limits};
use crate::service::jobqueue::worker::outcome::{Delivery, Outcome, Settlement};

/// Where an entry is, by the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Aside,
    Ready,
    Running,
    Output,
    /// It is put back if it has no other outcome.
    Ending {
        how: How,
        sending: Sending,
    },
}

#[derive(Debug)]
pub(super) struct Noted {
    pub(super) place: Place,
    /// Which of all that were ever delivered it is.
    pub(super) number: usize,
    pub(super) delivery: Option<Arc<Delivery>>,
    /// Changes with each delivery and each claim.
    pub(super) lease: usize,
}

/// A handler that runs, or whose output is on its way.
pub(super) struct Run {
    pub(super) delivery: Arc<Delivery>,
    pub(super) number: usize,
    pub(super) in_output: bool,
}

pub(super) struct Account {
    pub(super) held: Held,
    pub(super) limits: Limits,
    pub(super) runners_started: Arc<AtomicUsize>,
    pub(super) runners_came: usize,
    pub(super) entries: BTreeMap<u64, Noted>,
    /// How often each was started, by its number.
    pub(super) starts: Vec<usize>,
    pub(super) ready: VecDeque<usize>,
    pub(super) outcomes: Vec<usize>,
    /// What the settler has, with its number.
    pub(super) sent: Vec<(Settlement, usize)>,
    pub(super) runs: Vec<Run>,
    pub(super) stopping: bool,
    pub(super) epoch: u64,
    pub(super) leases: Vec<(Lease, Option<usize>)>,
    pub(super) changes: usize,
}

impl Account {
    pub(super) fn new(limits: Limits) -> Self {
        let runners_started = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&runners_started);
        let start = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        Self {
            held: Held::new(limits, start),
            limits,
            runners_started,
            runners_came: 0,
            entries: BTreeMap::new(),
            starts: Vec::new(),
            ready: VecDeque::new(),
            outcomes: Vec::new(),
            sent: Vec::new(),
            runs: Vec::new(),
            stopping: false,
            epoch: 0,
            leases: Vec::new(),
            changes: 0,
        }
    }

    pub(super) fn on_its_way(&self) -> usize {
        self.runners_started.load(Ordering::Relaxed) - self.runners_came
    }

    pub(super) fn numbered(&mut self, number: usize) -> Option<&mut Noted> {
        let mut entries = self.entries.values_mut();
        entries.find(|entry| entry.number == number)
    }

    fn note(&mut self, n: u64, place: Place, delivery: Option<Arc<Delivery>>) -> Option<usize> {
        let there = self.entries.get(&n);
        if there.is_some_and(|entry| entry.place != Place::Aside) {
            return None;
        }
        let number = self.starts.len();
        self.starts.push(0);
        self.changes += 1;
        let entry = Noted {
            place,
            number,
            delivery,
            lease: self.changes,
        };
        self.entries.insert(n, entry);
        Some(number)
    }

    pub(super) fn end(&mut self, number: usize, how: How) {
        let sending = Sending::Waiting;
        if let Some(entry) = self.numbered(number) {
            entry.place = Place::Ending { how, sending };
            self.outcomes.push(number);
        }
    }

    pub(super) fn put_back_if_stopping(&mut self) {
        if !self.stopping {
            return;
        }
        for number in std::mem::take(&mut self.ready) {
            self.end(number, How::PutBack);
        }
        let aside = self.entries.values();
        let aside = aside.filter(|entry| entry.place == Place::Aside);
        for number in aside.map(|entry| entry.number).collect::<Vec<_>>() {
            self.end(number, How::PutBack);
        }
    }

    /// Whether there is a slot, and few enough jobs have run that Redis does not know of.
    pub(super) fn may_start(&self) -> bool {
        let is_sending = |entry: &&Noted| match entry.place {
            Place::Ending { sending, .. } => sending != Sending::Refused,
            _ => false,
        };
        let sending = self.entries.values().filter(is_sending).count();
        let Limits { concurrency, ahead } = self.limits;
        self.runs.len() < concurrency && self.runs.len() + sending < concurrency + ahead
    }

    /// What a runner got, and should have got.
    fn took(&mut self, got: Option<Arc<Delivery>>) {
        let number = if self.may_start() {
            self.ready.pop_front()
        } else {
            None
        };
        assert_eq!(
            got.is_some(),
            number.is_some(),
            "a runner takes what is ready"
        );
        if let (Some(delivery), Some(number)) = (got, number) {
            self.starts[number] += 1;
            let entry = self.numbered(number).unwrap();
            entry.place = Place::Running;
            let noted = entry.delivery.clone().unwrap();
            assert!(Arc::ptr_eq(&noted, &delivery), "the oldest first");
            self.runs.push(Run {
                delivery,
                number,
                in_output: false,
            });
        }
    }

    pub(super) fn apply(&mut self, op: Op) {
        let now = Instant::now();
        match op {
            Op::Ready(ids) => {
                let ready: Vec<_> = ids.iter().map(|n| delivery(*n)).collect();
                for (n, delivery) in ids.into_iter().zip(&ready) {
                    let noted = self.note(n, Place::Ready, Some(Arc::clone(delivery)));
                    self.ready.extend(noted);
                }
                let admission = Admission {
                    ready,
                    ..Admission::default()
                };
                self.held.admit(admission, self.epoch, now);
                self.put_back_if_stopping();
            }
            Op::SetAside(n) => {
                self.note(n, Place::Aside, None);
                let admission = Admission {
                    aside: vec![(id(n), 1, 9)],
                    ..Admission::default()
                };
                self.held.admit(admission, self.epoch, now);
                self.put_back_if_stopping();
            }
            Op::Ended(n, how) => {
                let delivery = delivery(n);
                let outcome = outcome(how, &delivery);
                let noted = (how == How::Park).then_some(delivery);
                if let Some(number) = self.note(n, Place::Ready, noted) {
                    self.end(number, how);
                }
                let admission = Admission {
                    ended: vec![(id(n), 1, outcome)],
                    ..Admission::default()
                };
                self.held.admit(admission, self.epoch, now);
                self.put_back_if_stopping();
            }
            Op::RunnerComes => {
                if self.on_its_way() > 0 {
                    self.runners_came += 1;
                    let got = self.held.start(now);
                    self.took(got);
                }
            }
            Op::EndRun { of, how } => self.end_run(of, how, now),
            Op::LeaveToOutput { of } => self.leave_to_output(of, now),
            Op::TakeOutcomes(count) => self.take_outcomes(count),
            Op::NewEpoch { same } => self.new_epoch(&same),
            Op::TakeLeases | Op::LoseLeases { .. } | Op::ClaimedAgain(_) => self.lease(op),
            Op::PutBackReady => self.put_back_ready(now),
            Op::Cancel { ids } => self.cancel(&ids),
            Op::StopStarting => {
                self.held.stop_starting();
                self.stopping = true;
                self.put_back_if_stopping();
            }
            Op::TryAside(n) => {
                self.held.try_aside(id(n), now);
            }
            Op::DropAside(n) => {
                self.held.drop_aside(id(n));
                self.entries
                    .retain(|other, entry| *other != n || entry.place != Place::Aside);
            }
            settling => self.settle(settling, now),
        }
    }

    fn put_back_ready(&mut self, now: Instant) {
        self.held.put_back_ready(now);
        let ready = std::mem::take(&mut self.ready);
        ready.into_iter().for_each(|n| self.end(n, How::PutBack));
    }

    fn cancel(&mut self, ids: &[u64]) {
        self.held.cancel(&ids.iter().map(|n| id(*n)).collect());
        let cancelled = self.entries.iter().filter(|(n, _)| ids.contains(n));
        let ready = cancelled.filter(|(_, entry)| entry.place == Place::Ready);
        let ready: Vec<usize> = ready.map(|(_, entry)| entry.number).collect();
        self.ready.retain(|number| !ready.contains(number));
        ready.into_iter().for_each(|n| self.end(n, How::Cancelled));
    }

    fn end_run(&mut self, of: usize, how: How, now: Instant) {
        if self.runs.is_empty() {
            return;
        }
        let of = of % self.runs.len();
        let run = self.runs.remove(of);
        self.end(run.number, how);
        let outcome = outcome(how, &run.delivery);
        if run.in_output {
            self.held.end_output(&run.delivery, outcome, now);
        } else {
            let got = self.held.end(&run.delivery, outcome, now);
            self.took(got);
        }
    }

    fn leave_to_output(&mut self, of: usize, now: Instant) {
        let running = self.runs.iter().filter(|run| !run.in_output).count();
        if running == 0 {
            return;
        }
        let mut runs = self.runs.iter_mut().filter(|run| !run.in_output);
        let run = runs.nth(of % running).unwrap();
        run.in_output = true;
        let (number, delivery) = (run.number, Arc::clone(&run.delivery));
        if let Some(entry) = self.numbered(number) {
            entry.place = Place::Output;
        }
        let got = self.held.leave_to_output(&delivery, now);
        self.took(got);
    }

    fn take_outcomes(&mut self, count: usize) {
        let taken = self.held.take_outcomes(count);
        assert_eq!(taken.len(), count.min(self.outcomes.len()));
        for settlement in taken {
            let mut entries = self.entries.iter();
            let entry = entries.find(|(n, _)| id(**n) == settlement.id);
            let number = entry.expect("it is held").1.number;
            let at = self.outcomes.iter().position(|other| *other == number);
            self.outcomes.remove(at.expect("its outcome waited"));
            self.set_sending(number, Sending::Sent);
            self.sent.push((settlement, number));
        }
    }

    pub(super) fn set_sending(&mut self, number: usize, to: Sending) -> bool {
        let entry = self.numbered(number);
        let Some(Place::Ending { sending, .. }) = entry.map(|entry| &mut entry.place) else {
            return false;
        };
        *sending = to;
        true
    }
}

pub(super) fn outcome(how: How, delivery: &Arc<Delivery>) -> Outcome {
    match how {
        How::Done => Outcome::Done(None),
        How::Park => Outcome::Park(Arc::clone(delivery)),
        How::Cancelled => decide::cancelled(delivery),
        How::PutBack => Outcome::PutBack { deliveries: 0 },
    }
}
