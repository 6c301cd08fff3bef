//! What the parts may rely on when they hand entries to [`Held`] and take them out again.

use std::sync::atomic::{AtomicUsize, Ordering};

use std::time::Duration;

use rustc_hash::FxHashSet;

use super::tries::PAUSE;
use super::*;
use crate::service::jobqueue::job::Job;

/// One slot.
pub(crate) const LIMITS: Limits = Limits {
    concurrency: 1,
    ahead: MAX_AHEAD,
};
const MAX_AHEAD: usize = 512;
/// That of all deliveries here.
const HANG_LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn id(n: u64) -> EntryId {
    format!("{n}-0").parse().unwrap()
}

pub(crate) fn delivery(n: u64) -> Arc<Delivery> {
    let json = br#"{"type":"x"}"#.to_vec();
    Arc::new(Delivery {
        id: id(n),
        job: Job::parse(&json).unwrap(),
        json,
        deliveries: 1,
        hang_limit: HANG_LIMIT,
    })
}

/// [`Held`], and how many runners it has started.
fn held(concurrency: usize) -> (Held, Arc<AtomicUsize>) {
    let started = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&started);
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let limits = Limits {
        concurrency,
        ..LIMITS
    };
    (Held::new(limits, count), started)
}

fn without_runners(concurrency: usize) -> Held {
    held(concurrency).0
}

fn admit(held: &Held, ready: Vec<Arc<Delivery>>, now: Instant) {
    admit_in(held, 0, ready, now);
}

fn admit_in(held: &Held, epoch: u64, ready: Vec<Arc<Delivery>>, now: Instant) {
    let admission = Admission {
        ready,
        ..Admission::default()
    };
    held.admit(admission, epoch, now);
}

/// Takes in an entry whose outcome is known.
fn admit_ended(held: &Held, n: u64, outcome: Outcome) {
    let admission = Admission {
        ended: vec![(id(n), 1, outcome)],
        ..Admission::default()
    };
    held.admit(admission, 0, Instant::now());
}

/// What the fetcher may do, with a Redis that is near.
fn room(held: &Held, now: Instant) -> Room {
    held.room(0, Duration::ZERO, now)
}

fn ids(next: Option<Arc<Delivery>>) -> Option<EntryId> {
    next.map(|delivery| delivery.id)
}

#[test]
fn a_runner_is_on_its_way_while_something_is_ready_and_a_slot_is_free() {
    let ((held, started), now) = (held(2), Instant::now());
    let runners = || started.swap(0, Ordering::Relaxed);
    let jobs: Vec<_> = (0..6).map(delivery).collect();
    admit(&held, jobs[1..2].to_vec(), now);
    assert_eq!(runners(), 1);
    admit(&held, jobs[2..5].to_vec(), now);
    assert_eq!(runners(), 0, "one is on its way");
    assert_eq!(ids(held.start(now)), Some(id(1)));
    assert_eq!(runners(), 1);
    assert_eq!(ids(held.start(now)), Some(id(2)));
    assert_eq!(runners(), 0, "no slot is left");
    let full = Room {
        entries: 0,
        waiting_since: Some(now),
    };
    assert_eq!(room(&held, now), full);
    let next = held.end(&jobs[1], Outcome::Done(None), now);
    assert_eq!((ids(next), runners()), (Some(id(3)), 0));
    let next = held.leave_to_output(&jobs[3], now);
    assert_eq!((ids(next), runners()), (None, 0), "it keeps its slot");
    held.end_output(&jobs[3], Outcome::Done(None), now);
    assert_eq!(runners(), 1);
    assert_eq!(ids(held.start(now)), Some(id(4)));
    assert!(held.end(&jobs[4], Outcome::Done(None), now).is_none());
    assert_eq!(runners(), 0);
    admit(&held, vec![delivery(5)], now);
    assert_eq!(runners(), 1);
}

/// The next read waits no longer than a delivery may wait for a slot.
#[test]
fn what_has_come_and_has_no_slot_waits_from_now_on() {
    let (held, now) = (without_runners(2), Instant::now());
    let waiting_since = |fetched| held.room(fetched, Duration::ZERO, now).waiting_since;
    assert_eq!((waiting_since(2), waiting_since(3)), (None, Some(now)));
    admit(&held, vec![delivery(1)], now);
    held.start(now).unwrap();
    assert_eq!((waiting_since(1), waiting_since(2)), (None, Some(now)));
}

