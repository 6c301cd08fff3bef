//! How much one round trip carries: no more than gets through in time.

use std::time::Duration;

/// What the name of an entry has on the wire, about.
pub(crate) const NAME_BYTES: usize = 40;
/// The slowest line that is waited for, in bytes a second. What is sent or asked for may
/// take so much longer than a reply that brings nothing.
const SLOWEST_LINE: u64 = 64 * 1024;
/// A worker's round trip that takes so much longer than the fastest carried too much.
pub(crate) const LONG_TRIP: Duration = Duration::from_secs(1);
/// What a lost round trip adds to the time of the next: it doubles, up to so many times.
const SLACK: Duration = Duration::from_millis(500);
const MAX_SLACK: u32 = 16;
/// How many round trips pass after a loss before one carries more again.
pub(crate) const CALM: u32 = 1000;
/// The bytes of one round trip, at the start, at least and at most.
const START_BYTES: usize = 64 * 1024;
const MIN_BYTES: usize = 4 * 1024;
const MAX_BYTES: usize = 1024 * 1024;

/// How much longer than a reply that brings nothing a round trip of `bytes` may take over a
/// line of which nothing is known.
pub(crate) fn time_for(bytes: usize) -> Duration {
    Duration::from_millis(1000 * bytes as u64 / SLOWEST_LINE)
}

/// How many bytes one round trip carries, so that it ends in time.
///
/// What takes too long over a slow line would be given up and sent again, for ever. And
/// Redis closes a connection whose reply is larger than its output buffer may be.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: usize,
    /// What a round trip may take beyond the fastest.
    long_trip: Duration,
    /// What a round trip takes that carries next to nothing, as far as is known: a Redis
    /// that is far away is no slow line.
    fastest: Duration,
    /// What the line carries has been seen.
    known: bool,
    /// How many times more than the slowest line it may take: doubled by each loss.
    slack: u32,
    /// It grows no further before so many round trips have passed: at this size one was lost.
    calm: u32,
}

impl Window {
    pub(crate) fn new(long_trip: Duration) -> Self {
        Self {
            bytes: START_BYTES,
            long_trip,
            fastest: Duration::MAX,
            known: false,
            slack: 1,
            calm: 0,
        }
    }

    /// Another connection, perhaps to another server.
    pub(crate) fn connected(&mut self) {
        self.fastest = Duration::MAX;
    }

    /// How much longer than a reply that brings nothing a round trip of `bytes` may take.
    /// Once the line is known, what is sent at once is what it carries in a long trip: one
    /// that takes four times as long has gone dark, however much is on its way.
    pub(crate) fn time(&self, bytes: usize) -> Duration {
        if self.known {
            time_for(bytes).min(4 * self.long_trip)
        } else {
            // On a line that others fill, even a short reply may take long.
            (time_for(bytes) + SLACK) * self.slack - SLACK
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A round trip of `bytes` took this long.
    pub(crate) fn passed(&mut self, bytes: usize, took: Duration) {
        self.fastest = self.fastest.min(took);
        self.slack = (self.slack / 2).max(1);
        self.known |= bytes > MIN_BYTES && self.slack == 1;
        self.calm = self.calm.saturating_sub(1);
        let took = took - self.fastest;
        if took > self.long_trip {
            let share = self.long_trip.as_secs_f64() / took.as_secs_f64();
            self.bytes = scaled(bytes, share).clamp(MIN_BYTES, self.bytes);
        } else if bytes >= self.bytes / 2 && took < self.long_trip / 2 && self.calm == 0 {
            self.bytes = (self.bytes * 2).min(MAX_BYTES);
        }
    }

    /// No reply came to a round trip of `bytes`. One of next to none was not too large.
    pub(crate) fn lost(&mut self, bytes: usize) {
        self.known = false;
        self.slack = (self.slack * 2).min(MAX_SLACK);
        if bytes > MIN_BYTES {
            self.bytes = (self.bytes.min(bytes) / 2).max(MIN_BYTES);
            self.calm = CALM;
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count is a count, and an estimate is enough"
)]
pub(crate) fn scaled(count: usize, share: f64) -> usize {
    (count as f64 * share) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_carries_what_a_line_carries_in_a_second() {
        let mut window = Window::new(LONG_TRIP);
        window.passed(START_BYTES, Duration::ZERO);
        assert_eq!(window.bytes(), 2 * START_BYTES);
        window.passed(100, Duration::from_millis(1));
        assert_eq!(window.bytes(), 2 * START_BYTES, "that says nothing");
        window.passed(2 * START_BYTES, Duration::from_secs(4));
        assert_eq!(window.bytes(), START_BYTES / 2);
        window.passed(START_BYTES / 2, Duration::from_millis(700));
        assert_eq!(window.bytes(), START_BYTES / 2, "about right");
        window.passed(10, Duration::from_secs(9));
        assert_eq!(window.bytes(), MIN_BYTES);
        for _ in 0..20 {
            window.passed(MAX_BYTES, Duration::ZERO);
        }
        assert_eq!(window.bytes(), MAX_BYTES);
        window.lost(0);
        assert_eq!(window.bytes(), MAX_BYTES, "it was not too large");
        window.lost(MAX_BYTES);
        assert_eq!(window.bytes(), MAX_BYTES / 2);
    }

    #[test]
    fn a_redis_that_is_far_away_is_no_slow_line() {
        let mut window = Window::new(Duration::from_millis(300));
        window.passed(1, Duration::from_millis(1));
        window.connected();
        let trip = Duration::from_millis(1000);
        for _ in 0..10 {
            window.passed(window.bytes(), trip);
        }
        assert_eq!(window.bytes(), MAX_BYTES);
    }

    #[test]
    fn a_line_that_is_known_is_not_waited_for_as_long_as_the_slowest() {
        let mut window = Window::new(LONG_TRIP);
        assert_eq!(window.time(MAX_BYTES), Duration::from_secs(16));
        window.passed(START_BYTES, Duration::from_millis(1));
        assert_eq!(window.time(MAX_BYTES), 4 * LONG_TRIP);
        assert_eq!(window.time(START_BYTES), Duration::from_secs(1));
        window.lost(START_BYTES);
        let twice = Duration::from_millis(32_500);
        assert_eq!(window.time(MAX_BYTES), twice, "after a loss all the more");
    }
}
