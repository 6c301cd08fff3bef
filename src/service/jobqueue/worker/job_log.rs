//! What the log says of single jobs when something is wrong with them: a few lines a minute for
//! each kind of trouble, and how many others there were.
//!
//! A million foreign entries, or a service that is down and fails every job, must neither
//! fill the log nor go unseen.

use std::time::Instant;

use tracing::warn;

use super::decide::{Decision, Trouble};
use super::outcome::{Delivery, Outcome};
use super::trail::{self, Step};
use crate::shortened::{shortened, shortened_to};
use crate::throttle::Throttle;

/// So many lines of each kind are written in a minute.
const LINES: u32 = 3;
/// So much of a type or an error tells kinds apart.
const MAX_KIND_BYTES: usize = 64;

/// The lines of one worker.
#[derive(Debug)]
pub(crate) struct JobLog(Throttle<Kind>);

/// What a reader would call the same trouble.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    what: &'static str,
    /// Empty where it is not known, or does not matter.
    job_type: String,
    /// Without its digits, because many errors differ only in a number.
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
    /// A new log. It needs a runtime, which writes the counts when a minute is over.
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

    /// How many lines of this kind were suppressed before, if a line that says `what` is to be
    /// written now. None if it is to be suppressed.
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

    /// Says what was decided about a job, and answers its outcome. A job that goes wrong is seen
    /// from its first attempt on.
    pub(super) fn log_and_take(&self, delivery: &Delivery, decision: Decision) -> Outcome {
        let Decision { outcome, trouble } = decision;
        if let Some(trouble) = trouble {
            self.tell_trouble(delivery, &trouble);
        }
        if trail::is_on() {
            match outcome {
                Outcome::Done(_) => delivery.tell(Step::Finished),
                Outcome::LeaveToOthers { .. } => delivery.tell(Step::LeftToOthers),
                // Another worker may have the job by now: told when Redis confirms it.
                _ => {}
            }
        }
        outcome
    }

    fn tell_trouble(&self, delivery: &Delivery, trouble: &Trouble) {
        let Trouble {
            what,
            error,
            again_in,
        } = trouble;
        let job = &delivery.job;
        if let Some(suppressed) = self.admit(what, &job.job_type, error) {
            let delivery = delivery.shown();
            warn!(
                job_id = delivery.job_id,
                entry_id = %delivery.entry_id,
                job_type = delivery.job_type,
                attempt = delivery.attempt,
                error = shortened(error),
                max_retry = job.max_retry,
                again_in = again_in.map(tracing::field::debug),
                suppressed,
                "{what}"
            );
        }
    }

    /// Writes the counts of what was suppressed, when the process ends.
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
