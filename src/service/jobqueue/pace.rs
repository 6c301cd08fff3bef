//! How much a worker fetches: as far ahead of its free slots as its jobs are short. And how
//! much a round trip carries: no more than gets through.

use std::time::{Duration, Instant};

/// How far a worker fetches ahead of its free slots at most: two replies, one that is run
/// and settled while the other is on its way. Half of it costs a tenth of the drain rate.
pub(crate) const MAX_AHEAD: usize = 512;
/// The time over which the pace of short jobs is measured.
const PACE_WINDOW: Duration = Duration::from_millis(5);

/// How many deliveries are disposed of in a [`PACE_WINDOW`]: what a worker may fetch
/// ahead, so that short jobs never wait for Redis and long ones are left to others.
#[derive(Debug, Default)]
pub(super) struct Pace {
    window_start: Option<Instant>,
    /// Disposed of since `window_start`.
    current: usize,
    /// Disposed of in the window before, scaled to the window's length.
    previous: usize,
}

impl Pace {
    pub(super) fn count(&mut self) {
        self.current += 1;
    }

    pub(super) fn ahead(&mut self, now: Instant) -> usize {
        let elapsed = self.window_start.map_or(Duration::MAX, |start| now - start);
        if elapsed >= PACE_WINDOW {
            let share = PACE_WINDOW.as_secs_f64() / elapsed.as_secs_f64();
            *self = Self {
                window_start: Some(now),
                current: 0,
                previous: scaled(self.current, share),
            };
        }
        self.previous.max(self.current).min(MAX_AHEAD)
    }
}

/// How many entries one reply brings at most: enough that a round trip costs little by the
/// job, and few enough that Redis has the next command before it gets idle.
pub(super) const MAX_REPLY: usize = 256;
/// What an entry is thought to have before any was seen, in bytes.
const USUAL_BYTES: usize = 1024;

/// What the name of an entry has on the wire, about.
pub(super) const NAME_BYTES: usize = 40;
/// The slowest line that is waited for, in bytes a second. What is sent or asked for may
/// take so much longer than a reply that brings nothing.
const SLOWEST_LINE: u64 = 64 * 1024;
/// A worker's round trip that takes so much longer than the fastest carried too much.
pub(super) const LONG_TRIP: Duration = Duration::from_secs(1);
/// What a lost round trip adds to the time of the next: it doubles, up to so many times.
const SLACK: Duration = Duration::from_millis(500);
const MAX_SLACK: u32 = 16;
/// How many round trips pass after a loss before one carries more again.
const CALM: u32 = 1000;
/// The bytes of one round trip, at the start, at least and at most.
const START_BYTES: usize = 64 * 1024;
const MIN_BYTES: usize = 4 * 1024;
const MAX_BYTES: usize = 1024 * 1024;

/// How much longer than a reply that brings nothing a round trip of `bytes` may take over a
/// line of which nothing is known.
pub(super) fn time_for(bytes: usize) -> Duration {
    Duration::from_millis(1000 * bytes as u64 / SLOWEST_LINE)
}

