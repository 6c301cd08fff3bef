//! How much a worker fetches: as far ahead of its free slots as its jobs are short, and as
//! many entries as one reply carries in time.

use std::time::{Duration, Instant};

use crate::service::jobqueue::redis::window::{LONG_TRIP, Window, scaled};

/// How far a worker fetches ahead of its free slots at most: two replies, one that is run
/// and settled while the other is on its way. Half of it costs a tenth of the drain rate.
pub(crate) const MAX_AHEAD: usize = 512;
/// The time over which the pace of short jobs is measured.
const PACE_WINDOW: Duration = Duration::from_millis(5);

/// How many deliveries are disposed of in a [`PACE_WINDOW`]: what a worker may fetch
/// ahead, so that short jobs never wait for Redis and long ones are left to others.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    window_start: Option<Instant>,
    /// Disposed of since `window_start`.
    current: usize,
    /// Disposed of in the window before, scaled to the window's length.
    previous: usize,
}

impl Pace {
    pub(crate) fn count(&mut self) {
        self.current += 1;
    }

    pub(crate) fn ahead(&mut self, now: Instant) -> usize {
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
pub(crate) const MAX_REPLY: usize = 256;
/// What an entry is thought to have before any was seen, in bytes.
const USUAL_BYTES: usize = 1024;

/// How many entries a reply may bring: Redis counts entries and not bytes.
#[derive(Debug)]
pub(crate) struct ReplySize {
    window: Window,
    /// What an entry has, as far as was seen lately.
    average: usize,
    /// How many entries were asked for last.
    asked: usize,
}

impl ReplySize {
    pub(crate) fn new() -> Self {
        Self {
            window: Window::new(LONG_TRIP),
            average: USUAL_BYTES,
            asked: 0,
        }
    }

    /// How many of `wanted` to ask for now.
    pub(crate) fn ask(&mut self, wanted: usize) -> usize {
        let fit = (self.window.bytes() / self.average).clamp(1, MAX_REPLY);
        self.asked = wanted.min(fit);
        self.asked
    }

    /// How many bytes a reply may bring when it is Redis that counts them, and how much longer than an empty one such a reply may take.
    pub(crate) fn bytes_and_time(&self) -> (usize, Duration) {
        let bytes = self.window.bytes();
        (bytes, self.window.time(bytes))
    }

    /// How much longer than an empty one the reply that was asked for last may take.
    pub(crate) fn time(&self) -> Duration {
        self.window.time(self.asked * self.average)
    }

    /// Another connection, perhaps to another server.
    pub(crate) fn connected(&mut self) {
        self.window.connected();
    }

    /// A reply of `count` entries of `bytes` in all came after this long.
    pub(crate) fn came(&mut self, count: usize, bytes: usize, took: Duration) {
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
    pub(crate) fn asked_for(&mut self, bytes: usize) {
        self.asked = (bytes / self.average).max(1);
    }

    /// The reply that was asked for last did not come. One that was to bring nothing was
    /// not too large.
    pub(crate) fn lost(&mut self) {
        let bytes = self.asked * self.average;
        self.window.lost(bytes);
        // It may have been larger than all that was seen before.
        if self.asked > 1 && self.window.bytes() / self.average >= self.asked {
            self.average = (2 * self.window.bytes() / self.asked).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::redis::window::CALM;

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
