//! What becomes of a job once it has run, or cannot run here: its outcome, and what the log says of
//! it. Decides from values alone: no clock, no lock, no I/O.

use std::sync::Arc;
use std::time::Duration;

use super::dead_letter;
use super::outcome::{Delivery, Outcome, Times};
use super::retry;
use crate::config::{RetryConfig, WorkerConfig};
use crate::service::jobqueue::handler::JobError;
use crate::service::jobqueue::job::MalformedJob;
use crate::shortened::shortened_to;

/// How much of a job's type an error shows, so that there is room for what it says of the type.
const MAX_TYPE_BYTES: usize = 64;
/// What the log says of jobs that go wrong.
pub(super) const MALFORMED: &str = "malformed job; moving it to the dead letters";
const FAILED: &str = "job failed; it will be tried again";
const EXHAUSTED: &str = "job failed for the last time; moving it to the dead letters";
const UNKNOWN: &str = "job of a type that this worker does not know; it is left to others";
const UNKNOWN_FOR_GOOD: &str = "job of a type that no worker knows; moving it to the dead letters";

/// The settings that decide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    retry: RetryConfig,
    unknown_type_grace: Duration,
}

/// An outcome, and what is to be said of it.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    pub(super) trouble: Option<Trouble>,
}

/// What went wrong with a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The kind of trouble, as the log has it.
    pub(super) what: &'static str,
    pub(super) error: String,
    pub(super) again_in: Option<Duration>,
}

impl Rules {
    pub(crate) fn new(config: &WorkerConfig) -> Self {
        Self {
            retry: config.retry,
            unknown_type_grace: config.unknown_type_grace,
        }
    }

    /// A handler's result, and the times of its run. `retry` are the pauses of the job's type, if it has
    /// its own. `random` is uniform in 0..1 and spreads retries.
    pub(super) fn decide(
        &self,
        delivery: &Delivery,
        result: Result<(), JobError>,
        times: Times,
        retry: Option<RetryConfig>,
        random: f64,
    ) -> Decision {
        match result {
            Ok(()) => Decision::quiet(Outcome::Done(Some(times))),
            // It is no fault of the job's, so its delivery does not count.
            Err(JobError::Interrupted | JobError::ProcessUnfit(_)) => {
                let deliveries = delivery.deliveries.saturating_sub(1);
                Decision::quiet(Outcome::PutBack { deliveries })
            }
            Err(JobError::Malformed(error)) => malformed(delivery, error),
            Err(JobError::Failed(error)) => {
                retry_or_bury(delivery, error, retry.unwrap_or(self.retry), random)
            }
        }
    }

    /// A job of a type that this worker does not know is for others: for a program that runs other
    /// types of the same queue, or for this one once it is upgraded. So no attempt is charged, until
    /// nobody has known it for the whole of its grace.
    pub(super) fn decide_unknown(&self, delivery: &Delivery, random: f64) -> Decision {
        let (job, grace) = (&delivery.job, self.unknown_type_grace);
        let waited_ms = job.unknown_for_ms.unwrap_or(0);
        let Some(pause_ms) = retry::unknown_pause(self.retry, waited_ms, grace) else {
            let shown = shortened_to(MAX_TYPE_BYTES, &job.job_type);
            let grace = humantime::format_duration(grace);
            let error =
                format!("the job type {shown:?} was known to no worker that got it, for {grace}");
            let letter = dead_letter::unknown_type(delivery, &error);
            return Decision::troubled(Outcome::Dead(letter), UNKNOWN_FOR_GOOD, error, None);
        };
        match delivery.moved(job.attempt, waited_ms + pause_ms) {
            Ok(edits) => {
                let pause = Duration::from_millis(pause_ms);
                let pause = retry::jittered(pause, self.retry.jitter, random);
                let outcome = Outcome::LeaveToOthers { edits, pause };
                Decision::troubled(outcome, UNKNOWN, String::new(), Some(pause))
            }
            Err(json) => malformed(delivery, MalformedJob::from(json).to_string()),
        }
    }
}

