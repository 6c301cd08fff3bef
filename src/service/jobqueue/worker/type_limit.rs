//! Limits how many jobs of one type run at once in this process.
//!
//! A job that finds no room goes back to Redis for a while. If it stayed here, a burst of one type
//! would keep all other types from running. [`Spacing`] chooses its pause, so that the jobs come back
//! about as fast as this process works them off.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::lock::lock;

/// How long one job may wait for room. It keeps its slot of the worker meanwhile, so that the next
/// job is at hand when one ends.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1);
/// How many jobs of the type may wait for room.
const WAITING: usize = 1;

/// The shortest pause of a job that found no room, and the longest one. Workers that are started
/// meanwhile get such jobs after the longest pause at the latest.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How long a job is thought to take before one has ended. A guess that is too long would leave room
/// unused; one that is too short only brings jobs back too early, once.
const FIRST_GUESS: Duration = Duration::from_millis(100);
/// Jobs come back faster than they are worked off by this, so that there is one whenever there is
/// room. Those that come too early go back once more.
const EAGERNESS: f64 = 1.25;
/// The weight of the latest run in the mean of all.
const WEIGHT: f64 = 0.125;

/// The limit of one type.
#[derive(Debug)]
pub(super) struct TypeLimit {
    room: Arc<Semaphore>,
    waiting: Semaphore,
    spacing: Mutex<Spacing>,
}

/// Room for one job, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    limit: Arc<TypeLimit>,
    since: Instant,
    _room: OwnedSemaphorePermit,
}

impl TypeLimit {
    pub(super) fn new(limit: usize, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
            waiting: Semaphore::new(WAITING),
            spacing: Mutex::new(Spacing::new(limit, now)),
        })
    }

    /// Waits for room for one job, for a moment at most, and not in the last slot: if no other slot
    /// `is_free`, jobs of other types could not start. Cancel safe.
    ///
    /// # Errors
    /// When there is no room: how long the job is to stay away.
    pub(super) async fn place(
        self: &Arc<Self>,
        is_free: impl FnOnce() -> bool,
    ) -> Result<Place, Duration> {
        let room = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => Some(room),
            Err(_) if is_free() => self.wait().await,
            Err(_) => None,
        };
        let now = Instant::now();
        match room {
            Some(room) => Ok(Place {
                limit: Arc::clone(self),
                since: now,
                _room: room,
            }),
            None => Err(lock(&self.spacing).pause(now, fastrand::f64())),
        }
    }

    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let _waiting = self.waiting.try_acquire().ok()?;
        let room = Arc::clone(&self.room).acquire_owned();
        timeout(MAX_WAIT, room).await.ok()?.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.limit.spacing).ended(self.since.elapsed());
    }
}

/// When jobs that found no room come back. Decides from values alone.
#[derive(Debug)]
struct Spacing {
    limit: f64,
    /// The mean time of a run, in seconds.
    mean: Option<f64>,
    /// When the latest of the jobs that were sent away comes back.
    last: Instant,
}

impl Spacing {
    fn new(limit: usize, now: Instant) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Self {
            limit: f64::from(limit),
            mean: None,
            last: now,
        }
    }

    fn ended(&mut self, run: Duration) {
        let run = run.as_secs_f64();
        self.mean = Some(match self.mean {
            Some(mean) => mean + WEIGHT * (run - mean),
            None => run,
        });
    }

    /// The pause of one more job. `random` is uniform in 0..1, and spreads the jobs for which there
    /// is no room within the longest pause.
    fn pause(&mut self, now: Instant, random: f64) -> Duration {
        let mean = self.mean.unwrap_or(FIRST_GUESS.as_secs_f64());
        let step = Duration::from_secs_f64(mean / self.limit / EAGERNESS);
        let next = self.last.max(now) + step;
        let pause = next.saturating_duration_since(now);
        if pause > MAX_PAUSE {
            return MAX_PAUSE.mul_f64(0.5 + random / 2.0);
        }
        self.last = next;
        pause.max(MIN_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn one_job_waits_and_the_others_go_away() {
        let limit = TypeLimit::new(1, Instant::now());
        let first = limit.place(|| true).await.unwrap();
        let second = tokio::spawn({
            let limit = Arc::clone(&limit);
            async move { limit.place(|| true).await }
        });
        tokio::task::yield_now().await;
        assert!(limit.place(|| true).await.is_err(), "one waits already");
        drop(first);
        assert!(second.await.unwrap().is_ok());
        let held = limit.place(|| true).await.unwrap();
        // It waited for a moment.
        let began = Instant::now();
        assert!(limit.place(|| true).await.is_err());
        assert!(began.elapsed() >= MAX_WAIT);
        drop(held);
    }

    #[tokio::test]
    async fn no_job_waits_in_the_last_slot() {
        let limit = TypeLimit::new(1, Instant::now());
        let first = limit.place(|| false).await.unwrap();
        let began = Instant::now();
        assert!(limit.place(|| false).await.is_err());
        assert!(began.elapsed() < MAX_WAIT);
        drop(first);
    }
}
