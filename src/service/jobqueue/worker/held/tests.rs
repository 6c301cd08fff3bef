//! What the parts may rely on when they hand entries to [`Held`] and take them out again.

use super::*;
use crate::service::jobqueue::job::Job;

fn id(n: u64) -> EntryId {
    format!("{n}-0").parse().unwrap()
}

fn delivery(n: u64) -> Arc<Delivery> {
    let json = br#"{"type":"x"}"#.to_vec();
    Arc::new(Delivery {
        id: id(n),
        job: Job::parse(&json).unwrap(),
        json,
        deliveries: 1,
    })
}

fn admit(held: &Held, ready: Vec<Arc<Delivery>>, now: Instant) -> bool {
    let admission = Admission {
        ready,
        ..Admission::default()
    };
    held.admit(admission, 0, now)
}

/// Takes in an entry whose job has run already.
fn admit_done(held: &Held, n: u64) {
    let admission = Admission {
        settled: vec![(id(n), 1, Outcome::Done)],
        ..Admission::default()
    };
    assert!(!held.admit(admission, 0, Instant::now()));
}

/// The next delivery of a runner.
fn next(next: Option<(Arc<Delivery>, bool)>) -> Arc<Delivery> {
    next.unwrap().0
}

fn ids(next: Option<(Arc<Delivery>, bool)>) -> Option<(EntryId, bool)> {
    next.map(|(delivery, more)| (delivery.id, more))
}

#[test]
fn a_runner_is_called_for_while_something_is_ready_and_a_slot_is_free() {
    let (held, now) = (Held::new(2), Instant::now());
    let jobs: Vec<_> = (0..6).map(delivery).collect();
    assert!(admit(&held, jobs[1..2].to_vec(), now));
    assert!(!admit(&held, jobs[2..5].to_vec(), now), "one is on its way");
    assert_eq!(ids(held.start(now)), Some((id(1), true)));
    assert_eq!(
        ids(held.start(now)),
        Some((id(2), false)),
        "no slot is left"
    );
    let full = Room {
        entries: 0,
        waiting_since: Some(now),
    };
    assert_eq!(held.room(now), full);
    let next = held.end(&jobs[1], Outcome::Done, now);
    assert_eq!(ids(next), Some((id(3), false)));
    assert!(
        held.leave_to_output(&jobs[3], now).is_none(),
        "it keeps its slot"
    );
    assert!(held.end_output(&jobs[3], Outcome::Done));
    assert_eq!(ids(held.start(now)), Some((id(4), false)));
    assert!(held.end(&jobs[4], Outcome::Done, now).is_none());
    assert!(admit(&held, vec![delivery(5)], now));
}

#[test]
fn an_entry_is_held_until_its_outcome_is_confirmed() {
    let (held, now) = (Held::new(1), Instant::now());
    assert!(admit(&held, vec![delivery(1)], now));
    let run = next(held.start(now));
    assert!(held.end(&run, Outcome::Done, now).is_none());
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
    let (held, now) = (Held::new(1), Instant::now());
    for n in 0..(MAX_AHEAD as u64 + 1) {
        assert!(held.room(now).entries > 0, "{n}");
        admit_done(&held, n);
    }
    assert_eq!(held.room(now).entries, 0);
    held.settled(held.take_outcomes(1).into_iter());
    assert!(held.room(now).entries > 0);
}

#[test]
fn refused_outcomes_do_not_stop_the_fetching() {
    let (held, now) = (Held::new(1), Instant::now());
    (0..=MAX_AHEAD as u64).for_each(|n| admit_done(&held, n));
    assert_eq!(held.room(now).entries, 0);
    held.set_refused(1);
    assert!(held.room(now).entries > 0);
}

#[test]
fn what_is_put_back_sets_no_pace() {
    let (held, now) = (Held::new(1), Instant::now());
    assert_eq!(held.room(now).entries, 1);
    assert!(admit(&held, (0..50).map(delivery).collect(), now));
    let run = next(held.start(now));
    held.put_back_ready(now);
    assert!(held.end(&run, Outcome::Done, now).is_none());
    assert_eq!(
        held.room(now).entries,
        2,
        "the slot, and the one that ended"
    );
}

