//! Keeps what happens again and again from writing a log line each time.
//!
//! Of each kind of event the first lines of a minute are told. When the minute is over, one
//! more line says how many others there were, also when nothing more has happened since.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// How long the lines of a kind are counted together.
const PERIOD: Duration = Duration::from_secs(60);
/// So many kinds are told apart. Those beyond share one, so that neither the log nor the
/// memory grows with what strangers send.
const MAX_KINDS: usize = 32;

/// Lets a few log lines of each kind through in a minute. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Throttle<K>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    lines: u32,
    period: Duration,
    /// Logs how many lines of a kind, or of the kinds beyond the bound, were suppressed.
    tell_rest: fn(Option<&K>, u64),
    /// Where the end of a minute is waited for. Without a runtime the next line of the kind
    /// says what was suppressed.
    runtime: Option<Handle>,
    kinds: Mutex<HashMap<Option<K>, Minute>>,
}

/// The present minute of one kind.
#[derive(Debug)]
struct Minute {
    since: Instant,
    told: u32,
    suppressed: u64,
}

impl<K> Drop for Inner<K> {
    /// The program ends, and nobody else will tell.
    fn drop(&mut self) {
        let kinds = self.kinds.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (kind, minute) in kinds.drain().filter(|(_, one)| one.suppressed > 0) {
            (self.tell_rest)(kind.as_ref(), minute.suppressed);
        }
    }
}

impl<K> Clone for Throttle<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Throttle<K> {
    /// Lets `lines` of each kind through in a minute. `tell_rest` logs the last one, from a
    /// task of the runtime that this is called in.
    pub(crate) fn new(lines: u32, tell_rest: fn(Option<&K>, u64)) -> Self {
        Self::with_period(lines, PERIOD, tell_rest)
    }

    fn with_period(lines: u32, period: Duration, tell_rest: fn(Option<&K>, u64)) -> Self {
        Self(Arc::new(Inner {
            lines,
            period,
            tell_rest,
            runtime: Handle::try_current().ok(),
            kinds: Mutex::new(HashMap::new()),
        }))
    }

    /// Whether a line of this kind is to be written at `now`, and then how many were
    /// suppressed since the last one.
    pub(crate) fn admit(&self, kind: K, now: Instant) -> Option<u64> {
        self.admit_many(kind, 1, now)
    }

    /// The same for a line that stands for `count` events.
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
            told: 0,
            suppressed: 0,
        });
        if self.0.is_over(minute, now) {
            (minute.since, minute.told) = (now, 0);
        }
        if minute.told < self.0.lines {
            minute.told += 1;
            return Some(std::mem::take(&mut minute.suppressed));
        }
        let first = minute.suppressed == 0;
        minute.suppressed += count;
        if first {
            self.tell_rest_later(kind, minute.since + self.0.period);
        }
        None
    }

    /// Tells what was suppressed in the present minutes: nobody will when the process ends.
    pub(crate) fn tell_rest(&self) {
        let kinds = std::mem::take(&mut *self.0.lock());
        for (kind, minute) in kinds.into_iter().filter(|(_, one)| one.suppressed > 0) {
            (self.0.tell_rest)(kind.as_ref(), minute.suppressed);
        }
    }

    fn tell_rest_later(&self, kind: Option<K>, at: Instant) {
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
            // A line that came first has begun another minute, and has told it.
            let minute = kinds.get_mut(&kind).filter(over);
            let rest = minute.map_or(0, |minute| std::mem::take(&mut minute.suppressed));
            drop(kinds);
            if rest > 0 {
                (inner.tell_rest)(kind.as_ref(), rest);
            }
        });
    }
}

impl<K> Inner<K> {
    fn is_over(&self, minute: &Minute, now: Instant) -> bool {
        now >= minute.since + self.period
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<K>, Minute>> {
        // No code panics while it holds the lock.
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
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
            let told = (0..1000).filter(|kind| throttle.admit(*kind, at).is_some());
            assert_eq!(told.count(), MAX_KINDS + 1);
            assert!(throttle.0.lock().len() <= MAX_KINDS + 1);
        }
    }

    #[tokio::test]
    async fn the_rest_is_told_when_the_minute_is_over_though_nothing_comes() {
        static TOLD: AtomicU64 = AtomicU64::new(0);
        let tell_rest = |kind: Option<&u32>, rest| {
            assert_eq!(kind, Some(&7));
            TOLD.fetch_add(rest, Ordering::Relaxed);
        };
        let throttle = Throttle::with_period(1, Duration::from_millis(50), tell_rest);
        let start = Instant::now();
        for _ in 0..10 {
            throttle.admit(7, start);
        }
        assert_eq!(TOLD.load(Ordering::Relaxed), 0);
        let deadline = start + Duration::from_secs(5);
        while TOLD.load(Ordering::Relaxed) == 0 && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        assert_eq!(TOLD.load(Ordering::Relaxed), 9);
        // The next minute: at the process' end nobody waits for its end.
        let now = Instant::now();
        assert_eq!(throttle.admit(7, now), Some(0));
        assert_eq!(throttle.admit(7, now), None);
        throttle.tell_rest();
        assert_eq!(TOLD.load(Ordering::Relaxed), 10);
        throttle.tell_rest();
        assert_eq!(TOLD.load(Ordering::Relaxed), 10);
    }
}
