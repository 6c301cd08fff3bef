//! Limits how many jobs of one type run at once in this process.
//!
//! A job that finds no room goes back to Redis for a while. If it stayed here, a burst of one type
//! would keep all other types from running. [`Spacing`] chooses its pause, so that the jobs come back
//! about as fast as this process works them off.

mod spacing;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use self::spacing::Spacing;
use crate::lock::lock;

/// How long one job may wait for room. It keeps its slot of the worker meanwhile, so that the next
/// job is at hand when one ends.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1);
/// How many jobs of the type may wait for room.
const WAITING: usize = 1;

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

#[cfg(test)]
mod tests {
    use super::*;

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
