//! The last refusal of a job: for a while it says that jobs cannot be appended.
//!
//! Redis may refuse a job for a reason that no question finds out beforehand. Readiness has to
//! tell such a reason, or requests would go on coming and failing.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;
use crate::service::jobqueue::redis::Error;

/// So long a refusal counts, unless a job is accepted first.
const REFUSAL_PERIOD: Duration = Duration::from_secs(60);
/// The codes of troubles that the questions to Redis find out as well. The questions also find
/// out within a second that such a trouble is over, so a refusal does not count longer.
const PROBED: [&str; 7] = [
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "LOADING",
    "NOPERM",
    "WRONGTYPE",
];

/// Why the last job was refused. Empty when a job was accepted since.
#[derive(Debug)]
pub(super) struct LastRefusal(Mutex<Option<(Instant, Error)>>);

impl LastRefusal {
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// A job was refused. Remembers the reason unless the questions to Redis find it out as
    /// well, and answers whether it did.
    pub(super) fn refused(&self, error: &Error, now: Instant) -> bool {
        let code = error.code.as_deref().unwrap_or_default();
        let remembered = !PROBED.contains(&code);
        if remembered {
            *lock(&self.0) = Some((now, error.clone()));
        }
        remembered
    }

    /// A job was accepted.
    pub(super) fn accepted(&self) {
        *lock(&self.0) = None;
    }

    /// The reason of the last refusal, if that still counts.
    pub(super) fn lately(&self, now: Instant) -> Option<Error> {
        let last = lock(&self.0);
        let (at, error) = last.as_ref()?;
        (now - *at < REFUSAL_PERIOD).then(|| error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::redis::Class;

    fn error(code: &str) -> Error {
        let mut error = Error::new(Class::Operator, code);
        error.code = Some(code.to_owned());
        error
    }

    #[test]
    fn a_refusal_counts_for_a_minute_or_until_a_job_is_accepted() {
        let (last, now) = (LastRefusal::new(), Instant::now());
        assert!(last.lately(now).is_none());
        assert!(last.refused(&error("NEWCODE"), now));
        let within = now + REFUSAL_PERIOD - Duration::from_millis(1);
        assert_eq!(
            last.lately(within).unwrap().code.as_deref(),
            Some("NEWCODE")
        );
        assert!(last.lately(now + REFUSAL_PERIOD).is_none());
        last.accepted();
        assert!(last.lately(now).is_none());
    }

    #[test]
    fn a_refusal_that_the_questions_find_out_is_not_remembered() {
        let (last, now) = (LastRefusal::new(), Instant::now());
        for code in PROBED {
            assert!(!last.refused(&error(code), now), "{code}");
        }
        assert!(last.lately(now).is_none());
    }
}
