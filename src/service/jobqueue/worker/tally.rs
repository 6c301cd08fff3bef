//! Counts what becomes of jobs, and picks the finished ones that are kept for people to look at.
//!
//! Counts gather here and go out about once a second, beside outcomes. Of finished jobs a bounded number
//! a second is kept. At a higher rate one stands for all that were passed over since the one before.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::outcome::Outcome;
use crate::lock::lock;

/// How long counts gather.
const INTERVAL: Duration = Duration::from_secs(1);

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A job ran to its end.
    Completed,
    /// An attempt failed.
    Failed,
    /// A failed job was scheduled for another attempt.
    Retried,
    /// A job became a dead letter, for this reason.
    Dead(&'static str),
    /// A job was taken over from a worker that is gone.
    Reclaimed,
    /// A job was given back without a result.
    PutBack,
}

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Counts(Vec<(Event, u64)>);

/// The counts of one worker that Redis does not have yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    gathered: Mutex<Gathered>,
    /// Wakes the settler: there are counts, and there were none.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Gathered {
    counts: Counts,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Event {
    /// As the totals name it.
    fn name(self) -> String {
        match self {
            Self::Completed => "completed".to_owned(),
            Self::Failed => "failed".to_owned(),
            Self::Retried => "retried".to_owned(),
            Self::Dead(reason) => format!("dead.{reason}"),
            Self::Reclaimed => "reclaimed".to_owned(),
            Self::PutBack => "put_back".to_owned(),
        }
    }
}

impl Counts {
    pub(crate) fn add(&mut self, event: Event, number: u64) {
        match self.0.iter_mut().find(|(other, _)| *other == event) {
            Some((_, count)) => *count += number,
            None if number > 0 => self.0.push((event, number)),
            None => {}
        }
    }
}

impl Tally {
    pub(crate) fn add(&self, counts: Counts) {
        let mut inner = lock(&self.gathered);
        for (event, number) in counts.0 {
            inner.counts.add(event, number);
        }
        if inner.since.is_none() && !inner.counts.0.is_empty() {
            inner.since = Some(Instant::now());
            self.begun.notify_one();
        }
    }

    pub(crate) fn count(&self, event: Event, number: u64) {
        let mut counts = Counts::default();
        counts.add(event, number);
        self.add(counts);
    }

    /// Waits until there may be counts, when there were none. Cancel safe.
    pub(crate) async fn wait(&self) {
        self.begun.notified().await;
    }

    /// When the counts are to go out. None while there are none.
    pub(crate) fn due(&self) -> Option<Instant> {
        let since = lock(&self.gathered).since;
        since.map(|since| since + INTERVAL)
    }

    /// Takes all counts.
    pub(crate) fn take(&self) -> Vec<(String, u64)> {
        let mut inner = lock(&self.gathered);
        inner.since = None;
        let counts = std::mem::take(&mut inner.counts.0).into_iter();
        counts.map(|(event, count)| (event.name(), count)).collect()
    }
}

/// What an outcome that Redis has applied counts as.
pub(crate) fn events_of(outcome: &Outcome) -> impl Iterator<Item = Event> {
    let events = match outcome {
        Outcome::Done(_) => [Some(Event::Completed), None],
        Outcome::Retry { .. } => [Some(Event::Failed), Some(Event::Retried)],
        Outcome::Dead(letter) | Outcome::Expire { letter, .. } => {
            let failed = letter.is_failure().then_some(Event::Failed);
            [Some(Event::Dead(letter.reason)), failed]
        }
        Outcome::PutBack { .. } | Outcome::PutOff { .. } => [Some(Event::PutBack), None],
        Outcome::Park(_) | Outcome::LeaveToOthers { .. } => [None, None],
    };
    events.into_iter().flatten()
}

/// Says which finished jobs are kept.
#[derive(Debug)]
pub(crate) struct Sampler {
    per_second: f64,
    /// How many may be kept now.
    tokens: f64,
    at: Instant,
    passed_over: u64,
}

impl Sampler {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second: per_second.into(),
            tokens: per_second.into(),
            at: now,
            passed_over: 0,
        }
    }

    /// A job has finished. Answers for how many it stands, if it is to be kept. After a pause it does not
    /// stand for those before the pause.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.at);
        if passed > INTERVAL {
            self.passed_over = 0;
        }
        let gained = passed.as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.per_second);
        self.at = now;
        self.passed_over += 1;
        if self.tokens < 1.0 {
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.passed_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_gather_until_they_are_taken() {
        let (tally, began) = (Tally::default(), Instant::now());
        assert_eq!(tally.due(), None);
        tally.count(Event::Completed, 0);
        assert_eq!(tally.due(), None, "nothing happened");
        tally.count(Event::Completed, 2);
        tally.count(Event::Dead("poison"), 1);
        tally.count(Event::Completed, 3);
        let due = tally.due().unwrap();
        assert!((began..Instant::now()).contains(&(due - INTERVAL)));
        let taken = tally.take();
        let named = |name: &str, count| (name.to_owned(), count);
        assert_eq!(taken, [named("completed", 5), named("dead.poison", 1)]);
        assert_eq!((tally.due(), tally.take()), (None, Vec::new()));
    }

    #[test]
    fn at_a_high_rate_a_job_stands_for_those_that_were_passed_over() {
        let now = Instant::now();
        let mut sampler = Sampler::new(10, now);
        let first: Vec<_> = (0..10).filter_map(|_| sampler.admit(now)).collect();
        assert_eq!(first, [1; 10]);
        let ms = |ms| now + Duration::from_millis(ms);
        let in_a_second = (1..=1000).filter_map(|n| sampler.admit(ms(n)));
        let kept: Vec<u64> = in_a_second.collect();
        assert_eq!(kept.len(), 10);
        assert!(
            kept.iter().all(|count| (95..=105).contains(count)),
            "{kept:?}"
        );
        assert!(kept.iter().sum::<u64>() <= 1000, "none is counted twice");
        assert_eq!(sampler.admit(ms(60_000)), Some(1), "a minute later");
        let burst = (0..100).filter_map(|_| sampler.admit(ms(60_000))).count();
        assert_eq!(burst, 9, "a second's worth at most");
    }
}