#[test]
fn an_entry_is_held_until_its_outcome_is_confirmed() {
    let (held, now) = (without_runners(1), Instant::now());
    admit(&held, vec![delivery(1)], now);
    let run = held.start(now).unwrap();
    assert!(held.end(&run, Outcome::Done(None), now).is_none());
    let batch = held.take_outcomes(10);
    assert!(held.contains(id(1)) && held.unsettled() == 1);
    held.unsettle(batch);
    let batch = held.take_outcomes(10);
    assert_eq!(batch.len(), 1);
    held.settled(batch.into_iter());
    assert!(!held.contains(id(1)) && held.unsettled() == 0);
}

#[test]
fn fetching_stops_at_the_limit_of_unsettled_outcomes() {
    let (held, now) = (without_runners(1), Instant::now());
    // What may be at risk, and as much again that ends without a run.
    for n in 0..2 * (MAX_AHEAD as u64 + 1) {
        assert!(room(&held, now).entries > 0, "{n}");
        admit_ended(&held, n, Outcome::Done(None));
    }
    assert_eq!(room(&held, now).entries, 0);
    held.settled(held.take_outcomes(1).into_iter());
    assert!(room(&held, now).entries > 0);
}

#[test]
fn refused_outcomes_do_not_stop_the_fetching_unless_they_say_that_a_job_ran() {
    let (held, now) = (without_runners(1), Instant::now());
    let limit = 2 * MAX_AHEAD as u64 + 1;
    (0..limit).for_each(|n| admit_ended(&held, n, Outcome::Done(None)));
    admit_ended(&held, limit, Outcome::Park(delivery(limit)));
    assert_eq!(room(&held, now).entries, 0);
    let batch = held.take_outcomes(usize::MAX);
    held.refuse(&batch[..1]);
    assert_eq!(room(&held, now).entries, 0, "its job ran");
    held.refuse(&batch);
    assert!(room(&held, now).entries > 0);
    held.unsettle(batch);
    assert_eq!(room(&held, now).entries, 0, "they are sent again");
}

#[test]
fn what_is_put_off_is_given_up_with_the_count_before_its_delivery() {
    let held = without_runners(1);
    admit_ended(&held, 1, Outcome::Park(delivery(1)));
    held.put_off(&held.take_outcomes(1));
    let batch = held.take_outcomes(10);
    let [settlement] = &batch[..] else {
        panic!("{batch:?}");
    };
    assert!(matches!(
        settlement.outcome,
        Outcome::PutOff { deliveries: 0 }
    ));
    held.settled(batch.into_iter());
    assert!(!held.contains(id(1)));
}

#[test]
fn what_was_to_be_parked_and_is_due_runs() {
    let ((held, started), now) = (held(1), Instant::now());
    admit_ended(&held, 1, Outcome::Park(delivery(1)));
    let batch = held.take_outcomes(1);
    batch
        .into_iter()
        .for_each(|settlement| held.resume(settlement, now));
    assert_eq!(started.load(Ordering::Relaxed), 1);
    assert_eq!((held.unsettled(), ids(held.start(now))), (0, Some(id(1))));
}

#[test]
fn once_nothing_is_started_any_more_what_waits_and_what_comes_is_put_back() {
    let ((held, started), now) = (held(1), Instant::now());
    admit_ended(&held, 9, Outcome::Park(delivery(9)));
    let parked = held.take_outcomes(1);
    admit(&held, vec![delivery(1), delivery(2)], now);
    let run = held.start(now).unwrap();
    let aside = Admission {
        aside: vec![(id(3), 1, 9)],
        ..Admission::default()
    };
    held.admit(aside, 0, now);
    started.store(0, Ordering::Relaxed);

    held.stop_starting();
    admit(&held, vec![delivery(4)], now);
    parked
        .into_iter()
        .for_each(|settlement| held.resume(settlement, now));
    assert!(held.end(&run, Outcome::Done(None), now).is_none());
    assert!(held.start(now).is_none());
    assert_eq!(started.load(Ordering::Relaxed), 0);
    let mut put_back = held.take_outcomes(10);
    put_back.retain(|settlement| matches!(settlement.outcome, Outcome::PutBack { deliveries: 0 }));
    let put_back: Vec<_> = put_back.iter().map(|settlement| settlement.id).collect();
    assert_eq!(put_back, [id(2), id(3), id(4), id(9)]);
}

