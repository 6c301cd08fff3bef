//! What the settler, the heartbeat and a new epoch change in the account.

use std::time::Instant;

use rustc_hash::FxHashSet;

use super::account::{Account, Place, outcome};
use super::{How, Op};
use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::worker::held::Lease;
use crate::service::jobqueue::worker::held::phase::Sending;
use crate::service::jobqueue::worker::held::tests::id;
use crate::service::jobqueue::worker::outcome::Outcome;

impl Account {
    /// What the settler does with one of the outcomes that it has, or with all.
    pub(super) fn settle(&mut self, op: Op, now: Instant) {
        let (Op::Confirm { of }
        | Op::Refuse { of }
        | Op::PutOff { of }
        | Op::Resume { of }
        | Op::Replace { of }) = op
        else {
            let (settlements, numbers): (Vec<_>, Vec<_>) = self.sent.drain(..).unzip();
            self.held.unsettle(settlements);
            for number in numbers {
                if self.set_sending(number, Sending::Waiting) {
                    self.outcomes.push(number);
                }
            }
            return;
        };
        if self.sent.is_empty() {
            return;
        }
        let (settlement, number) = self.sent.remove(of % self.sent.len());
        let is_parked = matches!(settlement.outcome, Outcome::Park(_));
        let is_put_back = gives_up(&settlement.outcome);
        match op {
            Op::Refuse { .. } => {
                self.held.refuse(std::slice::from_ref(&settlement));
                if !matches!(settlement.outcome, Outcome::Done(_)) {
                    self.set_sending(number, Sending::Refused);
                }
                self.sent.push((settlement, number));
            }
            Op::PutOff { .. } if !is_put_back => {
                self.held.put_off(&[settlement]);
                self.end(number, How::PutBack);
            }
            Op::Replace { .. } if is_parked => {
                let Outcome::Park(delivery) = &settlement.outcome else {
                    return;
                };
                let instead = outcome(How::Cancelled, delivery);
                self.held.replace(&settlement, instead);
                self.end(number, How::Cancelled);
            }
            Op::Resume { .. } if is_parked => {
                self.held.resume(settlement, now);
                if let Some(entry) = self.numbered(number) {
                    entry.place = Place::Ready;
                    self.ready.push_back(number);
                }
                self.put_back_if_stopping();
            }
            _ => {
                self.held.settled(std::iter::once(settlement));
                self.entries.retain(|_, entry| entry.number != number);
            }
        }
    }

    pub(super) fn new_epoch(&mut self, same: &[u64]) {
        self.epoch += 1;
        let deliveries = self.held.begin_epoch(self.epoch);
        let noted = self.entries.values();
        let noted = noted.filter(|entry| entry.delivery.is_some());
        assert_eq!(deliveries.len(), noted.count());
        let ids: FxHashSet<EntryId> = same.iter().map(|n| id(*n)).collect();
        let lost = self.held.recognised(self.epoch, &ids);
        let mut expected = 0;
        self.entries.retain(|n, entry| {
            let kept = entry.delivery.is_some() && same.contains(n);
            let waits_or_runs =
                matches!(entry.place, Place::Ready | Place::Running | Place::Output);
            expected += usize::from(!kept && waits_or_runs);
            kept
        });
        assert_eq!(lost, expected);
        self.leave_queues();
    }

    /// Takes out of the queues what is no longer held.
    fn leave_queues(&mut self) {
        let left: Vec<usize> = self.entries.values().map(|entry| entry.number).collect();
        self.ready.retain(|number| left.contains(number));
        self.outcomes.retain(|number| left.contains(number));
    }

    pub(super) fn lease(&mut self, op: Op) {
        match op {
            Op::TakeLeases => {
                let leases = self.held.renewable(Instant::now());
                let note = |lease: Lease| {
                    let mut entries = self.entries.iter();
                    let entry = entries.find(|(n, _)| id(**n) == lease.id);
                    let (_, entry) = entry.expect("what is renewed is held");
                    (lease, (entry.place == Place::Ready).then_some(entry.lease))
                };
                self.leases = leases.into_iter().map(note).collect();
            }
            Op::LoseLeases { lost } => {
                let mut leases = std::mem::take(&mut self.leases);
                leases.retain(|(lease, _)| lost.iter().any(|n| id(*n) == lease.id));
                let dropped = self.held.lose(leases.iter().map(|(lease, _)| *lease));
                let before = self.entries.len();
                self.entries.retain(|_, entry| {
                    let mut noted = leases.iter().filter_map(|(_, noted)| *noted);
                    entry.place != Place::Ready || !noted.any(|noted| noted == entry.lease)
                });
                assert_eq!(dropped.len(), before - self.entries.len());
                self.leave_queues();
            }
            Op::ClaimedAgain(n) => {
                self.held.claimed_again([id(n)]);
                self.changes += 1;
                if let Some(entry) = self.entries.get_mut(&n) {
                    entry.lease = self.changes;
                }
            }
            _ => unreachable!("no other event is about leases"),
        }
    }
}

fn gives_up(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::PutBack { .. } | Outcome::PutOff { .. })
}
