//! The account of a run. It compares every reply that a client received with every line that was
//! printed and every dead letter. It only judges what others have recorded.
//!
//! LOST: the job was accepted, and was neither printed nor is a dead letter. UNEXPECTED: the job
//! was printed, and was never sent or was refused. DUPLICATE: the job was printed more than once,
//! or was printed and is a dead letter. A duplicate is explained when a worker that printed it was
//! killed or frozen around that time. A fault cannot explain more duplicates than a worker can
//! hold.
//!
//! `record` reads the same account from a file, for `cargo run --example ledger`.

mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a client knows about a job.
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

/// A worker was killed, or it was frozen for longer than it could renew its leases, or the entries
/// that it held were taken from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) worker: usize,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    /// How many jobs the worker held at the fault. `None` when it is not known.
    pub(crate) held: Option<usize>,
}

/// A job that ended more than once.
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
    /// How many jobs one worker can hold at most. A fault whose own `held` is not known explains
    /// so many duplicates.
    pub(crate) held: usize,
    /// For how long after its end a fault still explains a duplicate. The jobs that the worker held
    /// run elsewhere within this time.
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

    /// Every end of a job after its first one, with the end before it.
    fn repeats(&self, printed: BTreeMap<u64, Vec<Print>>) -> Vec<Repeat> {
        let mut repeats = Vec::new();
        for (job, mut prints) in printed {
            prints.sort_by_key(|print| print.at);
            let mut pairs: Vec<(Print, Print)> =
                prints.windows(2).map(|pair| (pair[0], pair[1])).collect();
            if self.dead.contains(&job) {
                // It is not known which worker buried the job. If it was one of these workers, it
                // did so after its time.
                pairs.extend(prints.last().map(|print| (*print, *print)));
            }
            let repeat = |(first, second)| Repeat { job, first, second };
            repeats.extend(pairs.into_iter().map(repeat));
        }
        repeats
    }

    /// Charges a fault with a repeat that it explains. When all faults that explain it are full, a
    /// full fault may become free because another fault explains one of its repeats. There are more
    /// repeats than the faults explain only when no fault can become free.
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

    /// Whether the fault is of one of the two printers and lies around the two prints.
    fn explains(&self, fault: usize, Repeat { first, second, .. }: Repeat) -> bool {
        let fault = self.faults[fault];
        [first.worker, second.worker].contains(&fault.worker)
            && fault.from <= second.at
            && fault.to + self.window >= first.at
    }
}
