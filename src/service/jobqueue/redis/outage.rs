//! What the log says of Redis' troubles: one line when an outage starts, one a minute while it
//! lasts, and one when it ends. There is never a line for each attempt or each connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::error::{Class, Error};

/// How often a lasting outage is mentioned again.
const REMINDER: Duration = Duration::from_secs(60);
/// So many outages that start within this time are announced. The next one is not, because a
/// Redis that comes and goes would fill the log.
const FLAPPING: Duration = Duration::from_secs(30);
const FLAPPING_STARTS: usize = 5;

/// The troubles of one process with its Redis. Takes the time as an argument.
#[derive(Debug)]
pub(super) struct OutageLog {
    /// The address of the Redis, without secrets.
    redis: String,
    /// What does not work, and why. The outage lasts until this is empty.
    troubles: BTreeMap<&'static str, Trouble>,
    current: Option<Outage>,
    recent_starts: VecDeque<Instant>,
}

#[derive(Debug)]
struct Trouble {
    reason: String,
    /// An operator has to mend it.
    operator: bool,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    mentioned: Instant,
    announced: bool,
}

impl OutageLog {
    pub(super) fn new(redis: String) -> Self {
        Self {
            redis,
            troubles: BTreeMap::new(),
            current: None,
            recent_starts: VecDeque::new(),
        }
    }

    /// `what` failed.
    pub(super) fn failed(&mut self, what: &'static str, error: &Error, now: Instant) {
        let reason = error.told_of(&self.redis);
        let operator = error.class == Class::Operator;
        // A trouble that an operator has to mend is news even during an outage that was
        // announced. For example, a Redis that comes back may ask for a password. But one reason
        // is told once, however many parts it stops.
        let mut known = self.troubles.iter();
        let news = operator
            && !known.any(|(part, trouble)| {
                trouble.operator && (*part == what || trouble.reason == reason)
            });
        let trouble = Trouble {
            reason: reason.clone(),
            operator,
        };
        self.troubles.insert(what, trouble);
        if let Some(outage) = &mut self.current {
            if news && outage.announced {
                error!(%what, %reason, "redis refuses what the queue needs");
                outage.mentioned = now;
            }
            return;
        }
        let announced = self.may_announce(now);
        if announced && operator {
            error!(
                %what,
                %reason, "redis refuses what the queue needs; trying again every 5s"
            );
        } else if announced {
            warn!(%what, %reason, "redis is unavailable; waiting for it");
        }
        self.current = Some(Outage {
            since: now,
            mentioned: now,
            announced,
        });
    }

    /// `what` works. True when that was the last trouble and its end was logged.
    pub(super) fn recovered(&mut self, what: &'static str, now: Instant) -> bool {
        if self.troubles.remove(what).is_none() || !self.troubles.is_empty() {
            return false;
        }
        let Some(outage) = self.current.take() else {
            return false;
        };
        if outage.announced {
            let lasted = humantime::format_duration(round(now - outage.since));
            info!(redis = %self.redis, %lasted, "redis is available again");
        }
        outage.announced
    }

    /// Mentions an outage that lasts, once a minute.
    pub(super) fn remind(&mut self, now: Instant) {
        let reason = self.reason();
        if let (Some(outage), Some(reason)) = (&mut self.current, reason)
            && now - outage.mentioned >= REMINDER
        {
            outage.mentioned = now;
            outage.announced = true;
            let lasted = humantime::format_duration(round(now - outage.since));
            warn!(%lasted, %reason, "redis is still unavailable");
        }
    }

    /// Why Redis cannot be used, when it cannot.
    pub(super) fn reason(&self) -> Option<String> {
        let reasons = self
            .troubles
            .values()
            .map(|trouble| trouble.reason.as_str());
        let reasons: BTreeSet<&str> = reasons.collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn may_announce(&mut self, now: Instant) -> bool {
        while self
            .recent_starts
            .front()
            .is_some_and(|start| now - *start > FLAPPING)
        {
            self.recent_starts.pop_front();
        }
        let may = self.recent_starts.len() < FLAPPING_STARTS;
        if may {
            self.recent_starts.push_back(now);
        }
        may
    }
}

/// Milliseconds are exact enough for a reader.
fn round(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> OutageLog {
        OutageLog::new("localhost:6379".to_owned())
    }

    fn away() -> Error {
        Error::new(Class::Wait, "connection refused")
    }

    #[test]
    fn an_outage_ends_with_its_last_trouble() {
        let (mut log, now) = (log(), Instant::now());
        log.failed("connection", &away(), now);
        log.failed("read", &away(), now);
        assert!(!log.recovered("connection", now));
        let reason = "cannot reach Redis at localhost:6379: connection refused";
        assert_eq!(log.reason().as_deref(), Some(reason));
        assert!(log.recovered("read", now));
        assert_eq!(log.reason(), None);
    }

    #[test]
    fn a_redis_that_comes_and_goes_is_announced_five_times_in_half_a_minute() {
        let (mut log, start) = (log(), Instant::now());
        let announced = (0..20)
            .filter(|second| {
                let now = start + Duration::from_secs(*second);
                log.failed("connection", &away(), now);
                log.recovered("connection", now)
            })
            .count();
        assert_eq!(announced, 5);
        let later = start + Duration::from_secs(60);
        log.failed("connection", &away(), later);
        assert!(log.recovered("connection", later));
    }

    #[test]
    fn a_lasting_outage_is_mentioned_once_a_minute() {
        let (mut log, start) = (log(), Instant::now());
        log.failed("connection", &away(), start);
        let mentions = (0..300)
            .filter(|second| {
                let now = start + Duration::from_secs(*second);
                log.remind(now);
                log.current
                    .as_ref()
                    .is_some_and(|outage| outage.mentioned == now)
            })
            .count();
        assert_eq!(mentions, 1 + 4);
    }
}
