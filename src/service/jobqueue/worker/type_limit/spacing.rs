//! When jobs that found no room come back. Decides from values alone.

use std::time::{Duration, Instant};

/// The shortest pause.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause while few jobs are away. Workers that are started meanwhile get such jobs after
/// this time at the latest.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause of all. Where so many jobs are away, most of them have to wait for longer anyhow.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How long a job is thought to take before one has ended. A guess that is too long would leave room
/// unused; one that is too short only brings jobs back too early, once.
const FIRST_GUESS: Duration = Duration::from_millis(100);
/// Jobs come back faster than they are worked off by this, so that there is one whenever there is
/// room. Those that come too early go back once more.
const EAGERNESS: f64 = 1.25;
/// The weight of the latest run in the mean of all.
const WEIGHT: f64 = 0.125;
/// How many jobs may be sent away in a second. When there are more, the longest pause grows.
const SENT_AWAY: f64 = 100.0;
/// The same for each one that is expected: enough of them must come back.
const SENT_AWAY_FOR_EACH: f64 = 2.0;
/// The time over which those are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// The pauses of one type.
#[derive(Debug)]
pub(super) struct Spacing {
    limit: f64,
    /// The mean time of a run, in seconds.
    mean: Option<f64>,
    /// When the latest of the jobs that are spaced comes back.
    last: Instant,
    /// The pause of those that are beyond the ones that are spaced.
    max_pause: Duration,
    /// How many were sent away since `window`.
    sent_away: u32,
    window: Instant,
}

impl Spacing {
    pub(super) fn new(limit: usize, now: Instant) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Self {
            limit: f64::from(limit),
            mean: None,
            last: now,
            max_pause: MAX_PAUSE,
            sent_away: 0,
            window: now,
        }
    }

    pub(super) fn ended(&mut self, run: Duration) {
        let run = run.as_secs_f64();
        self.mean = Some(match self.mean {
            Some(mean) => mean + WEIGHT * (run - mean),
            None => run,
        });
    }

    /// The pause of one more job. `random` is uniform in 0..1, and spreads the jobs for which there
    /// is no room within the longest pause.
    pub(super) fn pause(&mut self, now: Instant, random: f64) -> Duration {
        let mean = self.mean.unwrap_or(FIRST_GUESS.as_secs_f64());
        let step = mean / self.limit / EAGERNESS;
        self.count(now, step);
        let next = self.last.max(now) + Duration::from_secs_f64(step);
        let pause = next.saturating_duration_since(now);
        if pause > MAX_PAUSE {
            return self.max_pause.mul_f64(0.5 + random / 2.0);
        }
        self.last = next;
        pause.max(MIN_PAUSE)
    }

    /// Counts a job that is sent away, and adapts the longest pause: a long backlog of the type
    /// would go round and round in Redis. `step` is the time, in seconds, between two that are expected.
    fn count(&mut self, now: Instant, step: f64) {
        let elapsed = now.saturating_duration_since(self.window);
        if elapsed >= WINDOW {
            let rate = f64::from(self.sent_away) / elapsed.as_secs_f64();
            let wanted = SENT_AWAY.max(SENT_AWAY_FOR_EACH / step);
            // Slowly: a moment without jobs says little about how many are away, and if all of a burst
            // were sent away for long, there would be none to run meanwhile.
            let halvings = elapsed.as_secs_f64() / WINDOW.as_secs_f64();
            let change = (rate / wanted).clamp(0.5_f64.powf(halvings), 2.0);
            let longest = LONGEST_PAUSE.as_secs_f64();
            let pause = (self.max_pause.as_secs_f64() * change).min(longest);
            self.max_pause = Duration::from_secs_f64(pause).max(MAX_PAUSE);
            (self.sent_away, self.window) = (0, now);
        }
        self.sent_away += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    /// The fractions of its multiples are spread evenly.
    const GOLDEN: f64 = 0.618_033_988_75;
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn jobs_come_back_a_little_faster_than_they_are_worked_off() {
        let now = Instant::now();
        let mut spacing = Spacing::new(2, now);
        spacing.ended(5 * SECOND);
        // Two at once, each for 5 s: one ends every 2.5 s.
        let pauses = [(); 3].map(|()| spacing.pause(now, 0.0));
        assert_eq!(pauses, [2 * SECOND, 4 * SECOND, 6 * SECOND]);
        let later = now + 5 * SECOND;
        assert_eq!(
            spacing.pause(later, 0.0),
            3 * SECOND,
            "7 s were taken until 6 s"
        );
        assert_eq!(spacing.pause(later + 60 * SECOND, 0.0), 2 * SECOND);
    }

    #[test]
    fn no_pause_is_too_short_or_too_long() {
        let now = Instant::now();
        let mut unknown = Spacing::new(1, now);
        unknown.pause(now, 0.0);
        assert_eq!(unknown.last, now + FIRST_GUESS.mul_f64(0.8));
        let mut quick = Spacing::new(1, now);
        quick.ended(Duration::ZERO);
        assert_eq!(quick.pause(now, 0.0), MIN_PAUSE);
        let mut slow = Spacing::new(1, now);
        slow.ended(3600 * SECOND);
        assert_eq!(slow.pause(now, 0.0), MAX_PAUSE / 2);
        assert_eq!(slow.pause(now, 1.0), MAX_PAUSE);
        // Those did not take a place: the pauses do not grow beyond the longest one.
        assert_eq!(slow.last, now);
    }

    #[test]
    fn the_mean_follows_the_runs() {
        let mut spacing = Spacing::new(1, Instant::now());
        spacing.ended(8 * SECOND);
        spacing.ended(16 * SECOND);
        assert_eq!(spacing.mean, Some(9.0));
    }

    /// How many of `backlog` jobs of one second each, one at a time, are done in an hour, and how often
    /// a job comes back in vain in a second of its second half.
    fn one_hour(backlog: u32) -> (u32, f64) {
        let start = Instant::now();
        let (middle, end) = (start + 1800 * SECOND, start + 3600 * SECOND);
        let mut spacing = Spacing::new(1, start);
        let mut away: BinaryHeap<_> = (0..backlog).map(|_| Reverse(start)).collect();
        let (mut free, mut done, mut vain, mut turn) = (start, 0, 0, 0.0);
        while let Some(Reverse(now)) = away.pop()
            && now < end
        {
            if free <= now {
                free = now + SECOND;
                spacing.ended(SECOND);
                done += 1;
                continue;
            }
            vain += u32::from(now > middle);
            // Spread as random numbers are.
            turn = (turn + GOLDEN) % 1.0;
            away.push(Reverse(now + spacing.pause(now, turn)));
        }
        (done, f64::from(vain) / 1800.0)
    }

    #[test]
    fn a_long_backlog_of_a_type_goes_round_slowly_and_is_worked_off() {
        let (done, vain) = one_hour(1_000);
        assert_eq!(done, 1_000);
        assert!(vain < 1.0, "{vain}");
        for (backlog, most) in [(10_000, 1.2 * SENT_AWAY), (100_000, 250.0)] {
            let (done, vain) = one_hour(backlog);
            assert!(done > 3_400, "{backlog}: {done} of 3,600 that fit");
            assert!(vain < most, "{backlog}: {vain}");
        }
    }

    #[test]
    fn after_a_silence_the_longest_pause_is_the_usual_one() {
        let start = Instant::now();
        let mut spacing = Spacing::new(1, start);
        spacing.max_pause = LONGEST_PAUSE;
        spacing.pause(start + 36_000 * SECOND, 0.0);
        assert_eq!(spacing.max_pause, MAX_PAUSE);
    }
}
