//! What the model knows of the world: Redis, two workers, commands that outlived
//! their connection, and marks that only the properties read.

use super::marks::Marks;

/// 0 may be tried again once, 1 has a delay, 2 and 3 are plain.
pub(crate) type Job = u8;
/// A consumer's name, unique to one life of one worker.
pub(crate) type Name = u8;

pub(crate) const WORKERS: usize = 2;
/// An entry delivered more often than this is poison.
pub(crate) const MAX_DELIVERIES: u8 = 2;
/// Delivery counts beyond the limit are all the same.
pub(crate) const MANY_DELIVERIES: u8 = MAX_DELIVERIES + 1;

/// A stream entry's id. Each move back to the stream gives the job a new one, so the
/// number of the entry among the job's entries identifies it, and tells what the job
/// in it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) job: Job,
    pub(crate) number: u8,
}

impl Entry {
    /// The second job has a delay until it was parked.
    pub(crate) fn is_delayed(self) -> bool {
        self.job == 1 && self.number == 0
    }

    /// The first job has one retry, the others none.
    pub(crate) fn may_retry(self) -> bool {
        self.job == 0 && self.number == 0
    }

    pub(crate) fn next(self) -> Self {
        Self {
            number: self.number + 1,
            ..self
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) redis: Redis,
    pub(crate) workers: [Worker; WORKERS],
    pub(crate) strays: Vec<Stray>,
    /// How many disturbances are still to come at most.
    pub(crate) disturbances: u8,
    pub(crate) marks: Marks,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Redis {
    /// In the order of the ids.
    pub(crate) stream: Vec<Stored>,
    /// The entries that the scheduled jobs will become.
    pub(crate) scheduled: Vec<Entry>,
    pub(crate) dead: Vec<Job>,
    /// Acknowledged and deleted.
    pub(crate) gone: Vec<Job>,
    /// After a stall: nobody reclaims.
    pub(crate) holding: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stored {
    pub(crate) entry: Entry,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    Waiting,
    Pending(Pending),
    /// Read or skipped by the group, and pending for nobody: a look finds it.
    Stranded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pending {
    pub(crate) owner: Name,
    pub(crate) deliveries: u8,
    /// Idle for a lease.
    pub(crate) expired: bool,
    /// Delivered before the clock went back: its lease does not end. Only a bug leaves it so.
    pub(crate) future: bool,
    /// A mark: a fault of the owner's explains that it may lose the entry.
    pub(crate) excused: bool,
    /// A mark: a command that outlived its connection left it so; no process has to know.
    pub(crate) late: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Worker {
    pub(crate) name: Name,
    /// Frozen, or cut off from Redis.
    pub(crate) away: bool,
    pub(crate) stopping: bool,
    pub(crate) fetch: Fetch,
    /// An orphan check is due.
    pub(crate) look: bool,
    /// The newest entry that it was ever given, or when that is gone, the one before it in
    /// the stream: a read starts what is newer, and nothing else.
    pub(crate) newest: Option<Entry>,
    pub(crate) held: Vec<Held>,
    /// Handlers that run although `held` knows nothing of them. Only a bug has any.
    pub(crate) forgotten: Vec<Entry>,
    /// A mark: what is on its way here although Redis has confirmed its end to this
    /// process.
    pub(crate) settled: Vec<Entry>,
}

/// What the fetcher is in the middle of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fetch {
    Idle,
    /// A reclaim is on its way to Redis. This was held when it was sent, and may not be
    /// when it arrives.
    Sent(Entry),
    /// A reclaim has returned what was held when it was sent, and the reply is on its way.
    Reclaimed(Delivered),
    /// What takes back the delivery that the reclaim counted is on its way to Redis.
    Declined {
        delivered: Delivered,
        keep: bool,
    },
    /// A read has returned what was held then, and the reply is on its way. Only a bug
    /// waits for it: what this process was given before is judged by its id alone.
    Read(Delivered),
    /// The orphan check's list of what is pending for this consumer.
    Page(Vec<Entry>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Delivered {
    pub(crate) entry: Entry,
    pub(crate) deliveries: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) entry: Entry,
    pub(crate) deliveries: u8,
    pub(crate) phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    Ready,
    Running,
    /// To be sent, or to be sent again.
    Ended(Outcome),
    /// Redis has done it and the answer is on its way.
    Answered(Outcome, Answer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Done,
    Park,
    Retry,
    Dead,
    PutBack { deliveries: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Answer {
    Applied,
    NotOwned,
    Due,
}

/// A command whose sender has given up on it, or is dead, and that Redis may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stray {
    Settle {
        from: Name,
        entry: Entry,
        outcome: Outcome,
    },
    Read {
        from: Name,
    },
    Reclaim {
        from: Name,
    },
    Renew {
        from: Name,
        entry: Entry,
    },
}

impl Stray {
    pub(crate) fn from(&self) -> Name {
        match self {
            Self::Settle { from, .. }
            | Self::Read { from }
            | Self::Reclaim { from }
            | Self::Renew { from, .. } => *from,
        }
    }
}

impl Worker {
    pub(crate) fn new(name: Name) -> Self {
        Self {
            name,
            away: false,
            stopping: false,
            fetch: Fetch::Idle,
            look: false,
            newest: None,
            held: Vec::new(),
            forgotten: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// Whether it takes new jobs.
    pub(crate) fn takes_jobs(&self) -> bool {
        !self.away && !self.stopping
    }

    pub(crate) fn holds(&self, entry: Entry) -> bool {
        self.held.iter().any(|held| held.entry == entry)
    }

    /// Whether its heartbeat renews the entry: all that is held, but what is on its way
    /// to others.
    pub(crate) fn renews(&self, entry: Entry) -> bool {
        self.held.iter().any(|held| {
            held.entry == entry
                && !matches!(
                    held.phase,
                    Phase::Ended(Outcome::PutBack { .. })
                        | Phase::Answered(Outcome::PutBack { .. }, _)
                )
        })
    }

    /// Whether an answer of Redis' is on its way to the settler.
    pub(crate) fn awaits_answer(&self) -> bool {
        let answered = |held: &Held| matches!(held.phase, Phase::Answered(..));
        self.held.iter().any(answered)
    }

    pub(crate) fn receives(&self, entry: Entry) -> bool {
        match &self.fetch {
            Fetch::Reclaimed(delivered)
            | Fetch::Declined { delivered, .. }
            | Fetch::Read(delivered) => delivered.entry == entry,
            Fetch::Idle | Fetch::Sent(_) | Fetch::Page(_) => false,
        }
    }

    pub(crate) fn handlers(&self, entry: Entry) -> usize {
        let running = |held: &&Held| held.entry == entry && matches!(held.phase, Phase::Running);
        self.held.iter().filter(running).count()
            + self.forgotten.iter().filter(|e| **e == entry).count()
    }
}

impl Redis {
    pub(crate) fn stores(&self, entry: Entry) -> bool {
        self.stream.iter().any(|stored| stored.entry == entry)
    }

    pub(crate) fn index(&self, entry: Entry) -> Option<usize> {
        self.stream.iter().position(|stored| stored.entry == entry)
    }

    /// What the next read brings: ids are delivered in their order.
    pub(crate) fn next_to_read(&self) -> Option<Entry> {
        let waits = |stored: &&Stored| stored.place == Place::Waiting;
        self.stream.iter().find(waits).map(|stored| stored.entry)
    }

    /// What was delivered last, of what is pending.
    pub(crate) fn newest_pending(&self) -> Option<Entry> {
        let pending = |stored: &&Stored| matches!(stored.place, Place::Pending(_));
        let newest = self.stream.iter().rev().find(pending);
        newest.map(|stored| stored.entry)
    }

    pub(crate) fn pending(&self, entry: Entry) -> Option<&Pending> {
        self.stream.iter().find_map(|stored| match &stored.place {
            Place::Pending(pending) if stored.entry == entry => Some(pending),
            _ => None,
        })
    }

    pub(crate) fn pending_mut(&mut self, entry: Entry) -> Option<&mut Pending> {
        self.stream
            .iter_mut()
            .find_map(|stored| match &mut stored.place {
                Place::Pending(pending) if stored.entry == entry => Some(pending),
                _ => None,
            })
    }

    pub(crate) fn all_pending(&self) -> impl Iterator<Item = (Entry, &Pending)> {
        self.stream.iter().filter_map(|stored| match &stored.place {
            Place::Pending(pending) => Some((stored.entry, pending)),
            _ => None,
        })
    }
}

impl State {
    /// The jobs wait, both workers are there.
    pub(crate) fn start(jobs: &[Job], disturbances: u8) -> Self {
        let stream = jobs.iter().map(|&job| Stored {
            entry: Entry { job, number: 0 },
            place: Place::Waiting,
        });
        Self {
            redis: Redis {
                stream: stream.collect(),
                scheduled: Vec::new(),
                dead: Vec::new(),
                gone: Vec::new(),
                holding: false,
            },
            workers: [Worker::new(0), Worker::new(1)],
            strays: Vec::new(),
            disturbances,
            marks: Marks::default(),
        }
    }

    /// Whether a process was given this entry, or one that is newer.
    pub(crate) fn was_given(&self, at: usize, entry: Entry) -> bool {
        let newest = self.workers[at].newest;
        newest.is_some_and(|newest| self.redis.index(entry) <= self.redis.index(newest))
    }

    pub(crate) fn remember(&mut self, at: usize, entry: Entry) {
        if !self.was_given(at, entry) && self.redis.stores(entry) {
            self.workers[at].newest = Some(entry);
        }
    }

    /// A name that nothing refers to.
    pub(crate) fn fresh_name(&self) -> Name {
        let used = |name: Name| {
            self.workers.iter().any(|w| w.name == name)
                || self.redis.all_pending().any(|(_, p)| p.owner == name)
                || self.strays.iter().any(|s| s.from() == name)
        };
        (0..).find(|name| !used(*name)).unwrap()
    }
}