/// How many bytes one round trip carries, so that it ends in time.
///
/// What takes too long over a slow line would be given up and sent again, for ever. And
/// Redis closes a connection whose reply is larger than its output buffer may be.
#[derive(Debug)]
pub(super) struct Window {
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
    pub(super) fn new(long_trip: Duration) -> Self {
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
    pub(super) fn connected(&mut self) {
        self.fastest = Duration::MAX;
    }

    /// How much longer than a reply that brings nothing a round trip of `bytes` may take.
    /// Once the line is known, what is sent at once is what it carries in a long trip: one
    /// that takes four times as long has gone dark, however much is on its way.
    pub(super) fn time(&self, bytes: usize) -> Duration {
        if self.known {
            time_for(bytes).min(4 * self.long_trip)
        } else {
            // On a line that others fill, even a short reply may take long.
            (time_for(bytes) + SLACK) * self.slack - SLACK
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A round trip of `bytes` took this long.
    pub(super) fn passed(&mut self, bytes: usize, took: Duration) {
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
    pub(super) fn lost(&mut self, bytes: usize) {
        self.known = false;
        self.slack = (self.slack * 2).min(MAX_SLACK);
        if bytes > MIN_BYTES {
            self.bytes = (self.bytes.min(bytes) / 2).max(MIN_BYTES);
            self.calm = CALM;
        }
    }
}

/// How many entries a reply may bring: Redis counts entries and not bytes.
#[derive(Debug)]
pub(super) struct ReplySize {
    window: Window,
    /// What an entry has, as far as was seen lately.
    average: usize,
    /// How many entries were asked for last.
    asked: usize,
}

impl ReplySize {
    pub(super) fn new() -> Self {
        Self {
            window: Window::new(LONG_TRIP),
            average: USUAL_BYTES,
            asked: 0,
        }
    }

    /// How many of `wanted` to ask for now.
    pub(super) fn ask(&mut self, wanted: usize) -> usize {
        let fit = (self.window.bytes() / self.average).clamp(1, MAX_REPLY);
        self.asked = wanted.min(fit);
        self.asked
    }

    /// How many bytes a reply may bring when it is Redis that counts them, and how much longer than an empty one such a reply may take.
    pub(super) fn bytes_and_time(&self) -> (usize, Duration) {
        let bytes = self.window.bytes();
        (bytes, self.window.time(bytes))
    }

    /// How much longer than an empty one the reply that was asked for last may take.
    pub(super) fn time(&self) -> Duration {
        self.window.time(self.asked * self.average)
    }

    /// Another connection, perhaps to another server.
    pub(super) fn connected(&mut self) {
        self.window.connected();
    }

    /// A reply of `count` entries of `bytes` in all came after this long.
    pub(super) fn came(&mut self, count: usize, bytes: usize, took: Duration) {
        if count == 0 {
            return;
        }
        let average = (bytes / count).max(1);
        self.average = average.max((3 * self.average + average) / 4);
        // One that is not full may have been waited for.
        if count >= self.asked {
            self.window.passed(bytes, took);
        }
    }

    /// What was asked for last was counted in bytes, and not in entries.
    pub(super) fn asked_for(&mut self, bytes: usize) {
        self.asked = (bytes / self.average).max(1);
    }

    /// The reply that was asked for last did not come. One that was to bring nothing was
    /// not too large.
    pub(super) fn lost(&mut self) {
        let bytes = self.asked * self.average;
        self.window.lost(bytes);
        // It may have been larger than all that was seen before.
        if self.asked > 1 && self.window.bytes() / self.average >= self.asked {
            self.average = (2 * self.window.bytes() / self.asked).max(1);
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count is a count, and an estimate is enough"
)]
fn scaled(count: usize, share: f64) -> usize {
    (count as f64 * share) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_reply_is_asked_for_in_halves() {
        let mut size = ReplySize::new();
        assert_eq!(size.ask(0), 0);
        size.lost();
        assert_eq!(size.ask(MAX_REPLY), 64);
        for smaller in [32, 16, 8, 4, 2, 1, 1] {
            size.lost();
            assert_eq!(size.ask(64), smaller);
        }
        for _ in 0..2 * CALM {
            let count = size.ask(64);
            size.came(count, count * 100, Duration::ZERO);
        }
        assert_eq!(size.ask(64), 64);
    }

    #[test]
    fn a_reply_brings_as_many_entries_as_have_the_bytes() {
        let mut size = ReplySize::new();
        size.ask(10);
        size.came(10, 10 * 32 * 1024, Duration::ZERO);
        assert_eq!(size.ask(MAX_REPLY), 4, "128 KiB in all");
        for _ in 0..30 {
            let count = size.ask(MAX_REPLY);
            size.came(count, count * 100, Duration::ZERO);
        }
        assert_eq!(size.ask(MAX_REPLY + 1), MAX_REPLY);
    }

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

    #[test]
    fn only_short_jobs_are_fetched_ahead() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.ahead(start), 0);
        (0..50).for_each(|_| pace.count());
        assert_eq!(pace.ahead(start + Duration::from_millis(4)), 50);
        assert_eq!(pace.ahead(start + Duration::from_millis(10)), 25);
        assert_eq!(pace.ahead(start + Duration::from_millis(15)), 0);
        (0..5000).for_each(|_| pace.count());
        assert_eq!(pace.ahead(start + Duration::from_millis(16)), MAX_AHEAD);
        assert_eq!(pace.ahead(start + Duration::from_secs(60)), 0);
    }
}
