//! How much a worker fetches: as far ahead of its free slots as its jobs are short, and
//! no more at once than gets through to it.

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
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a count is a count, and an estimate is enough"
            )]
            let scaled = (self.current as f64 * share) as usize;
            *self = Self {
                window_start: Some(now),
                current: 0,
                previous: scaled,
            };
        }
        self.previous.max(self.current).min(MAX_AHEAD)
    }
}

/// How many entries one reply brings at most: enough that a round trip costs little by the
/// job, and few enough that Redis has the next command before it gets idle.
pub(super) const MAX_REPLY: usize = 256;

/// How many entries a reply may bring, so that it comes.
///
/// Redis counts entries and not bytes. A reply of many large jobs may take longer than a
/// slow line has time for, or be more than the server's output buffer may hold: it would
/// be lost each time it is asked for. So what was lost is asked for in halves, down to
/// one by one, and full replies that come make the next one larger again.
#[derive(Debug)]
pub(super) struct ReplySize {
    limit: usize,
    asked: usize,
}

impl ReplySize {
    pub(super) fn new() -> Self {
        Self {
            limit: MAX_REPLY,
            asked: MAX_REPLY,
        }
    }

    /// How many of `wanted` to ask for now.
    pub(super) fn ask(&mut self, wanted: usize) -> usize {
        self.asked = wanted.min(self.limit);
        self.asked
    }

    /// The reply came with `count` entries.
    pub(super) fn came(&mut self, count: usize) {
        if count >= self.limit {
            self.limit = (self.limit + 1).min(MAX_REPLY);
        }
    }

    /// No reply came. One that was to bring nothing was not too large.
    pub(super) fn lost(&mut self) {
        if self.asked > 0 {
            self.limit = (self.asked / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_reply_is_asked_for_in_halves() {
        let mut size = ReplySize::new();
        assert_eq!(size.ask(MAX_REPLY + 1), MAX_REPLY);
        assert_eq!(size.ask(0), 0);
        size.lost();
        assert_eq!(size.ask(9), 9);
        for smaller in [4, 2, 1, 1] {
            size.lost();
            assert_eq!(size.ask(9), smaller);
        }
        size.came(0);
        assert_eq!(size.ask(9), 1);
        size.came(1);
        size.came(2);
        assert_eq!(size.ask(9), 3);
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
