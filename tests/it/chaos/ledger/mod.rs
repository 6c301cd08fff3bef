//! The account of a run: every answer that a client got against every line that was
//! printed and every dead letter. It decides; it does not look.
//!
//! LOST: accepted, and neither printed nor a dead letter. UNEXPECTED: printed and never
//! sent, or refused. DUPLICATE: printed more than once, or printed and a dead letter;
//! explained when a worker that printed it was killed or frozen around that time, and no
//! fault explains more than a worker can hold.
//!
//! `record` is the same account in a file, for `cargo run --example ledger`.

mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a client knows of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    Refused,
    Unknown,
}

/// A line that a worker printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Print {
    pub(crate) job: u64,
    pub(crate) worker: usize,
    pub(crate) at: Instant,
}

/// A worker killed, or frozen for longer than it could renew its leases, or what it held
/// was taken from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) worker: usize,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    /// How many jobs the worker held, where that is known.
    pub(crate) held: Option<usize>,
}

/// A job that came to an end again.
#[derive(Debug, Clone, Copy)]
struct Repeat {
    job: u64,
    first: Print,
    second: Print,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) answers: BTreeMap<u64, Answer>,
    pub(crate) prints: Vec<Print>,
    pub(crate) dead: BTreeSet<u64>,
    pub(crate) faults: Vec<Fault>,
    /// How many jobs one worker can hold, and for how long after a fault another may
    /// print what it held.
    pub(crate) held: usize,
    pub(crate) window: Duration,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) lost: Vec<u64>,
    pub(crate) unexpected: Vec<u64>,
    pub(crate) explained: usize,
    pub(crate) unexplained: Vec<u64>,
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.lost.is_empty() && self.unexpected.is_empty() && self.unexplained.is_empty()
    }
}

impl Ledger {
    pub(crate) fn verdict(&self) -> Verdict {
        let mut printed: BTreeMap<u64, Vec<Print>> = BTreeMap::new();
        for print in &self.prints {
            printed.entry(print.job).or_default().push(*print);
        }
        let mut verdict = Verdict::default();
        for (job, answer) in &self.answers {
            let found = printed.contains_key(job) || self.dead.contains(job);
            match answer {
                Answer::Accepted if !found => verdict.lost.push(*job),
                Answer::Refused if found => verdict.unexpected.push(*job),
                _ => {}
            }
        }
        let strangers = printed
            .keys()
            .chain(&self.dead)
            .filter(|job| !self.answers.contains_key(job));
        verdict.unexpected.extend(strangers);

        let repeats = self.repeats(printed);
        let mut charged = vec![Vec::new(); self.faults.len()];
        for repeat in 0..repeats.len() {
            let mut asked = vec![false; self.faults.len()];
            if self.charge(repeat, &repeats, &mut charged, &mut asked) {
                verdict.explained += 1;
            } else {
                verdict.unexplained.push(repeats[repeat].job);
            }
        }
        verdict
    }

    /// Every second end of a job, with the end before it.
    fn repeats(&self, printed: BTreeMap<u64, Vec<Print>>) -> Vec<Repeat> {
        let mut repeats = Vec::new();
        for (job, mut prints) in printed {
            prints.sort_by_key(|print| print.at);
            let mut pairs: Vec<(Print, Print)> =
                prints.windows(2).map(|pair| (pair[0], pair[1])).collect();
            if self.dead.contains(&job) {
                // Nobody knows who buried it. One of the two did so after its time.
                pairs.extend(prints.last().map(|print| (*print, *print)));
            }
            let repeat = |(first, second)| Repeat { job, first, second };
            repeats.extend(pairs.into_iter().map(repeat));
        }
        repeats
    }

    /// Charges a fault with a repeat that it explains. A full one may give room when
    /// another explains what it was charged with: only when that fails everywhere there
    /// are more repeats than the faults explain.
    fn charge(
        &self,
        repeat: usize,
        repeats: &[Repeat],
        charged: &mut [Vec<usize>],
        asked: &mut [bool],
    ) -> bool {
        let explaining: Vec<usize> = (0..self.faults.len())
            .filter(|fault| self.explains(*fault, repeats[repeat]))
            .collect();
        for fault in &explaining {
            if charged[*fault].len() < self.faults[*fault].held.unwrap_or(self.held) {
                charged[*fault].push(repeat);
                return true;
            }
        }
        for fault in explaining {
            if std::mem::replace(&mut asked[fault], true) {
                continue;
            }
            for place in 0..charged[fault].len() {
                if self.charge(charged[fault][place], repeats, charged, asked) {
                    charged[fault][place] = repeat;
                    return true;
                }
            }
        }
        false
    }

    /// Whether the fault is one of either printer's, and lies around the two prints.
    fn explains(&self, fault: usize, Repeat { first, second, .. }: Repeat) -> bool {
        let fault = self.faults[fault];
        [first.worker, second.worker].contains(&fault.worker)
            && fault.from <= second.at
            && fault.to + self.window >= first.at
    }
}

#[cfg(test)]
mod tests {
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
        // Both repeats are worker 0's; the first of them is worker 1's as well.
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
}
