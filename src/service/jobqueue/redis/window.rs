//! How many bytes one round trip carries, so that it ends in time. Decides from values alone.

use std::time::Duration;

/// About how many bytes the name of an entry has on the wire.
pub(crate) const NAME_BYTES: usize = 40;
/// The slowest line that is waited for, in bytes a second. A round trip may take as long as its
/// bytes take on such a line, beyond the time of one that carries nothing.
const SLOWEST_LINE: u64 = 64 * 1024;
/// A worker's round trip that takes so much longer than the fastest one carried too much.
pub(crate) const LONG_TRIP: Duration = Duration::from_secs(1);
/// The time of a round trip beyond that of its bytes. A lost round trip doubles the time of the next
/// one, up to [`MAX_SLACK`] times.
const SLACK: Duration = Duration::from_millis(500);
const MAX_SLACK: u32 = 16;
/// So many round trips pass after a loss before the next one may carry more again.
pub(crate) const CALM: u32 = 1000;
/// How many bytes one round trip carries at the start, at least and at most.
const START_BYTES: usize = 64 * 1024;
const MIN_BYTES: usize = 4 * 1024;
const MAX_BYTES: usize = 1024 * 1024;

/// How much longer than a reply that brings nothing a round trip of `bytes` may take over a
/// line of which nothing is known.
pub(crate) fn time_for(bytes: usize) -> Duration {
    Duration::from_millis(1000 * bytes as u64 / SLOWEST_LINE)
}

/// How many bytes one round trip carries over one line, by what the line has shown.
///
/// Without a limit, what takes too long over a slow line would be given up and sent again for
/// ever. And Redis closes a connection whose reply is larger than its output buffer may be.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: usize,
    /// How much longer than the fastest a round trip may take.
    long_trip: Duration,
    /// The time of the fastest round trip so far. It is subtracted from all others, because a
    /// Redis that is far away is no slow line.
    fastest: Duration,
    /// Whether a round trip has shown how much the line carries.
    known: bool,
    /// How many times longer than on the slowest line it may take. Each loss doubles this.
    slack: u32,
    /// The window does not grow before so many round trips have passed, because one of this size
    /// was lost.
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

    /// The connection is a new one, perhaps to another server.
    pub(crate) fn connected(&mut self) {
        self.fastest = Duration::MAX;
    }

    /// How much longer than a reply that brings nothing a round trip of `bytes` may take.
    ///
    /// Once the line is known, no more is sent than it carries in a long trip. When that takes
    /// four times as long, the line is dead, however much is on its way.
    pub(crate) fn time(&self, bytes: usize) -> Duration {
        if self.known {
            time_for(bytes).min(4 * self.long_trip)
        } else {
            // Others may fill the line, and then even a short reply takes long.
            (time_for(bytes) + SLACK) * self.slack - SLACK
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The time of the fastest round trip on this connection. It is zero before the first.
    pub(crate) fn round_trip(&self) -> Duration {
        match self.fastest {
            Duration::MAX => Duration::ZERO,
            fastest => fastest,
        }
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

    /// No reply came to a round trip of `bytes`. If it had next to none, it was not too large.
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
