//! What the scripts must do, written without Redis.

use std::collections::BTreeSet;

use super::system::json;
use super::transitions::{Target, Transition, Wait};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Waiting,
    Pending {
        owner: usize,
        deliveries: u64,
        lease: Lease,
    },
    Scheduled {
        /// The job's place in the order of the due jobs, or nothing when it is not due.
        due: Option<u64>,
    },
    /// The group has read or skipped the entry, but it is pending for no consumer.
    Stranded,
    Dead,
    Gone,
}

/// How long a pending entry has been idle, with only the differences that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lease {
    /// It was delivered before the clock went back.
    Future,
    Runs,
    Over,
    PutBack,
}

#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// How many times the job was moved to the stream: promoted, run at once, or retried.
    pub(crate) entry: u32,
    /// The place of its entry in the order of all entries.
    pub(crate) order: u64,
    pub(crate) attempt: u32,
    pub(crate) place: Place,
}

/// The reply that the last transition must get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    Delivered(Vec<(Target, u64)>),
    Reclaimed {
        more: bool,
        entries: Vec<(Target, u64)>,
    },
    Count(usize),
    Outcomes(Vec<u8>),
    /// The number of moved jobs and the time until the next one: no next one, at once, or later.
    Promoted {
        moved: usize,
        next: Option<bool>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) jobs: Vec<Job>,
    /// The dead jobs, in the order of their burial.
    pub(crate) dead: Vec<usize>,
    pub(crate) expected: Expected,
    pub(crate) paused: bool,
    /// The entries whose running job is to be cancelled.
    pub(crate) cancelling: BTreeSet<Target>,
    mark: Mark,
    holding: bool,
    /// The entry from which the next reclaim goes on.
    cursor: u64,
    pub(crate) entries: u64,
    turns: u64,
}

/// What the mark of the last look tells the next look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Fine,
    Old,
    /// The mark is in the future, or missing.
    ClockWentBack,
}

impl Default for Reference {
    /// A new queue that no worker has looked at.
    fn default() -> Self {
        Self {
            jobs: Vec::new(),
            dead: Vec::new(),
            expected: Expected::Nothing,
            paused: false,
            cancelling: BTreeSet::new(),
            mark: Mark::ClockWentBack,
            holding: false,
            cursor: 0,
            entries: 0,
            turns: 0,
        }
    }
}

impl Reference {
    pub(crate) fn step(&mut self, transition: &Transition) -> Expected {
        match transition {
            Transition::Read { by, count, .. } => self.read(*by, *count),
            Transition::Acknowledge { targets } => {
                let before = self.pending();
                for target in targets {
                    if let Some(job) = self.entry_mut(*target) {
                        job.place = Place::Gone;
                    }
                }
                Expected::Count(before - self.pending())
            }
            Transition::Schedule { by, moves } => {
                let moved = moves
                    .iter()
                    .map(|(target, wait)| self.schedule(*by, *target, *wait));
                Expected::Outcomes(moved.collect())
            }
            Transition::Bury { by, targets } => self.each(*by, targets, |state, job| {
                state.jobs[job].place = Place::Dead;
                state.dead.push(job);
            }),
            Transition::PutBack { by, targets, count } => {
                self.touch(*by, targets, Some(*count), Lease::PutBack)
            }
            Transition::Renew { by, targets } => self.touch(*by, targets, None, Lease::Runs),
            Transition::Recount { by, target, count } => {
                self.touch(*by, &[*target], Some(*count), Lease::Runs)
            }
            Transition::Take { by, targets } => {
                let taken = targets.iter().filter_map(|target| self.take(*by, *target));
                Expected::Delivered(taken.collect())
            }
            Transition::Recognise { targets } => {
                let there = |target: &Target| u8::from(self.entry(*target).is_some());
                Expected::Outcomes(targets.iter().map(there).collect())
            }
            Transition::Reclaim { by, room, bytes } => self.reclaim(*by, *room, *bytes),
            Transition::Promote { limit } => self.promote(*limit),
            Transition::Operate(operation) => self.operate(operation),
            _ => {
                self.befall(transition);
                Expected::Nothing
            }
        }
    }

