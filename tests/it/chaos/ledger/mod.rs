//! The account of a run: every answer that a client got against every line that was
//! printed and every dead letter. It decides; it does not look.
//!
//! LOST: accepted, and neither printed nor a dead letter. UNEXPECTED: printed and never
//! sent, or refused. DUPLICATE: printed more than once, or printed and a dead letter;
//! explained when a worker that printed it was killed or frozen around that time, and no
//! fault explains more than a worker can hold.
//!
//! `record` reads the same account from a file, for `cargo run --example ledger`.

mod record;
#[cfg(test)]
mod tests;

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