impl Decision {
    fn quiet(outcome: Outcome) -> Self {
        Self {
            outcome,
            trouble: None,
        }
    }

    fn troubled(
        outcome: Outcome,
        what: &'static str,
        error: String,
        again_in: Option<Duration>,
    ) -> Self {
        let trouble = Some(Trouble {
            what,
            error,
            again_in,
        });
        Self { outcome, trouble }
    }
}

fn retry_or_bury(delivery: &Delivery, error: String, retry: RetryConfig, random: f64) -> Decision {
    let job = &delivery.job;
    if job.attempt >= job.max_retry {
        let letter = dead_letter::exhausted(delivery, &error);
        return Decision::troubled(Outcome::Dead(letter), EXHAUSTED, error, None);
    }
    let failures = job.attempt.saturating_add(1);
    match delivery.moved(failures, 0) {
        Ok(edits) => {
            let backoff = retry::backoff(retry, failures, random);
            let outcome = Outcome::Retry { edits, backoff };
            Decision::troubled(outcome, FAILED, error, Some(backoff))
        }
        Err(json) => malformed(delivery, MalformedJob::from(json).to_string()),
    }
}

/// A job that finds as many of its type running as may run at once. No attempt is charged.
///
/// One that was delivered before may be what kills workers. It is put back, since a move would begin
/// the count of its deliveries anew, and the limit of deliveries would never be reached.
pub(super) fn no_place(delivery: &Delivery, pause: Duration) -> Decision {
    let uncounted = delivery.deliveries.saturating_sub(1);
    if uncounted > 0 {
        return Decision::quiet(Outcome::PutBack {
            deliveries: uncounted,
        });
    }
    match delivery.moved(delivery.job.attempt, 0) {
        Ok(edits) => Decision::quiet(Outcome::LeaveToOthers { edits, pause }),
        Err(json) => malformed(delivery, MalformedJob::from(json).to_string()),
    }
}

/// A job that expires at `at_ms`, and may have.
pub(super) fn expire(delivery: Arc<Delivery>, at_ms: u64) -> Outcome {
    let letter = dead_letter::expired(&delivery);
    Outcome::Expire {
        delivery,
        letter,
        at_ms,
    }
}

/// A job that nobody wants any more.
pub(super) fn cancelled(delivery: &Delivery) -> Outcome {
    Outcome::Dead(dead_letter::cancelled(delivery))
}

/// A handler that the shutdown has cut off. It ran, so its delivery counts.
pub(super) fn cut_off(delivery: &Delivery) -> Outcome {
    let deliveries = delivery.deliveries;
    Outcome::PutBack { deliveries }
}