    /// Carries out a transition that gets no reply.
    fn befall(&mut self, transition: &Transition) {
        match transition {
            Transition::Enqueue => {
                self.entries += 1;
                self.jobs.push(Job {
                    entry: 0,
                    order: self.entries,
                    attempt: 0,
                    place: Place::Waiting,
                });
            }
            Transition::FallDue { job } => {
                let due = Some(self.next_turn());
                self.jobs[*job].place = Place::Scheduled { due };
            }
            Transition::LoseLease { job } => {
                if let Place::Pending { lease, .. } = &mut self.jobs[*job].place {
                    *lease = Lease::Over;
                }
            }
            Transition::Stall => {
                self.mark = Mark::Old;
            }
            Transition::ClockBack => {
                // An old mark stays behind the clock.
                if self.mark == Mark::Fine {
                    self.mark = Mark::ClockWentBack;
                }
                self.each_pending(|_, lease| {
                    if *lease != Lease::PutBack {
                        *lease = Lease::Future;
                    }
                });
            }
            Transition::DeleteConsumer { name } => {
                for job in &mut self.jobs {
                    if matches!(job.place, Place::Pending { owner, .. } if owner == *name) {
                        job.place = Place::Stranded;
                    }
                }
            }
            Transition::SkipBacklog => {
                for job in &mut self.jobs {
                    if job.place == Place::Waiting {
                        job.place = Place::Stranded;
                    }
                }
            }
            Transition::EndHold => {
                self.holding = false;
            }
            Transition::Pause { on } => {
                self.paused = *on;
            }
            _ => {}
        }
    }

    fn read(&mut self, by: usize, count: usize) -> Expected {
        let mut waiting = self.in_order(|job| job.place == Place::Waiting);
        waiting.truncate(count);
        for &job in &waiting {
            self.jobs[job].place = Place::Pending {
                owner: by,
                deliveries: 1,
                lease: Lease::Runs,
            };
        }
        let delivered = waiting.iter().map(|job| ((*job, self.jobs[*job].entry), 1));
        Expected::Delivered(delivered.collect())
    }

    fn schedule(&mut self, by: usize, target: Target, wait: Wait) -> u8 {
        if !self.is_owned(by, target) {
            return 0;
        }
        if self.cancelling.contains(&target) {
            return 3;
        }
        if wait == Wait::ParkOver {
            return 2;
        }
        let due = (wait == Wait::RetryNow).then(|| self.next_turn());
        let job = &mut self.jobs[target.0];
        job.place = Place::Scheduled { due };
        job.attempt += u32::from(wait != Wait::Park);
        1
    }

    fn touch(&mut self, by: usize, targets: &[Target], count: Option<u64>, to: Lease) -> Expected {
        self.each(by, targets, |state, job| {
            if let Place::Pending {
                deliveries, lease, ..
            } = &mut state.jobs[job].place
            {
                *deliveries = count.unwrap_or(*deliveries);
                // A renewal alone comes too late for an entry that was put back.
                if count.is_some() || *lease != Lease::PutBack {
                    *lease = to;
                }
            }
        })
    }

    fn take(&mut self, by: usize, target: Target) -> Option<(Target, u64)> {
        match &mut self.entry_mut(target)?.place {
            Place::Pending {
                owner,
                deliveries,
                lease: lease @ (Lease::Runs | Lease::Future),
            } if *owner == by => {
                *lease = Lease::Runs;
                Some((target, *deliveries))
            }
            _ => None,
        }
    }

    fn reclaim(&mut self, by: usize, room: usize, max_bytes: usize) -> Expected {
        self.holding |= self.mark != Mark::Fine;
        self.mend(by);
        self.mark = Mark::Fine;
        if self.paused || room == 0 {
            return Expected::Reclaimed {
                more: false,
                entries: Vec::new(),
            };
        }
        // During a hold no expired lease is reclaimed, but any worker may claim an entry that was
        // put back.
        let least = if self.holding {
            Lease::PutBack
        } else {
            Lease::Over
        };
        let cursor = self.cursor;
        let claimable =
            |job: &Job| matches!(job.place, Place::Pending { lease, .. } if lease >= least);
        let mut claimed = self.in_order(|job| claimable(job) && job.order >= cursor);
        claimed.truncate(room);
        // A look that finds enough entries ends behind the last of them.
        let last = claimed.last().filter(|_| claimed.len() == room);
        let last = last.map(|job| self.jobs[*job].order);
        let pending = self.in_order(|job| matches!(job.place, Place::Pending { .. }));
        let mut orders = pending.iter().map(|job| self.jobs[*job].order);
        self.cursor = orders
            .find(|order| last.is_some_and(|last| *order > last))
            .unwrap_or(0);
        let entries = self.deliver(by, &claimed, max_bytes);
        Expected::Reclaimed {
            more: self.cursor != 0,
            entries,
        }
    }

