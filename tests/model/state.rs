//! A state of the model: Redis, two workers, the commands that outlived their connection, and the
//! marks that only the properties read.

use super::marks::Marks;

/// Job 0 may be tried again once, and job 1 has a delay. Jobs 2 and 3 have neither.
pub(crate) type Job = u8;
/// A consumer's name. A worker's process that starts again has another name.
pub(crate) type Name = u8;

pub(crate) const WORKERS: usize = 2;
/// An entry delivered more often than this is poison.
pub(crate) const MAX_DELIVERIES: u8 = 2;
/// Stands for all delivery counts beyond the limit.
pub(crate) const MANY_DELIVERIES: u8 = MAX_DELIVERIES + 1;

/// A stream entry. Each move back to the stream gives the job a new entry id. The number counts the
/// job's entries. So it identifies the entry, and tells whether the job in it was parked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) job: Job,
    pub(crate) number: u8,
    /// Whether an attempt has failed since the job was new, or since an operator retried it.
    pub(crate) failed: bool,
}

impl Entry {
    /// Job 1 has a delay until it is parked.
    pub(crate) fn is_delayed(self) -> bool {
        self.job == 1 && self.number == 0
    }

    /// Job 0 has one retry, the others have none.
    pub(crate) fn may_retry(self) -> bool {
        self.job == 0 && !self.failed
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
    /// How many more disturbances may come.
    pub(crate) disturbances: u8,
    /// How many more jobs operators may cancel, retry or delete.
    pub(crate) operations: u8,
    pub(crate) marks: Marks,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Redis {
    /// The entries in the order of their ids.
    pub(crate) stream: Vec<Stored>,
    /// The entries that the scheduled jobs will become.
    pub(crate) scheduled: Vec<Entry>,
    /// The dead letters. Each is named by the entry that died.
    pub(crate) dead: Vec<Entry>,
    /// The jobs that were acknowledged and deleted.
    pub(crate) gone: Vec<Job>,
    /// The jobs that an operator has deleted. No worker ran them to their end.
    pub(crate) deleted: Vec<Job>,
    /// The entries whose running job is to be cancelled.
    pub(crate) cancel: Vec<Entry>,
    /// Whether nobody reclaims, because Redis has stalled.
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
    /// The group has read or skipped it, and it is pending for nobody. A look finds it.
    Stranded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pending {
    pub(crate) owner: Name,
    pub(crate) deliveries: u8,
    /// The entry has been idle for a lease.
    pub(crate) expired: bool,
    /// The entry looks expired because it was put back. Operators see the difference.
    pub(crate) put_back: bool,
    /// The entry was delivered before the clock went back, so its lease does not end. Only a bug
    /// leaves it so.
    pub(crate) future: bool,
    /// A mark: a fault of the owner explains why it may lose the entry.
    pub(crate) excused: bool,
    /// A mark: a command that outlived its connection did this. No process has to know of it.
    pub(crate) late: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Worker {
    pub(crate) name: Name,
    /// The process is frozen, or it is cut off from Redis.
    pub(crate) away: bool,
    pub(crate) stopping: bool,
    pub(crate) fetch: Fetch,
    /// Whether an orphan check is due.
    pub(crate) look: bool,
    /// The newest entry that this process was ever given. When that has left the stream, it is the
    /// entry before it. A read starts only entries that are newer.
    pub(crate) newest: Option<Entry>,
    pub(crate) held: Vec<HeldEntry>,
    /// Entries whose handlers run although `held` does not have them. Only a bug causes any.
    pub(crate) forgotten: Vec<Entry>,
    /// A mark: the entries that are on their way to this process although Redis has confirmed their
    /// outcome to it.
    pub(crate) settled: Vec<Entry>,
}

/// What the fetcher is doing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fetch {
    Idle,
    /// A reclaim is on its way to Redis. This entry was held when the reclaim was sent. It may not
    /// be held when the reclaim arrives.
    Sent(Entry),
    /// A reclaim has returned an entry that was held when it was sent. The reply is on its way.
    Reclaimed(Delivered),
    /// A reclaim has returned an entry that is held. The command that takes back the claim is on its
    /// way to Redis. With `keep` the entry keeps its lease, otherwise it is put back.
    TakingBack {
        delivered: Delivered,
        keep: bool,
    },
    /// A read has returned an entry that is held, and the reply is on its way. Only a bug needs this
    /// phase. Without it the id alone tells whether this process was given the entry before.
    Read(Delivered),
    /// The orphan check's list of the entries that are pending for this consumer.
    Page(Vec<Entry>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Delivered {
    pub(crate) entry: Entry,
    pub(crate) deliveries: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HeldEntry {
    pub(crate) entry: Entry,
    pub(crate) deliveries: u8,
    pub(crate) phase: Phase,
    /// A mark: this process has asked Redis about the entry since its cancel was accepted. Only a bug
    /// leaves such an entry to be run.
    pub(crate) should_know: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    Ready,
    Running,
    /// The outcome waits to be sent, or to be sent again.
    Ended(Outcome),
    /// Redis has settled the outcome, and the reply is on its way.
    Replied(Outcome, Effect),
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
pub(crate) enum Effect {
    Applied,
    NotOwner,
    AlreadyDue,
    /// The entry was not moved, because it is to be cancelled.
    Cancelled,
}

/// A command that Redis may still run, although its sender has given up on it or is dead.
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
}

impl State {
    /// The first state. The jobs wait in the stream, and both workers run.
    pub(crate) fn start(jobs: &[Job], disturbances: u8, operations: u8) -> Self {
        let stream = jobs.iter().map(|&job| Stored {
            entry: Entry {
                job,
                number: 0,
                failed: false,
            },
            place: Place::Waiting,
        });
        Self {
            redis: Redis {
                stream: stream.collect(),
                scheduled: Vec::new(),
                dead: Vec::new(),
                gone: Vec::new(),
                deleted: Vec::new(),
                cancel: Vec::new(),
                holding: false,
            },
            workers: [Worker::new(0), Worker::new(1)],
            strays: Vec::new(),
            disturbances,
            operations,
            marks: Marks::default(),
        }
    }
}
