//! How much one reply brings: as many entries as get over the line in time.
//!
//! Redis counts entries and not bytes in most commands, so the size of an entry is estimated
//! from the replies before. How many bytes the line carries is for the [`Window`] to say.

use std::time::Duration;

use crate::service::jobqueue::redis::{LONG_TRIP, Window, scaled};
use crate::service::jobqueue::worker::pace::NEAR;

/// How many entries one reply brings at most, when Redis is near: enough that a round trip costs
/// little by the job, and few enough that Redis has the next command before it gets idle.
pub(super) const MAX_REPLY: usize = 256;
/// One reply is on its way at a time. So one brings more entries where Redis is further away: so many
/// more for each millisecond, which is more than is done in one, and [`MAX_FAR_REPLY`] at most. Redis
/// serves nobody else while it makes such a reply, for about a millisecond.
const A_MS_AWAY: usize = 2048;
const MAX_FAR_REPLY: usize = 1024;
/// The estimated size of an entry before any was seen, in bytes.
const USUAL_BYTES: usize = 1024;

/// The size of the next reply, learned from the replies before.
#[derive(Debug)]
pub(super) struct ReplySize {
    window: Window,
    /// The estimated size of an entry, in bytes.
    average: usize,
    /// How many entries the last command asked for.
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

    /// How many of `wanted` entries the next command asks for.
    pub(super) fn ask(&mut self, wanted: usize, round_trip: Duration) -> usize {
        let far = round_trip.saturating_sub(NEAR).as_secs_f64();
        let far = scaled(A_MS_AWAY, far * 1000.0);
        let most = (MAX_REPLY + far).min(MAX_FAR_REPLY);
        let fit = (self.window.bytes() / self.average).clamp(1, most);
        self.asked = wanted.min(fit);
        self.asked
    }

    /// How much longer than an empty reply the reply to the last command may take.
    pub(super) fn time(&self) -> Duration {
        self.window.time(self.asked * self.average)
    }

    /// For a command that counts bytes: how many the reply may bring, and how much longer than
    /// an empty reply it may take.
    pub(super) fn bytes_and_time(&self) -> (usize, Duration) {
        let bytes = self.window.bytes();
        (bytes, self.window.time(bytes))
    }

    /// The last command asked for this many bytes, and not for a number of entries.
    pub(super) fn asked_for_bytes(&mut self, bytes: usize) {
        self.asked = (bytes / self.average).max(1);
    }

    /// There is another connection, perhaps to another server.
    pub(super) fn connected(&mut self) {
        self.window.connected();
    }

    /// A reply of `count` entries with `bytes` in all took this long.
    pub(super) fn measure(&mut self, count: usize, bytes: usize, took: Duration) {
        if count == 0 {
            return;
        }
        let average = (bytes / count).max(1);
        self.average = average.max((3 * self.average + average) / 4);
        // A reply that is not full may have waited for its first entry, so its time says
        // nothing about the line.
        if count >= self.asked {
            self.window.passed(bytes, took);
        }
    }

    /// The reply to the last command did not come, so the next one is to be smaller. A reply
    /// that was to bring nothing was not too large.
    pub(super) fn lost(&mut self) {
        let bytes = self.asked * self.average;
        self.window.lost(bytes);
        // When that still lets as many entries through, they are larger than all that were seen
        // before.
        if self.asked > 1 && self.window.bytes() / self.average >= self.asked {
            self.average = (2 * self.window.bytes() / self.asked).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::redis::CALM;

    /// What is asked of a Redis that is near.
    fn ask(size: &mut ReplySize, wanted: usize) -> usize {
        size.ask(wanted, Duration::ZERO)
    }

    #[test]
    fn a_reply_brings_more_where_redis_is_further_away() {
        let mut size = ReplySize::new();
        for _ in 0..30 {
            let count = ask(&mut size, MAX_REPLY);
            size.measure(count, count * 20, Duration::ZERO);
        }
        for (micros, most) in [(0, 256), (500, 256), (625, 512), (2000, 1024)] {
            let round_trip = Duration::from_micros(micros);
            assert_eq!(size.ask(5000, round_trip), most, "{micros}");
            assert_eq!(size.ask(100, round_trip), 100, "{micros}");
        }
    }

    #[test]
    fn a_lost_reply_is_asked_for_in_halves() {
        let mut size = ReplySize::new();
        assert_eq!(ask(&mut size, 0), 0);
        size.lost();
        assert_eq!(ask(&mut size, MAX_REPLY), 64);
        for smaller in [32, 16, 8, 4, 2, 1, 1] {
            size.lost();
            assert_eq!(ask(&mut size, 64), smaller);
        }
        for _ in 0..2 * CALM {
            let count = ask(&mut size, 64);
            size.measure(count, count * 100, Duration::ZERO);
        }
        assert_eq!(ask(&mut size, 64), 64);
    }

    #[test]
    fn a_lost_reply_of_many_bytes_is_asked_for_in_halves_too() {
        let mut size = ReplySize::new();
        let (bytes, _) = size.bytes_and_time();
        size.asked_for_bytes(bytes);
        size.lost();
        assert_eq!(size.bytes_and_time().0, bytes / 2);
    }

    #[test]
    fn a_reply_brings_as_many_entries_as_have_the_bytes() {
        let mut size = ReplySize::new();
        ask(&mut size, 10);
        size.measure(10, 10 * 32 * 1024, Duration::ZERO);
        assert_eq!(ask(&mut size, MAX_REPLY), 4, "128 KiB in all");
        for _ in 0..30 {
            let count = ask(&mut size, MAX_REPLY);
            size.measure(count, count * 100, Duration::ZERO);
        }
        assert_eq!(ask(&mut size, MAX_REPLY + 1), MAX_REPLY);
    }

    #[test]
    fn a_reply_that_may_have_waited_says_nothing_about_the_line() {
        let mut size = ReplySize::new();
        ask(&mut size, 1);
        size.measure(1, 1024, Duration::from_millis(1));
        let before = size.bytes_and_time().0;
        ask(&mut size, 10);
        size.measure(9, 9 * 1024, Duration::from_secs(60));
        assert_eq!(size.bytes_and_time().0, before);
        ask(&mut size, 10);
        size.measure(10, 10 * 1024, Duration::from_secs(60));
        assert!(size.bytes_and_time().0 < before, "a full one does");
    }
}