#[test]
fn what_is_put_back_sets_no_pace() {
    let (held, now) = (without_runners(1), Instant::now());
    assert_eq!(room(&held, now).entries, 1);
    admit(&held, (0..50).map(delivery).collect(), now);
    let run = held.start(now).unwrap();
    held.put_back_ready(now);
    let now = now + Duration::from_millis(5);
    assert!(held.end(&run, Outcome::Done(None), now).is_none());
    assert_eq!(
        room(&held, now).entries,
        2,
        "the slot, and the one that ended"
    );
}

#[test]
fn a_worker_whose_outcomes_are_not_taken_puts_back_and_gets_nothing_until_they_are() {
    let (held, now) = (without_runners(1), Instant::now());
    (0..MAX_AHEAD as u64).for_each(|n| admit_ended(&held, n, Outcome::Done(None)));
    let ready = MAX_AHEAD as u64 + 1;
    admit_ended(&held, ready - 1, Outcome::Done(None));
    admit(&held, vec![delivery(ready)], now);
    assert!(held.start(now).is_none(), "too much is at risk");
    held.put_back_ready(now);
    assert_eq!(room(&held, now).entries, 0);
    held.settled(held.take_outcomes(1).into_iter());
    assert_eq!(
        room(&held, now).entries,
        0,
        "what was put back is at risk too"
    );
    held.settled(held.take_outcomes(1).into_iter());
    assert!(room(&held, now).entries > 0);
}

#[test]
fn a_worker_whose_threads_are_blocked_gets_nothing_until_a_runner_comes_round() {
    let (held, now) = (without_runners(2), Instant::now());
    admit(&held, vec![delivery(1), delivery(2)], now);
    held.start(now).unwrap();
    held.put_back_ready(now);
    assert_eq!(room(&held, now).entries, 0);
    assert!(held.start(now).is_none());
    assert_eq!(room(&held, now).entries, 1);
}

#[test]
fn a_worker_that_was_behind_gets_entries_when_all_that_it_held_is_forgotten() {
    let (held, now) = (without_runners(1), Instant::now());
    (0..=MAX_AHEAD as u64).for_each(|n| admit_ended(&held, n, Outcome::Done(None)));
    admit(&held, vec![delivery(MAX_AHEAD as u64 + 1)], now);
    held.put_back_ready(now);
    assert_eq!(room(&held, now).entries, 0);
    held.begin_epoch(1);
    held.recognised(1, &FxHashSet::default());
    assert!(room(&held, now).entries > 0);
}

#[test]
fn a_worker_whose_threads_are_blocked_stays_so_after_its_put_backs_are_settled() {
    let limits = Limits {
        concurrency: 10,
        ahead: 0,
    };
    let (held, now) = (Held::new(limits, || ()), Instant::now());
    admit(&held, (0..10).map(delivery).collect(), now);
    (0..4).for_each(|_| drop(held.start(now)));
    held.put_back_ready(now);
    held.settled(held.take_outcomes(10).into_iter());
    assert_eq!(room(&held, now).entries, 0);
}

#[test]
fn a_handler_that_hangs_is_not_renewed_for_ever() {
    let (held, start) = (without_runners(2), Instant::now());
    admit(&held, (1..=4).map(delivery).collect(), start);
    let first = held.start(start).unwrap();
    let second = held.start(start).unwrap();
    let third = held.end(&second, Outcome::Done(None), start + HANG_LIMIT);
    assert_eq!(ids(third), Some(id(3)));
    assert_eq!(held.renewable(start).len(), 4);
    let late = held.renewable(start + HANG_LIMIT);
    let mut late: Vec<_> = late.iter().map(|lease| lease.id).collect();
    late.sort();
    assert_eq!(
        late,
        [id(2), id(3), id(4)],
        "unsettled ones, fresh ones and those not started are renewed"
    );
    assert!(held.leave_to_output(&first, start).is_none());
    assert_eq!(held.renewable(start + HANG_LIMIT).len(), 4);
}

