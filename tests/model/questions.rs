//! What can be asked of a state of the model.

use super::state::{
    Entry, Fetch, HeldEntry, Name, Outcome, Pending, Phase, Place, Redis, State, Stored, Stray,
    Worker,
};

impl Worker {
    /// Whether the worker takes new jobs.
    pub(crate) fn takes_jobs(&self) -> bool {
        !self.away && !self.stopping
    }

    pub(crate) fn holds(&self, entry: Entry) -> bool {
        self.held.iter().any(|held| held.entry == entry)
    }

    /// Whether the worker's heartbeat renews the entry. It renews all held entries but those that
    /// are put back.
    pub(crate) fn renews(&self, entry: Entry) -> bool {
        self.held.iter().any(|held| {
            held.entry == entry
                && !matches!(
                    held.phase,
                    Phase::Ended(Outcome::PutBack { .. })
                        | Phase::Replied(Outcome::PutBack { .. }, _)
                )
        })
    }

    /// Whether a reply of Redis is on its way to the settler.
    pub(crate) fn awaits_reply(&self) -> bool {
        let replied = |held: &HeldEntry| matches!(held.phase, Phase::Replied(..));
        self.held.iter().any(replied)
    }

    pub(crate) fn receives(&self, entry: Entry) -> bool {
        match &self.fetch {
            Fetch::Reclaimed(delivered)
            | Fetch::TakingBack { delivered, .. }
            | Fetch::Read(delivered) => delivered.entry == entry,
            Fetch::Idle | Fetch::Sent(_) | Fetch::Page(_) => false,
        }
    }

    pub(crate) fn handlers(&self, entry: Entry) -> usize {
        let running =
            |held: &&HeldEntry| held.entry == entry && matches!(held.phase, Phase::Running);
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

    /// The entry that the next read returns. Entries are delivered in the order of their ids.
    pub(crate) fn next_to_read(&self) -> Option<Entry> {
        let waits = |stored: &&Stored| stored.place == Place::Waiting;
        self.stream.iter().find(waits).map(|stored| stored.entry)
    }

    /// The pending entry that was delivered last.
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
    /// Whether the process was given this entry or a newer one.
    pub(crate) fn was_given(&self, at: usize, entry: Entry) -> bool {
        let newest = self.workers[at].newest;
        newest.is_some_and(|newest| self.redis.index(entry) <= self.redis.index(newest))
    }

    pub(crate) fn remember(&mut self, at: usize, entry: Entry) {
        if !self.was_given(at, entry) && self.redis.stores(entry) {
            self.workers[at].newest = Some(entry);
        }
    }

    /// A name that is not in use anywhere.
    pub(crate) fn fresh_name(&self) -> Name {
        let used = |name: Name| {
            self.workers.iter().any(|w| w.name == name)
                || self.redis.all_pending().any(|(_, p)| p.owner == name)
                || self.strays.iter().any(|s| s.from() == name)
        };
        (0..).find(|name| !used(*name)).unwrap()
    }

    /// Whether a live process renews the lease. It holds the entry, or the reply with the entry is
    /// on its way to it.
    pub(crate) fn is_renewed(&self, entry: Entry) -> bool {
        let Some(pending) = self.redis.pending(entry) else {
            return false;
        };
        self.workers.iter().any(|worker| {
            !worker.away
                && worker.name == pending.owner
                && (worker.renews(entry) || worker.receives(entry))
        })
    }

    /// Whether a process has not yet renewed an entry that looks expired because of a stall. A
    /// process that is or was away is not waited for, because the hold ends by time.
    pub(crate) fn is_renewal_awaited(&self) -> bool {
        self.redis
            .all_pending()
            .any(|(entry, p)| p.expired && !p.excused && self.is_renewed(entry))
    }

    pub(crate) fn is_reclaimable(&self, entry: Entry) -> bool {
        let pending = self.redis.pending(entry);
        !self.redis.holding && pending.is_some_and(|pending| pending.expired)
    }

    /// The entries that a read or a reclaim that outlived its connection may return.
    pub(crate) fn deliverable(&self, stray: Stray) -> Vec<Entry> {
        let pending = self.redis.all_pending().map(|(entry, _)| entry);
        match stray {
            Stray::Read { .. } => self.redis.next_to_read().into_iter().collect(),
            Stray::Reclaim { .. } => pending.filter(|e| self.is_reclaimable(*e)).collect(),
            Stray::Settle { .. } | Stray::Renew { .. } => Vec::new(),
        }
    }
}
