//! Brings states that mean the same into one form, so that the checker visits them once.

use std::cmp::Ordering;

use super::state::{Entry, Fetch, Name, Place, State, Stored, Stray, Worker};

impl State {
    /// Sorts the lists whose order means nothing, and drops the marks that nothing reads any more.
    pub(crate) fn tidy(&mut self) {
        self.redis.scheduled.sort_unstable();
        self.redis.dead.sort_unstable();
        self.redis.gone.sort_unstable();
        self.redis.deleted.sort_unstable();
        self.redis.cancel.sort_unstable();
        self.strays.sort_unstable();
        self.marks.printed.sort_unstable();
        self.tidy_order();
        for worker in &mut self.workers {
            worker.held.sort_unstable();
            let mut settled = std::mem::take(&mut worker.settled);
            settled.retain(|entry| worker.receives(*entry));
            worker.settled = settled;
            if let Fetch::Sent(entry) = worker.fetch
                && !self.redis.stores(entry)
            {
                worker.fetch = Fetch::Idle;
            }
        }
        let (redis, workers) = (&self.redis, &self.workers);
        self.marks.runs.retain(|runs| {
            redis.stream.iter().any(|stored| stored.entry == runs.entry)
                || workers
                    .iter()
                    .any(|w| w.holds(runs.entry) || w.receives(runs.entry))
        });
        self.marks.runs.sort_unstable();
        self.tidy_operations();
    }

    /// Only an operator sees whether an entry was put back. The other marks are about entries that a
    /// worker may still run.
    fn tidy_operations(&mut self) {
        if self.operations == 0 {
            for stored in &mut self.redis.stream {
                if let Place::Pending(pending) = &mut stored.place {
                    pending.put_back = false;
                }
            }
        }
        let (redis, workers) = (&self.redis, &self.workers);
        let queued = redis.stream.iter().map(|stored| stored.entry);
        let queued: Vec<Entry> = queued.chain(redis.scheduled.iter().copied()).collect();
        let runnable = |entry: Entry| {
            let has = |worker: &Worker| worker.holds(entry) || worker.receives(entry);
            queued.iter().any(|other| other.job == entry.job) || workers.iter().any(has)
        };
        self.marks.accepted.retain(|cancel| runnable(cancel.entry));
        self.marks.accepted.sort_unstable();
        self.marks.retried.retain(|entry| runnable(*entry));
        self.marks.retried.sort_unstable();
    }

    /// The order of the delivered entries matters only when they are read again. So does the newest
    /// entry that a process was given. They are read again only after a disturbance.
    fn tidy_order(&mut self) {
        let redis = &mut self.redis;
        let waits = |stored: &Stored| stored.place == Place::Waiting;
        let delivered = redis.stream.iter().take_while(|s| !waits(s)).count();
        for worker in &mut self.workers {
            if worker.stopping {
                worker.newest = None;
            }
            if self.disturbances == 0
                && let Some(newest) = worker.newest
                && redis.index(newest) < Some(delivered)
            {
                worker.newest = None;
            }
        }
        if self.disturbances == 0 {
            redis.stream[..delivered].sort_unstable();
        }
    }

    /// The same state with the workers in a fixed order and with the names counted from 0. A worker's
    /// place and name mean nothing.
    pub(crate) fn canonical(mut self) -> Self {
        let order = self.workers[0].nameless().cmp(&self.workers[1].nameless());
        match order {
            Ordering::Less => self.renamed(),
            Ordering::Equal => {
                let mut swapped = self.clone();
                swapped.workers.swap(0, 1);
                self.renamed().min(swapped.renamed())
            }
            Ordering::Greater => {
                self.workers.swap(0, 1);
                self.renamed()
            }
        }
    }

    fn renamed(mut self) -> Self {
        let workers = self.workers.iter().map(|worker| worker.name);
        let owners = self.redis.all_pending().map(|(_, pending)| pending.owner);
        let senders = self.strays.iter().map(Stray::from);
        let mut names = Vec::with_capacity(6);
        for name in workers.chain(owners).chain(senders) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for worker in &mut self.workers {
            rename(&mut worker.name, &names);
        }
        for stored in &mut self.redis.stream {
            if let Place::Pending(pending) = &mut stored.place {
                rename(&mut pending.owner, &names);
            }
        }
        for stray in &mut self.strays {
            stray.rename(&names);
        }
        self.strays.sort_unstable();
        self
    }
}

impl Worker {
    /// All fields but the name.
    fn nameless(&self) -> impl Ord {
        let Self {
            away,
            stopping,
            fetch,
            look,
            newest,
            held,
            forgotten,
            settled,
            ..
        } = self;
        (
            away, stopping, fetch, look, newest, held, forgotten, settled,
        )
    }
}

impl Stray {
    fn rename(&mut self, names: &[Name]) {
        match self {
            Self::Settle { from, .. }
            | Self::Read { from }
            | Self::Reclaim { from }
            | Self::Renew { from, .. } => rename(from, names),
        }
    }
}

fn rename(name: &mut Name, names: &[Name]) {
    if let Some(new) = (0..).zip(names).find(|(_, old)| *old == name) {
        *name = new.0;
    }
}
