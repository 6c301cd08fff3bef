//! How far ahead of its free slots a worker fetches: as far as its jobs are short.

use std::time::{Duration, Instant};

/// How far a worker fetches ahead of its free slots at most.
pub(crate) const MAX_AHEAD: usize = 128;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_jobs_are_fetched_ahead() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.ahead(start), 0);
        (0..50).for_each(|_| pace.count());
        assert_eq!(pace.ahead(start + Duration::from_millis(4)), 50);
        assert_eq!(pace.ahead(start + Duration::from_millis(10)), 25);
        assert_eq!(pace.ahead(start + Duration::from_millis(15)), 0);
        (0..500).for_each(|_| pace.count());
        assert_eq!(pace.ahead(start + Duration::from_millis(16)), MAX_AHEAD);
        assert_eq!(pace.ahead(start + Duration::from_secs(5)), 0);
    }
}
