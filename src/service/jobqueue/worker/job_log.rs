//! What the log says of single jobs when something is wrong with them: a few lines a minute
//! for each kind of trouble, and how many others there were.
//!
//! A million foreign entries, or a service that is down and fails every job, must neither
//! fill the log nor go unseen.

use std::time::Instant;

use tracing::warn;

use crate::shortened::shortened_to;
use crate::throttle::Throttle;

/// So many lines of each kind are written in a minute.
const LINES: u32 = 3;
/// So much of a type or an error tells kinds apart.
const MAX_KIND_BYTES: usize = 64;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct JobLog(Throttle<Kind>);

/// What a reader would call the same trouble.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    what: &'static str,
    /// Empty where it is not known, or does not matter.
    job_type: String,
    /// Without its digits: an error often has a number in it that no other has.
    error: String,
}

impl Kind {
    fn new(what: &'static str, job_type: &str, error: &str) -> Self {
        let letters = error.chars().filter(|one| !one.is_ascii_digit());
        let letters: String = letters.take(MAX_KIND_BYTES).collect();
        Self {
            what,
            job_type: shortened_to(MAX_KIND_BYTES, job_type),
            error: letters,
        }
    }
}

impl JobLog {
    /// Belongs into a runtime, which tells the rest when a minute is over.
    pub(crate) fn new() -> Self {
        Self(Throttle::new(LINES, |kind: Option<&Kind>, suppressed| {
            let Some(kind) = kind else {
                return warn!(suppressed, "more jobs with troubles of other kinds");
            };
            let Kind {
                what,
                job_type,
                error,
            } = kind;
            warn!(job_type, error, suppressed, "more of: {what}");
        }))
    }

    /// Whether a line that says `what` is to be written now, and then how many of its kind
    /// were suppressed before.
    pub(crate) fn admit(&self, what: &'static str, job_type: &str, error: &str) -> Option<u64> {
        self.admit_many(what, job_type, error, 1)
    }

    /// The same for a line that stands for `count` jobs.
    pub(crate) fn admit_many(
        &self,
        what: &'static str,
        job_type: &str,
        error: &str,
        count: u64,
    ) -> Option<u64> {
        let kind = Kind::new(what, job_type, error);
        self.0.admit_many(kind, count, Instant::now())
    }

    /// Tells what was suppressed: the process ends.
    pub(crate) fn tell_rest(&self) {
        self.0.tell_rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_a_number_are_of_one_kind() {
        let log = JobLog::new();
        let told = |error: &str| log.admit("failed", "x", error).is_some();
        let same = (0..100).filter(|n| told(&format!("order {n} is unknown")));
        assert_eq!(same.count(), LINES as usize);
        assert!(told("the line is busy"));
        assert!(log.admit("failed", "y", "order 1 is unknown").is_some());
    }
}
