//! The connections of one port: at most so many, and always room for a new client.
//!
//! Each connection costs a file. Clients that connect and then do nothing (send no
//! request, send half of one, or do not read the answer) could use up all of them. So when
//! the limit is reached, the connection that has waited for its client for the longest
//! time is closed in favour of the new one. A request that is being worked on is never
//! cut off for that.

use std::{
    collections::HashMap,
    future::{Future, pending},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::{AbortHandle, Id, JoinSet},
    time::timeout,
};

use crate::throttle::Throttle;

/// How soon to look again when no connection waits for its client, or not for long enough.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a connection may wait for its client while the server stops.
const CLOSING_PATIENCE: Duration = Duration::from_millis(500);

/// All connections of a port. One task owns them, the one that accepts.
///
/// Dropping it closes them all.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    start: Instant,
    tasks: JoinSet<()>,
    open: HashMap<Id, Connection>,
    /// Of the log lines about connections that were closed for others.
    evictions: Throttle<()>,
}

#[derive(Debug)]
struct Connection {
    progress: Arc<Progress>,
    task: AbortHandle,
}

impl Connections {
    /// At most `limit` connections, which is not 0.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            start: Instant::now(),
            tasks: JoinSet::new(),
            open: HashMap::new(),
            evictions: Throttle::new(1, |_, suppressed| {
                tracing::warn!(suppressed, "too many connections: closed more of them");
            }),
        }
    }

    /// Waits until one more connection may be opened, and closes another for it if need be.
    ///
    /// That takes a moment, unless all of them are being worked on. Cancel safe.
    pub(super) async fn make_room(&mut self) {
        while self.tasks.len() >= self.limit {
            if self.evict_stalest()
                && let Some(suppressed) = self.evictions.admit((), Instant::now())
            {
                let limit = self.limit;
                tracing::warn!(
                    limit,
                    suppressed,
                    "too many connections: closed the one that waited longest for its client"
                );
            }
            drop(timeout(LOOK_AGAIN, self.one_ended()).await);
        }
    }

    /// Opens a connection: `serve` is given what it must tell its progress to.
    pub(super) fn open<F>(&mut self, serve: impl FnOnce(Arc<Progress>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let progress = Arc::new(Progress::new(self.start));
        let task = self.tasks.spawn(serve(Arc::clone(&progress)));
        self.open.insert(task.id(), Connection { progress, task });
    }

    /// Waits until a connection has ended, its file included. Cancel safe.
    pub(super) async fn one_ended(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            // It was closed here, or its handler panicked.
            Some(Err(why)) => why.id(),
            None => return pending().await,
        };
        self.open.remove(&id);
    }

    /// Closes the connection that has waited for its client for the longest time. False
    /// when none waits.
    pub(super) fn evict_stalest(&mut self) -> bool {
        let waiting = self.open.values().filter_map(|connection| {
            let since = connection.progress.waiting_since()?;
            Some((since, connection))
        });
        let stalest = waiting.min_by_key(|(since, _)| *since);
        stalest.is_some_and(|(since, connection)| connection.evict(since))
    }

    /// Waits until all connections have ended, `grace` at most, and returns how many were
    /// cut off then. Nobody is waited for who keeps the server waiting.
    pub(super) async fn end_within(mut self, grace: Duration) -> usize {
        let stop = Instant::now();
        while !self.tasks.is_empty() {
            let left = grace.saturating_sub(stop.elapsed());
            if left.is_zero() {
                break;
            }
            if stop.elapsed() >= CLOSING_PATIENCE {
                self.evict_waiting_for(CLOSING_PATIENCE);
            }
            drop(timeout(left.min(LOOK_AGAIN), self.one_ended()).await);
        }
        let cut_off = self.tasks.len();
        self.tasks.shutdown().await;
        cut_off
    }

    fn evict_waiting_for(&self, time: Duration) {
        let now = micros(self.start.elapsed());
        for connection in self.open.values() {
            if let Some(since) = connection.progress.waiting_since()
                && now.saturating_sub(since) >= micros(time)
            {
                connection.evict(since);
            }
        }
    }
}

impl Connection {
    fn evict(&self, since: u64) -> bool {
        let evicted = self.progress.evict(since);
        if evicted {
            self.task.abort();
        }
        evicted
    }
}

/// Whether a connection waits for its client, and since when.
///
/// A wait ends with a whole step: with a request, a part of its body, or an answer. Single
/// bytes of a request's head or of an answer are no progress, so that a client that
/// trickles them is not taken for a good one.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    /// The microseconds from `start` to the begin of the wait, or one of the values below.
    state: AtomicU64,
    /// Whether the client was heard since the last request.
    heard: AtomicBool,
}