fn malformed(delivery: &Delivery, error: String) -> Decision {
    let letter = dead_letter::malformed(delivery, &error);
    Decision::troubled(Outcome::Dead(letter), MALFORMED, error, None)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::service::jobqueue::job::Job;

    const RULES: Rules = Rules {
        retry: RetryConfig {
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(600),
            jitter: 0.2,
        },
        unknown_type_grace: Duration::from_secs(3),
    };

    fn delivery(json: &str) -> Delivery {
        Delivery {
            id: "7-0".parse().unwrap(),
            job: Job::parse(json.as_bytes()).unwrap(),
            json: json.as_bytes().to_vec(),
            deliveries: 3,
            hang_limit: Duration::ZERO,
        }
    }

    fn decide(json: &str, result: Result<(), JobError>) -> Decision {
        let (began, ended) = (Instant::now(), Instant::now());
        RULES.decide(&delivery(json), result, Times { began, ended }, None, 0.5)
    }

    fn failed(json: &str) -> Decision {
        decide(json, Err(JobError::Failed("no paper".to_owned())))
    }

    /// The reason, error and attempts of a dead letter, and what the log says.
    fn buried(decision: Decision) -> (&'static str, String, u32, &'static str) {
        let Decision {
            outcome: Outcome::Dead(letter),
            trouble: Some(Trouble { what, again_in, .. }),
        } = decision
        else {
            panic!("{decision:?}");
        };
        assert_eq!(again_in, None);
        (letter.reason, letter.error, letter.attempt, what)
    }

    #[test]
    fn a_job_that_succeeds_is_done_and_nothing_is_said_of_it() {
        let decision = decide(r#"{"type":"x"}"#, Ok(()));
        assert!(matches!(decision.outcome, Outcome::Done(Some(_))));
        assert_eq!(decision.trouble, None);
    }

    #[test]
    fn a_job_that_fails_is_retried_until_its_retries_are_used_up() {
        let Decision {
            outcome: Outcome::Retry { backoff, .. },
            trouble,
        } = failed(r#"{"type":"x","max_retry":2,"attempt":1}"#)
        else {
            panic!("it has a retry left");
        };
        assert_eq!(backoff, Duration::from_secs(2), "its second failure");
        let told = Trouble {
            what: FAILED,
            error: "no paper".to_owned(),
            again_in: Some(backoff),
        };
        assert_eq!(trouble, Some(told));

        let last = failed(r#"{"type":"x","max_retry":2,"attempt":2}"#);
        let expected = ("retries used up", "no paper".to_owned(), 3, EXHAUSTED);
        assert_eq!(buried(last), expected);
        let only = failed(r#"{"type":"x","max_retry":0}"#);
        assert_eq!(buried(only).2, 1, "one attempt");
    }

    #[test]
    fn a_payload_that_makes_no_sense_is_buried_without_an_attempt() {
        let result = Err(JobError::Malformed("no message".to_owned()));
        let decision = decide(r#"{"type":"x"}"#, result);
        let expected = ("malformed", "no message".to_owned(), 0, MALFORMED);
        assert_eq!(buried(decision), expected);
    }

    #[test]
    fn only_a_job_that_was_cut_off_is_charged_for_its_delivery() {
        let json = r#"{"type":"x"}"#;
        let unfit = JobError::ProcessUnfit("no disk".to_owned());
        for error in [JobError::Interrupted, unfit] {
            let decision = decide(json, Err(error));
            assert_eq!(decision.trouble, None);
            let outcome = decision.outcome;
            assert!(matches!(outcome, Outcome::PutBack { deliveries: 2 }));
        }
        let cut_off = cut_off(&delivery(json));
        assert!(matches!(cut_off, Outcome::PutBack { deliveries: 3 }));
    }

    #[test]
    fn a_job_without_a_place_is_charged_nothing_and_keeps_the_count_of_its_deliveries() {
        let json = r#"{"type":"x","attempt":2}"#;
        let pause = Duration::from_secs(2);
        let first = Delivery {
            deliveries: 1,
            ..delivery(json)
        };
        let decision = no_place(&first, pause);
        assert_eq!(decision.trouble, None);
        let Outcome::LeaveToOthers { pause: told, .. } = decision.outcome else {
            panic!("{decision:?}");
        };
        assert_eq!(told, pause);
        let again = no_place(&delivery(json), pause).outcome;
        assert!(matches!(again, Outcome::PutBack { deliveries: 2 }));
    }

    #[test]
    fn a_job_of_an_unknown_type_is_left_to_others_until_its_grace_is_over() {
        let decide = |json| RULES.decide_unknown(&delivery(json), 0.5);
        let Decision {
            outcome: Outcome::LeaveToOthers { pause, .. },
            trouble: Some(Trouble { what, .. }),
        } = decide(r#"{"type":"x","unknown_for_ms":2500}"#)
        else {
            panic!("half a second is left");
        };
        assert_eq!((pause, what), (Duration::from_millis(500), UNKNOWN));
        let (reason, error, attempt, what) =
            buried(decide(r#"{"type":"x","attempt":1,"unknown_for_ms":3000}"#));
        assert_eq!((reason, attempt), ("unknown type", 1));
        assert_eq!(
            error,
            r#"the job type "x" was known to no worker that got it, for 3s"#
        );
        assert_eq!(what, UNKNOWN_FOR_GOOD);
    }
}
