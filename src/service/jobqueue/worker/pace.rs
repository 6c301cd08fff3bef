//! How far ahead of its free slots a worker fetches: as far as its jobs are short.

use std::time::{Duration, Instant};

use crate::service::jobqueue::redis::scaled;

/// The time over which the pace is measured.
const PACE_WINDOW: Duration = Duration::from_millis(5);

/// How many deliveries are disposed of in a [`PACE_WINDOW`]. A worker fetches that many ahead:
/// then short jobs never wait for Redis, and long jobs are left to other workers.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    window_start: Option<Instant>,
    /// How many were disposed of since `window_start`.
    current: usize,
    /// How many were disposed of in the window before, scaled to the window's length.
    previous: usize,
}

impl Pace {
    /// One more delivery was disposed of.
    pub(crate) fn count(&mut self) {
        self.current += 1;
    }

    /// How many entries may be fetched ahead of the free slots. Also ends a window that is over.
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
        self.previous.max(self.current)
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
        (0..5000).for_each(|_| pace.count());
        assert_eq!(pace.ahead(start + Duration::from_millis(16)), 5000);
        assert_eq!(pace.ahead(start + Duration::from_secs(60)), 0);
    }
}
