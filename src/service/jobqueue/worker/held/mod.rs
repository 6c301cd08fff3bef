//! What this process holds: every entry from its delivery until Redis has confirmed its outcome.
//!
//! Invariant: no entry that is here is started twice. The fetcher adds entries, and the large
//! entry fetcher replaces those that are set aside. Runners take the entries that are ready and end
//! them, the settler removes them, and the heartbeat renews their leases. One lock guards it all. It
//! is held for a few instructions.
//!
//! `phase.rs` shows the phases of an entry. The fetcher's calls are in this file. Each other part has
//! a file for its calls: `runs.rs` for the runners, `outcomes.rs` for the settler, `leases.rs` and
//! `cancels.rs` for the heartbeat, and `aside.rs` for the large entry fetcher.
//!
//! An id means the same entry within one epoch of the connection. When another epoch begins, the
//! settler finds out which entries are still the ones that were read. The others are forgotten: a
//! handler that runs one of them ends without an outcome.

mod aside;
mod cancels;
mod entries;
mod inner;
mod leases;
mod outcomes;
mod phase;
#[cfg(test)]
mod random;
mod runs;
#[cfg(test)]
pub(crate) mod tests;
mod tries;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio::sync::{Notify, watch};

use self::inner::Inner;
use super::outcome::{Delivery, Outcome};
use crate::lock::lock;
use crate::service::jobqueue::redis::EntryId;

pub(crate) use self::aside::Aside;
pub(crate) use self::inner::{Limits, Room};
pub(crate) use self::leases::Lease;
pub(crate) use self::tries::Tries;

/// The entries of one worker, and who is to be woken for them.
pub(crate) struct Held {
    limits: Limits,
    inner: Mutex<Inner>,
    /// Starts a runner. Called without the lock.
    start_runner: Box<dyn Fn() + Send + Sync>,
    /// Wakes the fetcher: a slot became free, or outcomes were settled.
    room: Notify,
    /// Wakes the settler: there are outcomes.
    outcomes: Notify,
    /// Wakes the large entry fetcher: an entry was set aside.
    set_aside: Notify,
    /// Wakes the runners: jobs that run were cancelled.
    cancelled: Notify,
    /// Whether any were, so that a runner need not ask for the lock.
    any_cancelled: AtomicBool,
    /// The newest epoch in which all that is here was recognised.
    recognised: watch::Sender<u64>,
}

/// The entries of one reply, sorted by what happens to them next.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// To run, in order.
    pub(crate) ready: Vec<Arc<Delivery>>,
    /// With an outcome that is known without a run, and the count of deliveries.
    pub(crate) ended: Vec<(EntryId, u32, Outcome)>,
    /// To be fetched by itself: the count of deliveries, and how many bytes it has.
    pub(crate) aside: Vec<(EntryId, u32, usize)>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Held {
    /// `start_runner` is called whenever something is ready and may start, and no other runner is
    /// on its way. The runner that it starts begins with [`Self::start`].
    pub(crate) fn new(limits: Limits, start_runner: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            limits,
            inner: Mutex::default(),
            start_runner: Box::new(start_runner),
            room: Notify::new(),
            outcomes: Notify::new(),
            set_aside: Notify::new(),
            cancelled: Notify::new(),
            any_cancelled: AtomicBool::new(false),
            recognised: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Releases the lock, and starts a runner if one is wanted.
    fn release(&self, mut inner: MutexGuard<'_, Inner>) {
        let wanted = inner.wants_runner(self.limits);
        drop(inner);
        if wanted {
            (self.start_runner)();
        }
    }

    /// What the fetcher may do now, while `fetched` entries are on their way here. A reply comes
    /// `round_trip` later than its command goes.
    pub(crate) fn room(&self, fetched: usize, round_trip: Duration, now: Instant) -> Room {
        self.lock().room(self.limits, fetched, round_trip, now)
    }

    /// Waits until there may be more room than there was. Cancel safe.
    pub(crate) async fn wait_for_room(&self) {
        self.room.notified().await;
    }

    pub(crate) fn contains(&self, id: EntryId) -> bool {
        self.lock().entries.get(id).is_some()
    }

    /// How many entries are here.
    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// All that is here.
    pub(crate) fn ids(&self) -> FxHashSet<EntryId> {
        self.lock().entries.iter().map(|(id, _)| id).collect()
    }

    /// The newest id that is here.
    pub(crate) fn newest(&self) -> Option<EntryId> {
        self.lock().entries.iter().map(|(id, _)| id).max()
    }

    /// Whether an entry other than `id` is here that has been delivered `deliveries` times or more,
    /// and that could be run.
    pub(crate) fn has_other_delivered(&self, id: EntryId, deliveries: u32) -> bool {
        let inner = self.lock();
        let mut entries = inner.entries.iter();
        entries.any(|(other, entry)| {
            other != id && entry.deliveries() >= deliveries && !entry.phase().is_set_aside()
        })
    }

    /// Takes in what was read in `epoch`, in order, unless that epoch is over.
    pub(crate) fn admit(&self, admission: Admission, epoch: u64, now: Instant) {
        let mut inner = self.lock();
        if epoch < inner.entries.epoch() {
            // Redis still has them pending for this consumer, where they are looked for.
            return;
        }
        let any_aside = !admission.aside.is_empty();
        let outcomes = inner.outcomes.len();
        for delivery in admission.ready {
            inner.admit_ready(delivery, now);
        }
        for (id, deliveries, bytes) in admission.aside {
            inner.admit_aside(id, deliveries, bytes, now);
        }
        for (id, deliveries, outcome) in admission.ended {
            inner.admit_ended(id, deliveries, outcome);
        }
        inner.put_back_if_stopping();
        let any_ended = inner.outcomes.len() > outcomes;
        self.release(inner);
        if any_aside {
            self.set_aside.notify_one();
        }
        if any_ended {
            self.outcomes.notify_one();
        }
    }

    /// Puts back what has been ready since `before` or longer.
    pub(crate) fn put_back_ready(&self, before: Instant) {
        let any = self.lock().put_back_ready(before, self.limits);
        if any {
            self.outcomes.notify_one();
        }
    }

    /// Nothing is started any more: what waits is put back, and so is all that comes.
    pub(crate) fn stop_starting(&self) {
        let mut inner = self.lock();
        inner.stop_starting();
        inner.put_back_if_stopping();
        drop(inner);
        self.outcomes.notify_one();
    }

    /// Waits until all that is here was recognised in `epoch` or later. Cancel safe.
    pub(crate) async fn wait_recognised(&self, epoch: u64) {
        let mut recognised = self.recognised.subscribe();
        // Fails only when `self` is dropped.
        drop(recognised.wait_for(|newest| *newest >= epoch).await);
    }
}
