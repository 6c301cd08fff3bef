//! How far ahead of its free slots a worker fetches: as far as its jobs are short.

use std::time::{Duration, Instant};

use crate::service::jobqueue::redis::scaled;

/// What is fetched ahead lasts for so long beyond a round trip. This is for the time that Redis, the
/// line and this process take beside it.
const RESERVE: Duration = Duration::from_millis(5);
/// A round trip to a Redis that is near takes no longer. One command at a time is enough for such a
/// one, and what runs meanwhile is less than the reserve.
pub(crate) const NEAR: Duration = Duration::from_micros(500);
/// How long all slots were taken before half of what was measured is forgotten. It is the short time
/// when so many jobs for each slot have ended, so that jobs which end together say little.
const SHORT_MEMORY: Duration = Duration::from_millis(5);
const LONG_MEMORY: Duration = Duration::from_millis(100);
const JOBS_A_SLOT: f64 = 8.0;
/// So many jobs for each slot are remembered at most.
const MOST_JOBS_A_SLOT: f64 = 1024.0;

/// How many jobs a worker's slots can run in a second. It is measured by the time that jobs spend in
/// their slots (Little's law), and not by how many run: that is no more than what is fetched.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Until when the slots are measured.
    until: Option<Instant>,
    /// The time of all slots that were taken, in seconds.
    slot_time: f64,
    /// How many jobs were disposed of in that time.
    ended: f64,
}

impl Pace {
    /// So many of `concurrency` slots were taken until now.
    #[inline(always)]
    pub(crate) fn pass(&mut self, slots: usize, concurrency: usize, now: Instant) {
        let until = self.until.unwrap_or(now);
        // Threads take the lock in another order than they read the clock.
        self.until = Some(now.max(until));
        self.slot_time += count(slots) * (now - until).as_secs_f64();
        let slots = count(concurrency);
        let enough = self.ended > slots * JOBS_A_SLOT;
        let memory = if enough { SHORT_MEMORY } else { LONG_MEMORY };
        // Jobs that need no slot may end in any number.
        self.ended = self.ended.min(slots * MOST_JOBS_A_SLOT);
        if self.slot_time > slots * memory.as_secs_f64() {
            self.slot_time /= 2.0;
            self.ended /= 2.0;
        }
    }

    /// One more delivery was disposed of.
    #[inline(always)]
    pub(crate) fn count(&mut self) {
        self.ended += 1.0;
    }

    /// What was fetched ahead has waited for too long, so the pace is another one now.
    pub(crate) fn forget(&mut self) {
        (self.slot_time, self.ended) = (0.0, 0.0);
    }

    /// How many jobs `concurrency` slots can run within `time`, and `limit` at most.
    fn within(&self, time: Duration, concurrency: usize, limit: usize) -> usize {
        // Jobs that took no time at all have no limit.
        let per_s = count(concurrency) * self.ended / self.slot_time.max(f64::MIN_POSITIVE);
        scaled(1, per_s * time.as_secs_f64()).min(limit)
    }

    /// How far ahead of their slots entries may be fetched, with this limit. So short jobs do not wait
    /// for a Redis that is a round trip away, and long jobs are left to other workers.
    pub(crate) fn ahead(&self, round_trip: Duration, concurrency: usize, limit: usize) -> Ahead {
        Ahead {
            ready: self.within(round_trip + RESERVE, concurrency, limit),
            coming: self.within(round_trip.saturating_sub(NEAR), concurrency, 2 * limit),
        }
    }
}

/// How many entries may be fetched ahead of the free slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// One reply brings at most so many more than fill the free slots. The limit is one for these.
    pub(crate) ready: usize,
    /// So many more run while a reply is on its way. They are twice the limit at most, because a reply
    /// takes longer than a round trip while Redis is busy. When the slots come to a stand, all of them
    /// wait in this process.
    pub(crate) coming: usize,
}

