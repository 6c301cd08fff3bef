//! Limits the log lines about events that happen again and again.
//!
//! In each minute, the first lines of each kind of event are logged. When the minute is over, one
//! more line says how many others there were, even if nothing more has happened since.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::lock::lock;

/// How long the lines of a kind are counted together.
const PERIOD: Duration = Duration::from_secs(60);
/// How many kinds are counted apart. All further kinds share one count, so that neither the log nor
/// the memory grows with what strangers send.
const MAX_KINDS: usize = 32;

/// Admits a few log lines of each kind in a minute. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Throttle<K>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    lines: u32,
    period: Duration,
    /// Logs how many lines of a kind were suppressed. `None` stands for all further kinds.
    log_rest: fn(Option<&K>, u64),
    /// A task of this runtime waits for the end of a minute. Without a runtime, the next line of the
    /// kind says how many were suppressed.
    runtime: Option<Handle>,
    kinds: Mutex<HashMap<Option<K>, Minute>>,
}

/// The current minute of one kind.
#[derive(Debug)]
struct Minute {
    since: Instant,
    admitted: u32,
    suppressed: u64,
}

impl<K> Drop for Inner<K> {
    /// Logs the rest of the current minutes: no task will do it later.
    fn drop(&mut self) {
        self.log_all_rests();
    }
}

impl<K> Clone for Throttle<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Throttle<K> {
    /// Admits `lines` of each kind in a minute. `log_rest` logs the count of the others, on the runtime
    /// of the caller.
    pub(crate) fn new(lines: u32, log_rest: fn(Option<&K>, u64)) -> Self {
        Self::with_period(lines, PERIOD, log_rest)
    }

    fn with_period(lines: u32, period: Duration, log_rest: fn(Option<&K>, u64)) -> Self {
        Self(Arc::new(Inner {
            lines,
            period,
            log_rest,
            runtime: Handle::try_current().ok(),
            kinds: Mutex::new(HashMap::new()),
        }))
    }

    /// How many lines of this kind were suppressed since the last one, if a line is to be logged at
    /// `now`. `None` when the line is suppressed as well.
    pub(crate) fn admit(&self, kind: K, now: Instant) -> Option<u64> {
        self.admit_many(kind, 1, now)
    }

    /// Like [`Self::admit`], for a line that stands for `count` events.
    pub(crate) fn admit_many(&self, kind: K, count: u64, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock();
        let mut kind = Some(kind);
        if !kinds.contains_key(&kind) && kinds.len() >= MAX_KINDS {
            kinds.retain(|_, minute| minute.suppressed > 0 || !self.0.is_over(minute, now));
            if kinds.len() >= MAX_KINDS {
                kind = None;
            }
        }
        let minute = kinds.entry(kind.clone()).or_insert_with(|| Minute {
            since: now,
            admitted: 0,
            suppressed: 0,
        });
        if self.0.is_over(minute, now) {
            (minute.since, minute.admitted) = (now, 0);
        }
        if minute.admitted < self.0.lines {
            minute.admitted += 1;
            return Some(std::mem::take(&mut minute.suppressed));
        }
        let first = minute.suppressed == 0;
        minute.suppressed += count;
        if first {
            self.log_rest_later(kind, minute.since + self.0.period);
        }
        None
    }

    /// Logs the rest of the current minutes now. Call it before the process ends.
    pub(crate) fn tell_rest(&self) {
        self.0.log_all_rests();
    }

    /// Logs the rest of a minute at its end.
    fn log_rest_later(&self, kind: Option<K>, at: Instant) {
        let Some(runtime) = &self.0.runtime else {
            return;
        };
        let inner = Arc::downgrade(&self.0);
        runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let Some(inner) = inner.upgrade() else {
                return;
            };
            let mut kinds = inner.lock();
            let over = |minute: &&mut Minute| inner.is_over(minute, Instant::now());
            // If a line was admitted meanwhile, it began another minute and had the count.
            let minute = kinds.get_mut(&kind).filter(over);
            let rest = minute.map_or(0, |minute| std::mem::take(&mut minute.suppressed));
            drop(kinds);
            if rest > 0 {
                (inner.log_rest)(kind.as_ref(), rest);
            }
        });
    }
}

impl<K> Inner<K> {
    fn is_over(&self, minute: &Minute, now: Instant) -> bool {
        now >= minute.since + self.period
    }

    fn log_all_rests(&self) {
        let kinds = std::mem::take(&mut *self.lock());
        for (kind, minute) in kinds.into_iter().filter(|(_, one)| one.suppressed > 0) {
            (self.log_rest)(kind.as_ref(), minute.suppressed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<K>, Minute>> {
        lock(&self.kinds)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn nobody(_: Option<&u32>, _: u64) {}

    #[test]
    fn a_few_lines_a_minute_and_then_the_count_of_the_others() {
        let throttle = Throttle::new(2, nobody);
        let start = Instant::now();
        let at = |ms| throttle.admit(1, start + Duration::from_millis(ms));
        assert_eq!((at(0), at(1)), (Some(0), Some(0)));
        assert_eq!((at(2), at(59_999)), (None, None));
        assert_eq!(throttle.admit(2, start), Some(0), "another kind");
        assert_eq!((at(60_000), at(60_001)), (Some(2), Some(0)));
        assert_eq!(at(60_002), None);
        assert_eq!(throttle.admit_many(1, 5, start + PERIOD), None);
        assert_eq!(at(120_000), Some(6));
    }

    #[test]
    fn kinds_beyond_the_bound_share_one_until_others_are_over() {
        let throttle = Throttle::new(1, nobody);
        let start = Instant::now();
        for at in [start, start + PERIOD] {
            let admitted = (0..1000).filter(|kind| throttle.admit(*kind, at).is_some());
            assert_eq!(admitted.count(), MAX_KINDS + 1);
            assert!(throttle.0.lock().len() <= MAX_KINDS + 1);
        }
    }

    #[tokio::test]
    async fn the_rest_is_logged_when_the_minute_is_over_though_nothing_happens() {
        static LOGGED: AtomicU64 = AtomicU64::new(0);
        let log_rest = |kind: Option<&u32>, rest| {
            assert_eq!(kind, Some(&7));
            LOGGED.fetch_add(rest, Ordering::Relaxed);
        };
        let throttle = Throttle::with_period(1, Duration::from_millis(50), log_rest);
        let start = Instant::now();
        for _ in 0..10 {
            throttle.admit(7, start);
        }
        assert_eq!(LOGGED.load(Ordering::Relaxed), 0);
        let deadline = start + Duration::from_secs(5);
        while LOGGED.load(Ordering::Relaxed) == 0 && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        assert_eq!(LOGGED.load(Ordering::Relaxed), 9);
        // The process ends in the middle of the next minute.
        let now = Instant::now();
        assert_eq!(throttle.admit(7, now), Some(0));
        assert_eq!(throttle.admit(7, now), None);
        throttle.tell_rest();
        assert_eq!(LOGGED.load(Ordering::Relaxed), 10);
        throttle.tell_rest();
        assert_eq!(LOGGED.load(Ordering::Relaxed), 10);
    }
}