#[test]
fn a_worker_whose_threads_are_blocked_gets_nothing_until_a_runner_comes_round() {
    let (held, now) = (Held::new(2), Instant::now());
    assert!(admit(&held, vec![delivery(1), delivery(2)], now));
    held.start(now).unwrap();
    held.put_back_ready(now);
    assert_eq!(held.room(now).entries, 0);
    assert!(held.start(now).is_none());
    assert_eq!(held.room(now).entries, 1);
}

#[test]
fn a_handler_that_hangs_is_not_renewed_for_ever() {
    let (held, start) = (Held::new(2), Instant::now());
    let limit = Duration::from_secs(10);
    assert!(admit(&held, (1..=4).map(delivery).collect(), start));
    let first = next(held.start(start));
    let second = next(held.start(start));
    let third = held.end(&second, Outcome::Done, start + limit);
    assert_eq!(ids(third), Some((id(3), false)));
    assert_eq!(held.renewable(start, limit).len(), 4);
    let mut late = held.renewable(start + limit, limit);
    late.sort();
    assert_eq!(
        late,
        [id(2), id(3), id(4)],
        "unsettled ones, fresh ones and those not started are renewed"
    );
    assert!(held.leave_to_output(&first, start).is_none());
    assert_eq!(held.renewable(start + limit, limit).len(), 4);
}

#[test]
fn what_is_not_recognised_is_forgotten_and_its_handler_has_no_outcome() {
    let (held, now) = (Held::new(3), Instant::now());
    assert!(admit(&held, (1..=5).map(delivery).collect(), now));
    let runs: Vec<_> = (0..3).map(|_| next(held.start(now))).collect();
    assert_eq!(
        ids(held.end(&runs[0], Outcome::Done, now)),
        Some((id(4), false))
    );
    let in_flight = held.take_outcomes(10);
    assert_eq!(held.begin_epoch(1).len(), 5);
    assert!(!admit(&held, vec![delivery(9)], now), "read before");
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
    let admission = Admission {
        ready: vec![delivery(1), delivery(2)],
        ..Admission::default()
    };
    assert!(!held.admit(admission, 1, now), "no slot is free");
    held.unsettle(in_flight);
    assert_eq!(held.unsettled(), 0);
    let next = held.end(&runs[1], Outcome::Done, now);
    assert_eq!(ids(next), Some((id(5), false)));
    assert_eq!(held.unsettled(), 0);
    assert!(held.contains(id(2)));
    assert!(held.end(&runs[2], Outcome::Done, now).is_some());
    assert_eq!(held.take_outcomes(10)[0].id, id(3));
}

#[test]
fn what_is_set_aside_is_held_and_found_again_in_another_epoch() {
    let (held, now) = (Held::new(1), Instant::now());
    let admission = || Admission {
        aside: vec![(id(1), 1, 9), (id(2), 2, 9)],
        ..Admission::default()
    };
    let aside = |deliveries, pause| Aside {
        bytes: 9,
        deliveries,
        due: now + pause,
    };
    assert!(!held.admit(admission(), 0, now));
    assert_eq!(held.next_aside(), Some((id(1), aside(1, Duration::ZERO))));
    assert_eq!(held.try_aside(id(1), now), Tries::default());
    held.ended_by_aside(id(1));
    assert_eq!(held.next_aside(), Some((id(2), aside(2, Duration::ZERO))));
    held.drop_aside(id(2));
    assert!(held.contains(id(1)) && !held.contains(id(2)));
    assert_eq!(held.next_aside(), Some((id(1), aside(1, ASIDE_PAUSE))));
    assert_eq!(held.try_aside(id(1), now), Tries { all: 1, ended: 1 });
    assert_eq!(held.next_aside().unwrap().1.deliveries, 2);

    assert!(held.begin_epoch(1).is_empty());
    assert_eq!(held.recognised(1, &FxHashSet::default()), 0);
    assert!(!held.contains(id(1)) && held.next_aside().is_none());
    assert!(!held.admit(admission(), 1, now));
    held.drop_aside(id(2));
    assert_eq!(held.next_aside(), Some((id(1), aside(1, 2 * ASIDE_PAUSE))));
}