#[allow(clippy::cast_precision_loss, reason = "an estimate is enough")]
fn count(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 512;
    const FAR: Duration = Duration::from_millis(5);

    fn all(ahead: Ahead) -> usize {
        ahead.ready + ahead.coming
    }

    /// The pace of ten slots that ran jobs of this length for a second, without a pause.
    fn pace_of(job: Duration) -> (Pace, Instant) {
        let (mut pace, start) = (Pace::default(), Instant::now());
        go_on(&mut pace, start, job, Duration::from_secs(1))
    }

    fn go_on(pace: &mut Pace, from: Instant, job: Duration, time: Duration) -> (Pace, Instant) {
        let mut now = from;
        pace.pass(0, 10, now);
        while now < from + time {
            now += job / 10;
            pace.pass(10, 10, now);
            pace.count();
        }
        (std::mem::take(pace), now)
    }

    #[test]
    fn short_jobs_are_fetched_ahead_for_the_way_to_redis_and_back() {
        let ms = Duration::from_millis;
        let nothing_is_known = Pace::default();
        assert_eq!(all(nothing_is_known.ahead(FAR, 10, LIMIT)), 0);
        for (job, near, far) in [
            (ms(1000), 0, 0),
            (ms(100), 0, 1),
            // Ten slots run 2,000 of them in a second.
            (ms(5), 10, 20 + 10),
            (ms(1), 50, 100 + 50),
            (Duration::from_micros(20), LIMIT, 3 * LIMIT),
        ] {
            let (pace, _) = pace_of(job);
            let ahead = |round_trip| all(pace.ahead(round_trip, 10, LIMIT));
            assert!(
                ahead(NEAR).abs_diff(near) <= 1 + near / 8,
                "{job:?} {}",
                ahead(NEAR)
            );
            assert!(
                ahead(FAR).abs_diff(far) <= 2 + far / 8,
                "{job:?} {}",
                ahead(FAR)
            );
            assert_eq!(all(pace.ahead(FAR, 10, 0)), 0);
        }
    }

    #[test]
    fn jobs_that_end_together_set_no_other_pace() {
        let (mut pace, mut now) = pace_of(Duration::from_millis(5));
        for _ in 0..100 {
            now += Duration::from_millis(5);
            pace.pass(10, 10, now);
            (0..10).for_each(|_| pace.count());
            let ready = pace.ahead(NEAR, 10, LIMIT).ready;
            assert!((9..=13).contains(&ready), "{ready}");
        }
    }

    #[test]
    fn jobs_that_need_no_slot_are_fetched_as_the_shortest_ones() {
        let mut pace = Pace::default();
        pace.pass(0, 10, Instant::now());
        pace.count();
        assert_eq!(all(pace.ahead(FAR, 10, LIMIT)), 3 * LIMIT);
    }

    #[test]
    fn jobs_that_needed_no_slot_are_soon_forgotten() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        (0..1_000_000).for_each(|_| pace.count());
        for _ in 0..100 {
            pace.pass(10, 10, now);
            now += Duration::from_millis(1);
        }
        assert!(all(pace.ahead(Duration::ZERO, 10, LIMIT)) < 10);
    }

    #[test]
    fn an_idle_time_says_nothing_about_the_jobs() {
        let (mut pace, now) = pace_of(Duration::from_millis(1));
        let before = pace.ahead(FAR, 10, LIMIT);
        pace.pass(0, 10, now + Duration::from_secs(60));
        assert_eq!(pace.ahead(FAR, 10, LIMIT), before);
    }

    #[test]
    fn the_pace_of_what_ran_before_is_soon_forgotten() {
        let short = Duration::from_micros(20);
        let (mut pace, mut now) = pace_of(short);
        // Long jobs begin.
        for _ in 0..500 {
            now += Duration::from_millis(1);
            pace.pass(10, 10, now);
        }
        assert_eq!(all(pace.ahead(NEAR, 10, LIMIT)), 0);
        let (mut pace, now) = pace_of(Duration::from_secs(1));
        let (pace, _) = go_on(&mut pace, now, short, Duration::from_millis(2));
        assert_eq!(all(pace.ahead(NEAR, 10, LIMIT)), LIMIT);
    }
}
