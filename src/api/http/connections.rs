//! The connections of one port: a limited number, and always room for a new client.
//!
//! Each connection costs a file. Clients that connect and then do nothing (send no request, send
//! half of one, or do not read the answer) could use up all files. So when the limit is reached,
//! the connection whose client has had its turn for the longest time is closed, and the new one
//! takes its place. A connection is never closed for this while the server works on a request.

use std::{
    collections::HashMap,
    future::{Future, pending},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::{AbortHandle, Id, JoinSet},
    time::timeout,
};

use super::turn::{Turn, micros};
use crate::throttle::Throttle;

/// The pause before the next look when no connection can be closed yet.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a client's turn may last while the server stops.
const CLOSING_PATIENCE: Duration = Duration::from_millis(500);

/// All connections of a port. The task that accepts connections owns them, and dropping this closes
/// them all.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    start: Instant,
    tasks: JoinSet<()>,
    open: HashMap<Id, Connection>,
    /// Limits the log lines about connections that were closed for others.
    evictions: Throttle<()>,
}

#[derive(Debug)]
struct Connection {
    turn: Arc<Turn>,
    task: AbortHandle,
}

impl Connections {
    /// Room for `limit` connections, which is not 0.
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

    /// Waits until one more connection may be opened, and closes another one for it if necessary.
    ///
    /// The wait is short, unless the server works on a request of every connection. Cancel safe.
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

    /// Opens a connection. `serve` must keep its [`Turn`] up to date.
    pub(super) fn open<F>(&mut self, serve: impl FnOnce(Arc<Turn>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let turn = Arc::new(Turn::new(self.start));
        let task = self.tasks.spawn(serve(Arc::clone(&turn)));
        self.open.insert(task.id(), Connection { turn, task });
    }

    /// Waits until a connection has ended and its file is closed. Cancel safe.
    pub(super) async fn one_ended(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            // The connection was closed here, or its handler panicked.
            Some(Err(why)) => why.id(),
            None => return pending().await,
        };
        self.open.remove(&id);
    }

    /// Closes the connection whose client has had its turn for the longest time. False when no
    /// connection waits for its client.
    pub(super) fn evict_stalest(&mut self) -> bool {
        let waiting = self.open.values().filter_map(|connection| {
            let since = connection.turn.clients_since()?;
            Some((since, connection))
        });
        let stalest = waiting.min_by_key(|(since, _)| *since);
        stalest.is_some_and(|(since, connection)| connection.evict(since))
    }

    /// Waits until all connections have ended, but no longer than `grace`, and returns how many were
    /// cut off then. Clients that keep the server waiting are closed earlier.
    pub(super) async fn end_within(mut self, grace: Duration) -> usize {
        let stop = Instant::now();
        while !self.tasks.is_empty() {
            let left = grace.saturating_sub(stop.elapsed());
            if left.is_zero() {
                break;
            }
            if stop.elapsed() >= CLOSING_PATIENCE {
                self.evict_stale(CLOSING_PATIENCE);
            }
            drop(timeout(left.min(LOOK_AGAIN), self.one_ended()).await);
        }
        let cut_off = self.tasks.len();
        self.tasks.shutdown().await;
        cut_off
    }

    /// Closes the connections whose clients have had their turn for `time`.
    fn evict_stale(&self, time: Duration) {
        let now = micros(self.start.elapsed());
        for connection in self.open.values() {
            if let Some(since) = connection.turn.clients_since()
                && now.saturating_sub(since) >= micros(time)
            {
                connection.evict(since);
            }
        }
    }
}

impl Connection {
    /// Closes the connection, unless its client has done a step after `since`.
    fn evict(&self, since: u64) -> bool {
        let evicted = self.turn.evict(since);
        if evicted {
            self.task.abort();
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than anything here takes.
    const LONG: Duration = Duration::from_secs(10);

    /// Connections that never end by themselves, and their turns.
    fn open(count: usize, limit: usize) -> (Connections, Vec<Arc<Turn>>) {
        let mut connections = Connections::new(limit);
        let turns = (0..count).map(|n| {
            let mut kept = None;
            connections.open(|turn| {
                kept = Some(turn);
                pending()
            });
            let kept = kept.unwrap();
            // The client of each has had its turn for longer than that of the next.
            kept.change(n as u64);
            kept
        });
        let turns = turns.collect();
        (connections, turns)
    }

    fn evicted(all: &[Arc<Turn>]) -> Vec<usize> {
        (0..all.len()).filter(|n| all[*n].is_evicted()).collect()
    }

    #[tokio::test]
    async fn there_is_room_without_closing_anything_below_the_limit() {
        let (mut connections, all) = open(3, 4);
        timeout(LONG, connections.make_room()).await.unwrap();
        assert!(evicted(&all).is_empty());
    }

    #[tokio::test]
    async fn the_connection_that_waits_longest_is_closed_for_a_new_one() {
        let (mut connections, all) = open(3, 3);
        all[0].give_to_client();
        timeout(LONG, connections.make_room()).await.unwrap();
        assert_eq!(evicted(&all), [1]);
        assert_eq!(connections.open.len(), 2);
        timeout(LONG, connections.make_room()).await.unwrap();
        assert_eq!(evicted(&all), [1]);
    }

    #[tokio::test]
    async fn a_request_in_progress_is_not_cut_off_and_makes_room_as_soon_as_it_is_answered() {
        let (mut connections, all) = open(2, 2);
        assert!(all[0].give_to_server() && all[1].give_to_server());
        let full = timeout(Duration::from_millis(100), connections.make_room()).await;
        assert!(full.is_err() && evicted(&all).is_empty());
        all[1].give_to_client();
        timeout(LONG, connections.make_room()).await.unwrap();
        assert_eq!(evicted(&all), [1]);
    }

    #[tokio::test]
    async fn the_end_waits_for_requests_in_progress_and_for_no_client() {
        let (connections, all) = open(3, 3);
        assert!(all[0].give_to_server());
        let end = tokio::spawn(connections.end_within(CLOSING_PATIENCE * 3));
        let cut_off = timeout(LONG, end).await.unwrap().unwrap();
        assert_eq!((cut_off, evicted(&all)), (1, vec![1, 2]));
    }
}