#[test]
fn what_is_not_recognised_is_forgotten_and_its_handler_has_no_outcome() {
    let (held, now) = (without_runners(3), Instant::now());
    admit(&held, (1..=5).map(delivery).collect(), now);
    let runs: Vec<_> = (0..3).map(|_| held.start(now).unwrap()).collect();
    assert_eq!(
        ids(held.end(&runs[0], Outcome::Done(None), now)),
        Some(id(4))
    );
    let in_flight = held.take_outcomes(10);
    assert_eq!(held.begin_epoch(1).len(), 5);
    admit(&held, vec![delivery(9)], now);
    let same = [id(3), id(5)].into_iter().collect();
    assert_eq!(
        held.recognised(1, &same),
        2,
        "one that runs, one that was to"
    );
    assert!(held.contains(id(3)) && held.contains(id(5)));
    for n in [1, 2, 4, 9] {
        assert!(!held.contains(id(n)), "{n}");
    }
    // The same id, another job: what ended is not said of it.
    admit_in(&held, 1, vec![delivery(1), delivery(2)], now);
    assert_eq!(held.running(), 3, "no slot is free");
    held.unsettle(in_flight);
    assert_eq!(held.unsettled(), 0);
    let next = held.end(&runs[1], Outcome::Done(None), now);
    assert_eq!(ids(next), Some(id(5)));
    assert_eq!(held.unsettled(), 0);
    assert!(held.contains(id(2)));
    assert!(held.end(&runs[2], Outcome::Done(None), now).is_some());
    assert_eq!(held.take_outcomes(10)[0].id, id(3));
}

#[test]
fn what_is_set_aside_is_held_and_found_again_in_another_epoch() {
    let (held, now) = (without_runners(1), Instant::now());
    let admission = || Admission {
        aside: vec![(id(1), 1, 9), (id(2), 2, 9)],
        ..Admission::default()
    };
    let aside = |deliveries, pause| Aside {
        bytes: 9,
        deliveries,
        due: now + pause,
    };
    held.admit(admission(), 0, now);
    assert_eq!(held.next_aside(), Some((id(1), aside(1, Duration::ZERO))));
    assert_eq!(held.try_aside(id(1), now), Tries::default());
    held.ended_by_aside(id(1));
    assert_eq!(held.next_aside(), Some((id(2), aside(2, Duration::ZERO))));
    held.drop_aside(id(2));
    assert!(held.contains(id(1)) && !held.contains(id(2)));
    assert_eq!(held.next_aside(), Some((id(1), aside(1, PAUSE))));
    assert_eq!(held.try_aside(id(1), now), Tries { all: 1, ended: 1 });
    assert_eq!(held.next_aside().unwrap().1.deliveries, 2);

    assert!(held.begin_epoch(1).is_empty());
    assert_eq!(held.recognised(1, &FxHashSet::default()), 0);
    assert!(!held.contains(id(1)) && held.next_aside().is_none());
    held.admit(admission(), 1, now);
    held.drop_aside(id(2));
    assert_eq!(held.next_aside(), Some((id(1), aside(1, 2 * PAUSE))));
}

/// The leases of all that is held, as a heartbeat would take them now.
fn leases(held: &Held) -> Vec<Lease> {
    held.renewable(Instant::now())
}

#[test]
fn an_entry_that_was_not_started_is_dropped_when_its_lease_is_lost() {
    let (held, now) = (without_runners(2), Instant::now());
    admit(&held, (1..=3).map(delivery).collect(), now);
    let run = held.start(now).unwrap();
    admit_ended(&held, 4, Outcome::Done(None));
    let lost = held.lose(leases(&held));
    let mut lost: Vec<_> = lost.iter().map(|delivery| delivery.id).collect();
    lost.sort();
    assert_eq!(lost, [id(2), id(3)]);
    assert!(held.contains(id(1)) && held.contains(id(4)));
    assert!(held.end(&run, Outcome::Done(None), now).is_none());
    assert_eq!(
        (held.unsettled(), room(&held, now).waiting_since),
        (2, None)
    );
}

#[test]
fn an_old_answer_drops_nothing_that_was_delivered_anew() {
    let (held, now) = (without_runners(1), Instant::now());
    admit(&held, vec![delivery(1)], now);
    let old = leases(&held);
    held.put_back_ready(now);
    held.settled(held.take_outcomes(1).into_iter());
    admit(&held, vec![delivery(1)], now);
    assert!(held.lose(old).is_empty() && held.contains(id(1)));

    let old = leases(&held);
    held.claimed_again([id(1)]);
    assert!(held.lose(old).is_empty() && held.contains(id(1)));
}

#[test]
fn an_old_answer_drops_nothing_that_has_moved_on_or_turned_out_to_be_due() {
    let (held, now) = (without_runners(1), Instant::now());
    admit(&held, vec![delivery(1)], now);
    admit_ended(&held, 2, Outcome::Park(delivery(2)));
    let parked = held.take_outcomes(1);
    let old = leases(&held);
    parked
        .into_iter()
        .for_each(|settlement| held.resume(settlement, now));
    held.start(now).unwrap();
    assert!(held.lose(old).is_empty());
    assert!(held.contains(id(1)) && held.contains(id(2)));
}