    /// Delivers the claimed entries as long as their bodies fit, and puts the others back. An entry
    /// whose body would never fit is delivered without its body and alone.
    fn deliver(&mut self, by: usize, claimed: &[usize], max_bytes: usize) -> Vec<(Target, u64)> {
        let mut entries = Vec::new();
        let (mut left, mut full) = (Some(max_bytes), false);
        for &number in claimed {
            let size = self.size(number);
            let job = &mut self.jobs[number];
            let Place::Pending {
                owner,
                deliveries,
                lease,
            } = &mut job.place
            else {
                panic!("only what is pending is claimed");
            };
            *owner = by;
            let fits = left.is_some_and(|left| size <= left);
            if !full && (fits || (entries.is_empty() && size > max_bytes)) {
                left = left.and_then(|left| left.checked_sub(size));
                *deliveries += 1;
                *lease = Lease::Runs;
                entries.push(((number, job.entry), *deliveries));
                continue;
            }
            *lease = Lease::PutBack;
            if !full {
                self.cursor = job.order;
            }
            full = true;
        }
        entries
    }

    /// Each look finds the entries that no claim would ever find.
    fn mend(&mut self, by: usize) {
        let reset = self.mark == Mark::ClockWentBack;
        self.each_pending(|_, lease| {
            if reset && *lease == Lease::Future {
                *lease = Lease::Runs;
            }
        });
        for job in &mut self.jobs {
            if job.place == Place::Stranded {
                job.place = Place::Pending {
                    owner: by,
                    deliveries: 0,
                    lease: Lease::PutBack,
                };
            }
        }
    }

    /// Whether living workers may have had no time to renew their leases.
    pub(crate) fn may_be_stalled(&self) -> bool {
        self.holding || self.mark != Mark::Fine
    }

    fn each_pending(&mut self, mut act: impl FnMut(usize, &mut Lease)) {
        for (number, job) in self.jobs.iter_mut().enumerate() {
            if let Place::Pending { lease, .. } = &mut job.place {
                act(number, lease);
            }
        }
    }

    /// The bytes of a job's one field and its value.
    pub(crate) fn size(&self, job: usize) -> usize {
        "job".len() + json(job, self.jobs[job].attempt).len()
    }

    fn promote(&mut self, limit: usize) -> Expected {
        let turn = |job: &Job| match job.place {
            Place::Scheduled { due } => due,
            _ => None,
        };
        let mut due: Vec<usize> = (0..self.jobs.len())
            .filter(|job| turn(&self.jobs[*job]).is_some())
            .collect();
        due.sort_by_key(|job| turn(&self.jobs[*job]));
        let left = due.len().saturating_sub(limit);
        due.truncate(limit);
        for &job in &due {
            self.entries += 1;
            let job = &mut self.jobs[job];
            job.entry += 1;
            job.order = self.entries;
            job.place = Place::Waiting;
        }
        let any = self
            .jobs
            .iter()
            .any(|job| matches!(job.place, Place::Scheduled { .. }));
        Expected::Promoted {
            moved: due.len(),
            next: any.then_some(left > 0),
        }
    }

    /// Calls `act` for each entry that `by` owns. The reply tells which entries those were.
    fn each(
        &mut self,
        by: usize,
        targets: &[Target],
        mut act: impl FnMut(&mut Self, usize),
    ) -> Expected {
        let mut owned = Vec::new();
        for target in targets {
            let mine = self.is_owned(by, *target);
            if mine {
                act(self, target.0);
            }
            owned.push(u8::from(mine));
        }
        Expected::Outcomes(owned)
    }

    /// The job, if this is its present entry and the entry is in the stream.
    pub(crate) fn entry(&self, (job, entry): Target) -> Option<&Job> {
        let job = &self.jobs[job];
        (is_stored(job) && job.entry == entry).then_some(job)
    }

    fn entry_mut(&mut self, target: Target) -> Option<&mut Job> {
        self.entry(target)?;
        Some(&mut self.jobs[target.0])
    }

    fn is_owned(&self, by: usize, target: Target) -> bool {
        let place = self.entry(target).map(|job| job.place);
        matches!(place, Some(Place::Pending { owner, .. }) if owner == by)
    }

    pub(crate) fn in_order(&self, wanted: impl Fn(&Job) -> bool) -> Vec<usize> {
        let mut jobs: Vec<usize> = (0..self.jobs.len())
            .filter(|job| wanted(&self.jobs[*job]))
            .collect();
        jobs.sort_by_key(|job| self.jobs[*job].order);
        jobs
    }

    fn pending(&self) -> usize {
        let pending = |job: &&Job| matches!(job.place, Place::Pending { .. });
        self.jobs.iter().filter(pending).count()
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }
}

/// Whether a job is in the stream.
pub(crate) fn is_stored(job: &Job) -> bool {
    matches!(
        job.place,
        Place::Waiting | Place::Pending { .. } | Place::Stranded
    )
}
