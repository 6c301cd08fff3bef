//! Losses, unexpected lines and repeats that a test has planted. The ledger must find each of them.

use super::*;

const WINDOW: Duration = Duration::from_secs(5);

/// Three accepted jobs, each printed once by worker 0, a second apart.
fn good() -> (Ledger, Instant) {
    let start = Instant::now();
    let print = |job| Print {
        job,
        worker: 0,
        at: start + Duration::from_secs(job),
    };
    let ledger = Ledger {
        answers: (1..=3).map(|job| (job, Answer::Accepted)).collect(),
        prints: (1..=3).map(print).collect(),
        held: 1,
        window: WINDOW,
        ..Ledger::default()
    };
    (ledger, start)
}

#[test]
fn a_run_without_faults_is_good() {
    assert_eq!(good().0.verdict(), Verdict::default());
}

#[test]
fn a_planted_loss_a_duplicate_and_a_stranger_are_found() {
    let (mut ledger, start) = good();
    ledger.answers.insert(4, Answer::Accepted);
    ledger.prints.push(Print {
        job: 1,
        worker: 1,
        at: start + WINDOW,
    });
    ledger.prints.push(Print {
        job: 99,
        worker: 0,
        at: start,
    });
    let expected = Verdict {
        lost: vec![4],
        unexpected: vec![99],
        explained: 0,
        unexplained: vec![1],
    };
    let verdict = ledger.verdict();
    assert_eq!(verdict, expected);
    assert!(!verdict.is_good());
}

#[test]
fn a_refused_job_may_not_be_printed_and_an_unknown_one_may() {
    let (mut ledger, _) = good();
    ledger.answers.insert(1, Answer::Refused);
    ledger.answers.insert(2, Answer::Unknown);
    ledger.answers.insert(5, Answer::Unknown);
    assert_eq!(ledger.verdict().unexpected, [1]);
}

#[test]
fn a_dead_letter_is_not_lost() {
    let (mut ledger, _) = good();
    ledger.answers.insert(4, Answer::Accepted);
    ledger.dead.insert(4);
    assert!(ledger.verdict().is_good());
    ledger.dead.insert(5);
    assert_eq!(ledger.verdict().unexpected, [5]);
}

#[test]
fn a_duplicate_is_explained_by_a_fault_of_its_printer_and_by_no_other() {
    let (mut ledger, start) = good();
    ledger.prints.push(Print {
        job: 1,
        worker: 1,
        at: start + Duration::from_secs(4),
    });
    let fault = |worker, from: u64| Fault {
        worker,
        from: start + Duration::from_secs(from),
        to: start + Duration::from_secs(from),
        held: None,
    };
    ledger.faults = vec![fault(2, 2)];
    assert_eq!(ledger.verdict().unexplained, [1], "another worker's fault");
    ledger.faults = vec![fault(0, 10)];
    assert_eq!(ledger.verdict().unexplained, [1], "a fault that came later");
    ledger.faults = vec![fault(0, 2)];
    assert_eq!(ledger.verdict().explained, 1);
    ledger.prints.push(Print {
        job: 2,
        worker: 1,
        at: start + Duration::from_secs(4),
    });
    assert_eq!(
        ledger.verdict().unexplained,
        [2],
        "more than the worker held"
    );
}

#[test]
fn a_second_fault_explains_what_the_first_has_no_room_for() {
    let (mut ledger, start) = good();
    let second = Duration::from_secs(1);
    for job in [1, 2] {
        ledger.prints.push(Print {
            job,
            worker: 1,
            at: start + second * 4,
        });
    }
    for worker in [0, 1] {
        ledger.faults.push(Fault {
            worker,
            from: start + second * 3,
            to: start + second * 3,
            held: None,
        });
    }
    assert_eq!(ledger.verdict().explained, 2);
    assert!(ledger.verdict().is_good());
}

#[test]
fn a_fault_explains_what_the_worker_held_where_that_is_known() {
    let (mut ledger, start) = good();
    let second = Duration::from_secs(1);
    for job in [1, 2, 3] {
        ledger.prints.push(Print {
            job,
            worker: 1,
            at: start + second * 4,
        });
    }
    let fault = |worker, held| Fault {
        worker,
        from: start + second * 4,
        to: start + second * 4,
        held: Some(held),
    };
    ledger.faults = vec![fault(0, 2)];
    assert_eq!(ledger.verdict().unexplained, [3]);
    ledger.faults = vec![fault(0, 2), fault(1, 0)];
    assert_eq!(ledger.verdict().unexplained, [3], "another held nothing");
    ledger.faults = vec![fault(0, 3)];
    assert!(ledger.verdict().is_good());
}

#[test]
fn a_fault_gives_room_to_what_no_other_explains() {
    let (mut ledger, start) = good();
    let second = Duration::from_secs(1);
    let print = |job, worker, at| Print {
        job,
        worker,
        at: start + second * at,
    };
    ledger.prints.extend([print(1, 1, 4), print(2, 2, 4)]);
    let fault = |worker| Fault {
        worker,
        from: start + second * 3,
        to: start + second * 3,
        held: Some(1),
    };
    // Both repeats are prints of worker 0. The first one is also a print of worker 1.
    ledger.faults = vec![fault(0), fault(1)];
    assert!(ledger.verdict().is_good());
}

#[test]
fn a_job_that_was_printed_and_buried_has_two_ends() {
    let (mut ledger, start) = good();
    ledger.dead.insert(2);
    assert_eq!(ledger.verdict().unexplained, [2]);
    ledger.faults = vec![Fault {
        worker: 0,
        from: start,
        to: start,
        held: None,
    }];
    assert_eq!(ledger.verdict().explained, 1);
}
