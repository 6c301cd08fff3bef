//! Jobs that somebody has cancelled while this process holds them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustc_hash::FxHashSet;

use super::Held;
use super::phase::{Event, Phase};
use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::worker::decide;
use crate::service::jobqueue::worker::outcome::Delivery;

impl Held {
    /// Somebody wants these cancelled. Those that wait for a slot end at once. The runners of those that
    /// run are woken, to drop their handlers. All others have an outcome, or will be named again.
    pub(crate) fn cancel(&self, ids: &FxHashSet<EntryId>) {
        if ids.is_empty() && !self.any_cancelled.load(Ordering::Acquire) {
            return;
        }
        let mut inner = self.lock();
        let (mut any_ended, mut any_run) = (false, false);
        for id in ids {
            let Some(entry) = inner.entries.get(*id) else {
                continue;
            };
            let (phase, serial) = (entry.phase(), entry.serial());
            match (phase, entry.delivery().map(Arc::clone)) {
                (Phase::Ready, Some(delivery)) => {
                    inner.entries.step(*id, Event::End);
                    inner.push_outcome(*id, serial, decide::cancelled(&delivery));
                    any_ended = true;
                }
                (Phase::Running(_), _) => any_run |= inner.cancelled.insert(*id),
                _ => {}
            }
        }
        if any_ended {
            inner.keep_ready();
        }
        self.any_cancelled
            .store(!inner.cancelled.is_empty(), Ordering::Release);
        drop(inner);
        if any_ended {
            self.outcomes.notify_one();
            self.room.notify_one();
        }
        if any_run {
            self.cancelled.notify_waiters();
        }
    }

    /// Waits until this job, which runs, is cancelled. Cancel safe.
    pub(crate) async fn wait_for_cancel(&self, delivery: &Delivery) {
        loop {
            // First this, so that no wake-up is missed.
            let woken = self.cancelled.notified();
            if self.any_cancelled.load(Ordering::Acquire)
                && self.lock().cancelled.contains(&delivery.id)
            {
                return;
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::time::timeout;

    use super::*;
    use crate::service::jobqueue::worker::held::tests::{delivery, id};
    use crate::service::jobqueue::worker::held::{Admission, Limits};
    use crate::service::jobqueue::worker::outcome::Outcome;

    /// Whether the runner of this job is told that it was cancelled.
    async fn is_told(held: &Held, run: &Delivery) -> bool {
        let told = timeout(Duration::from_millis(20), held.wait_for_cancel(run));
        told.await.is_ok()
    }

    #[tokio::test]
    async fn only_the_runner_of_a_cancelled_job_is_told() {
        let limits = Limits {
            concurrency: 2,
            ahead: 2,
        };
        let (held, now) = (Arc::new(Held::new(limits, || {})), Instant::now());
        let admission = Admission {
            ready: (1..=3).map(delivery).collect(),
            ..Admission::default()
        };
        held.admit(admission, 0, now);
        let [first, second] = [(); 2].map(|()| held.start(now).unwrap());
        let waiting = tokio::spawn({
            let (held, first) = (Arc::clone(&held), Arc::clone(&first));
            async move { held.wait_for_cancel(&first).await }
        });
        tokio::task::yield_now().await;
        held.cancel(&[first.id, id(3), id(9)].into_iter().collect());
        timeout(Duration::from_secs(10), waiting)
            .await
            .unwrap()
            .unwrap();
        assert!(is_told(&held, &first).await, "also one that asks later");
        assert!(!is_told(&held, &second).await);
        let ended = held.take_outcomes(9);
        let [ended] = ended.try_into().unwrap();
        assert_eq!(ended.id, id(3), "it was ready, and is never started");
        assert!(matches!(ended.outcome, Outcome::Dead(letter) if letter.reason == "cancelled"));
        assert!(held.end(&first, decide::cancelled(&first), now).is_none());
        assert!(
            !is_told(&held, &first).await,
            "another entry may have its id"
        );
    }
}
