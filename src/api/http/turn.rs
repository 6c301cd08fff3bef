//! Whose turn it is on a connection, the server's or the client's, and since when.
//!
//! When there are too many connections, the one whose client has had its turn for the longest time
//! is closed (evicted). The client's turn ends when a request, or a part of its body, has arrived
//! as a whole, and a new one begins with each answer. Single bytes of a head or of an answer change
//! nothing, so a client that sends or takes one byte now and then is not spared.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Whose turn it is on one connection.
#[derive(Debug)]
pub(super) struct Turn {
    start: Instant,
    /// When the client's turn began, in microseconds after `start`, or [`SERVER`] or [`EVICTED`].
    since: AtomicU64,
    /// Whether the server has tried to read from the client since the last request.
    read_since_request: AtomicBool,
}

/// The server works on a request.
const SERVER: u64 = u64::MAX;
/// The connection is about to be closed, and nothing may begin on it any more.
const EVICTED: u64 = u64::MAX - 1;

impl Turn {
    /// The client's turn, which begins now. `start` is a time before all connections.
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            since: AtomicU64::new(micros(start.elapsed())),
            read_since_request: AtomicBool::new(false),
        }
    }

    /// Notes that the server tries to read from the client.
    pub(super) fn note_read(&self) {
        self.read_since_request.store(true, Ordering::Relaxed);
    }

    /// Whether the request that begins now was sent together with the last one.
    pub(super) fn is_pipelined(&self) -> bool {
        !self.read_since_request.swap(false, Ordering::Relaxed)
    }

    /// The server has what it needs and works. False when the connection is about to be closed:
    /// then the work must not begin.
    pub(super) fn give_to_server(&self) -> bool {
        self.change(SERVER)
    }

    /// The server waits for the client from now on.
    pub(super) fn give_to_client(&self) {
        self.change(micros(self.start.elapsed()));
    }

    pub(super) fn change(&self, to: u64) -> bool {
        let unless_evicted = |since| (since != EVICTED).then_some(to);
        let order = Ordering::Relaxed;
        let changed = self.since.fetch_update(order, order, unless_evicted);
        changed.is_ok()
    }

    /// When the client's turn began, in microseconds; `None` while it is not the client's turn.
    pub(super) fn clients_since(&self) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed);
        (since < EVICTED).then_some(since)
    }

    /// Marks the connection as one to be closed. False when the client has done a step after
    /// `since`.
    pub(super) fn evict(&self, since: u64) -> bool {
        let order = Ordering::Relaxed;
        let evicted = self.since.compare_exchange(since, EVICTED, order, order);
        evicted.is_ok()
    }

    #[cfg(test)]
    pub(super) fn is_evicted(&self) -> bool {
        self.since.load(Ordering::Relaxed) == EVICTED
    }
}

/// A time in the unit of [`Turn`].
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(EVICTED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_begins_on_a_connection_that_is_about_to_be_closed() {
        let turn = Turn::new(Instant::now());
        let since = turn.clients_since().unwrap();
        assert!(turn.give_to_server());
        assert!(!turn.evict(since));
        turn.change(since);
        assert!(turn.evict(since));
        assert!(!turn.give_to_server());
        turn.give_to_client();
        assert_eq!(turn.clients_since(), None);
    }
}