/// A request is being worked on.
const WORKING: u64 = u64::MAX;
/// The connection is about to be closed. Nothing is begun on it any more.
const EVICTED: u64 = u64::MAX - 1;

impl Progress {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            state: AtomicU64::new(micros(start.elapsed())),
            heard: AtomicBool::new(false),
        }
    }

    /// The client was listened to.
    pub(super) fn listens(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether the request that begins now came together with the last one. hyper would
    /// answer sixteen of those in a row before anybody else has a turn.
    pub(super) fn is_pipelined(&self) -> bool {
        !self.heard.swap(false, Ordering::Relaxed)
    }

    /// The server has what it needs and works. False when the connection is about to be
    /// closed: then the work must not begin.
    pub(super) fn works(&self) -> bool {
        self.change(WORKING)
    }

    /// The server waits for the client from now on.
    pub(super) fn waits(&self) {
        self.change(micros(self.start.elapsed()));
    }

    fn change(&self, to: u64) -> bool {
        let unless_evicted = |state| (state != EVICTED).then_some(to);
        let order = Ordering::Relaxed;
        let changed = self.state.fetch_update(order, order, unless_evicted);
        changed.is_ok()
    }

    fn waiting_since(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Relaxed);
        (state < EVICTED).then_some(state)
    }

    /// False when the client has done something since `since`.
    fn evict(&self, since: u64) -> bool {
        let order = Ordering::Relaxed;
        let evicted = self.state.compare_exchange(since, EVICTED, order, order);
        evicted.is_ok()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(EVICTED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(10);

    /// Connections that never end by themselves, and their progress.
    fn open(count: usize, limit: usize) -> (Connections, Vec<Arc<Progress>>) {
        let mut connections = Connections::new(limit);
        let progress = (0..count).map(|n| {
            let mut kept = None;
            connections.open(|progress| {
                kept = Some(progress);
                pending()
            });
            let kept = kept.unwrap();
            // Each waits for longer than the next.
            kept.change(n as u64);
            kept
        });
        let progress = progress.collect();
        (connections, progress)
    }

    fn evicted(all: &[Arc<Progress>]) -> Vec<usize> {
        let is_evicted = |n: &usize| all[*n].state.load(Ordering::Relaxed) == EVICTED;
        (0..all.len()).filter(is_evicted).collect()
    }

    #[tokio::test]
    async fn there_is_room_without_closing_anything_below_the_limit() {
        let (mut connections, all) = open(3, 4);
        timeout(LONG, connections.make_room()).await.unwrap();
        assert!(evicted(&all).is_empty());
    }

    #[tokio::test]
    async fn the_one_that_waits_longest_is_closed_for_a_new_one() {
        let (mut connections, all) = open(3, 3);
        all[0].waits();
        timeout(LONG, connections.make_room()).await.unwrap();
        assert_eq!(evicted(&all), [1]);
        assert_eq!(connections.open.len(), 2);
        timeout(LONG, connections.make_room()).await.unwrap();
        assert_eq!(evicted(&all), [1]);
    }

    #[tokio::test]
    async fn what_is_worked_on_is_not_closed_and_makes_room_as_soon_as_it_waits() {
        let (mut connections, all) = open(2, 2);
        assert!(all[0].works() && all[1].works());
        let full = timeout(Duration::from_millis(100), connections.make_room()).await;
        assert!(full.is_err() && evicted(&all).is_empty());
        all[1].waits();
        timeout(LONG, connections.make_room()).await.unwrap();
        assert_eq!(evicted(&all), [1]);
    }

    #[test]
    fn nothing_begins_on_a_connection_that_is_about_to_be_closed() {
        let progress = Progress::new(Instant::now());
        let since = progress.waiting_since().unwrap();
        assert!(progress.works());
        assert!(!progress.evict(since));
        progress.change(since);
        assert!(progress.evict(since));
        assert!(!progress.works());
        progress.waits();
        assert_eq!(progress.waiting_since(), None);
    }

    #[tokio::test]
    async fn the_end_waits_for_what_is_worked_on_and_for_no_client() {
        let (connections, all) = open(3, 3);
        assert!(all[0].works());
        let end = tokio::spawn(connections.end_within(CLOSING_PATIENCE * 3));
        let cut_off = timeout(LONG, end).await.unwrap().unwrap();
        assert_eq!((cut_off, evicted(&all)), (1, vec![1, 2]));
    }
}
