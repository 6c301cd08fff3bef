//! Decides what a delivered entry is: a job to run, or something that ends without a run.
//! [`kind`] decides that from values alone; [`Triage`] looks up the values, hands the entry on
//! and says in the log what is wrong with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use tracing::warn;

use super::dead_letter;
use super::decide::{self, MALFORMED, Rules};
use super::held::{Admission, Held};
use super::job_log::JobLog;
use super::outcome::{Delivery, Outcome};
use super::trail::{self, Step};
use crate::service::jobqueue::job::{self, Job};
use crate::service::jobqueue::redis::{Body, DeadLetter, Entry, EntryId};
use crate::shortened::shortened;

/// From this delivery on an entry is a suspect: it may be what kills workers.
const SUSPECT_DELIVERIES: u32 = 3;
/// How many entries that one reply could not carry a worker has at most. Others get the rest.
const MAX_ASIDE: usize = 64;
const POISON: &str = "a job that ends no delivery; moving it to the dead letters";

/// Sorts the entries of one worker.
#[derive(Debug)]
pub(crate) struct Triage {
    held: Arc<Held>,
    /// How long a run may take before it hangs, by the job types that are known.
    hang_limits: FxHashMap<String, Duration>,
    log: Arc<JobLog>,
    rules: Rules,
    max_deliveries: u32,
}

/// What became of entries that came together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Delivered {
    /// Some were suspects, and were put back for other workers: this one has a suspect.
    pub(crate) to_others: bool,
    /// Some run here, or end here.
    pub(crate) here: bool,
}

/// What an entry is.
#[derive(Debug)]
enum Kind {
    /// A job to run.
    Ready(Arc<Delivery>),
    /// One reply could not carry it with others. It is fetched by itself, with all the time that
    /// its bytes may take.
    Large { bytes: usize },
    /// Something that does not run here.
    NoRun(NoRun),
}

/// An entry that gets its outcome without a run.
#[derive(Debug)]
enum NoRun {
    /// A job with a delay, which may be over or not: only Redis' clock knows.
    Delayed(Arc<Delivery>),
    UnknownType(Arc<Delivery>),
    /// It has been delivered so often that it may be what kills workers, and this worker has
    /// another one like that. A process holds one suspect at a time, so that only the one that kills
    /// it reaches the limit.
    SecondSuspect,
    /// One reply could not carry it with others, and this worker has enough of those.
    OneLargeTooMany,
    /// It may have expired: only Redis' clock knows.
    Expiring {
        delivery: Arc<Delivery>,
        at_ms: u64,
    },
    /// Somebody has cancelled it.
    Cancelled(Arc<Delivery>),
    /// It has been delivered too often.
    Poison(DeadLetter),
    /// It is no job.
    Unreadable(DeadLetter),
}

/// What this worker has beside an entry.
#[derive(Debug, Clone, Copy, Default)]
struct Beside {
    /// Another suspect.
    suspect: bool,
    /// How many entries are set aside.
    aside: usize,
    /// Somebody wants it cancelled.
    cancelled: bool,
}

impl Triage {
    /// `hang_limits`: how long a run may take before it hangs, by the job types that are known.
    /// `max_deliveries`: how often an entry may be delivered without an outcome.
    pub(crate) fn new(
        held: Arc<Held>,
        hang_limits: FxHashMap<String, Duration>,
        log: Arc<JobLog>,
        rules: Rules,
        max_deliveries: u32,
    ) -> Self {
        Self {
            held,
            hang_limits,
            log,
            rules,
            max_deliveries,
        }
    }

    /// Hands entries that were read in `epoch` on: to the runners, or with their outcome to the
    /// settler. `arrival` is how they came.
    pub(crate) fn deliver(&self, arrival: Step, entries: Vec<Entry>, epoch: u64) -> Delivered {
        self.deliver_again(arrival, entries, &FxHashSet::default(), epoch)
    }

    /// The same for entries that were delivered before. Somebody may have cancelled some of them then.
    pub(crate) fn deliver_again(
        &self,
        arrival: Step,
        entries: Vec<Entry>,
        cancelled: &FxHashSet<EntryId>,
        epoch: u64,
    ) -> Delivered {
        let mut admission = Admission::default();
        let mut delivered = Delivered::default();
        for entry in entries {
            if trail::is_on() {
                trail::tell_arrival(arrival, &entry);
            }
            let (id, deliveries) = (entry.id, entry.deliveries);
            let mut beside = self.beside(&entry, &admission);
            beside.cancelled = cancelled.contains(&id);
            let hang_limit = |job_type: &str| self.hang_limits.get(job_type).copied();
            match kind(entry, self.max_deliveries, beside, hang_limit) {
                Kind::Ready(delivery) => {
                    delivered.here = true;
                    admission.ready.push(delivery);
                }
                Kind::Large { bytes } => {
                    delivered.here = true;
                    admission.aside.push((id, deliveries, bytes));
                }
                Kind::NoRun(no_run) => {
                    let to_others = matches!(no_run, NoRun::SecondSuspect);
                    delivered.to_others |= to_others;
                    delivered.here |= !to_others;
                    let outcome = self.outcome(id, deliveries, no_run);
                    admission.ended.push((id, deliveries, outcome));
                }
            }
        }
        self.held.admit(admission, epoch, Instant::now());
        delivered
    }

    /// What this worker has beside an entry that came together with others: only as far as it
    /// matters for that entry.
    fn beside(&self, entry: &Entry, others: &Admission) -> Beside {
        let mut beside = Beside::default();
        if let Body::TooLarge(_) = entry.body {
            beside.aside = self.held.asides() + others.aside.len();
        } else if entry.deliveries >= SUSPECT_DELIVERIES {
            let mut ready = others.ready.iter();
            beside.suspect = ready.any(|other| other.deliveries >= SUSPECT_DELIVERIES)
                || self.held.has_other_delivered(entry.id, SUSPECT_DELIVERIES);
        }
        beside
    }

    /// The outcome of what does not run here. The log says what is wrong with it.
    fn outcome(&self, id: EntryId, deliveries: u32, no_run: NoRun) -> Outcome {
        let uncounted = deliveries.saturating_sub(1);
        match no_run {
            NoRun::Delayed(delivery) => Outcome::Park(delivery),
            NoRun::Expiring { delivery, at_ms } => decide::expire(delivery, at_ms),
            NoRun::Cancelled(delivery) => decide::cancelled(&delivery),
            NoRun::UnknownType(delivery) => {
                let decision = self.rules.decide_unknown(&delivery, fastrand::f64());
                self.log.log_and_take(&delivery, decision)
            }
            NoRun::SecondSuspect => Outcome::PutBack {
                deliveries: uncounted,
            },
            NoRun::OneLargeTooMany => Outcome::PutOff {
                deliveries: uncounted,
            },
            NoRun::Poison(letter) => {
                if let Some(suppressed) = self.log.admit(POISON, "", "") {
                    let job_id = letter.job_id.as_deref();
                    warn!(job_id, entry_id = %id, deliveries, suppressed, "{POISON}");
                }
                Outcome::Dead(letter)
            }
            NoRun::Unreadable(letter) => {
                if let Some(suppressed) = self.log.admit(MALFORMED, "", &letter.error) {
                    let error = shortened(&letter.error);
                    warn!(entry_id = %id, error, suppressed, "{MALFORMED}");
                }
                Outcome::Dead(letter)
            }
        }
    }
}

/// What an entry is. `hang_limit` is that of a job's type, and None if the type is unknown.
fn kind(
    entry: Entry,
    max_deliveries: u32,
    beside: Beside,
    hang_limit: impl FnOnce(&str) -> Option<Duration>,
) -> Kind {
    if entry.deliveries > max_deliveries {
        return Kind::NoRun(NoRun::Poison(dead_letter::poison(&entry)));
    }
    if let Body::TooLarge(bytes) = entry.body {
        return large(&entry, bytes, beside.aside);
    }
    if entry.deliveries >= SUSPECT_DELIVERIES && beside.suspect && !beside.cancelled {
        return Kind::NoRun(NoRun::SecondSuspect);
    }
    let Body::Job(json) = entry.body else {
        return unreadable(&entry, "expected an entry with the one field `job`");
    };
    let job = match Job::parse(&json) {
        Ok(job) => job,
        Err(error) => {
            let body = Body::Job(json);
            return unreadable(&Entry { body, ..entry }, &error.to_string());
        }
    };
    let (delayed, hang_limit) = (job.delay_ms > 0, hang_limit(&job.job_type));
    let delivery = Arc::new(Delivery {
        id: entry.id,
        job,
        json,
        deliveries: entry.deliveries,
        hang_limit: hang_limit.unwrap_or_default(),
    });
    let expires_at = delivery.expires_at();
    if beside.cancelled {
        Kind::NoRun(NoRun::Cancelled(delivery))
    } else if delayed {
        Kind::NoRun(NoRun::Delayed(delivery))
    } else if let Some(at_ms) = expires_at {
        Kind::NoRun(NoRun::Expiring { delivery, at_ms })
    } else if hang_limit.is_some() {
        Kind::Ready(delivery)
    } else {
        // Without a slot: any number of them must not keep others waiting.
        Kind::NoRun(NoRun::UnknownType(delivery))
    }
}

/// An entry that one reply could not carry with others. One that is larger than any job is none.
fn large(entry: &Entry, bytes: usize, aside: usize) -> Kind {
    let limit = job::MAX_ENTRY_BYTES;
    if bytes > limit {
        let error = format!("the entry has {bytes} bytes, expected at most {limit}");
        unreadable(entry, &error)
    } else if aside >= MAX_ASIDE {
        Kind::NoRun(NoRun::OneLargeTooMany)
    } else {
        Kind::Large { bytes }
    }
}

fn unreadable(entry: &Entry, error: &str) -> Kind {
    Kind::NoRun(NoRun::Unreadable(dead_letter::unreadable(entry, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_DELIVERIES: u32 = 5;
    const HANG_LIMIT: Duration = Duration::from_secs(7);
    const ALONE: Beside = Beside {
        suspect: false,
        aside: 0,
        cancelled: false,
    };

    fn entry(body: Body, deliveries: u32) -> Entry {
        Entry {
            id: "5-1".parse().unwrap(),
            body,
            bytes: 7,
            deliveries,
        }
    }

    fn job(json: &str) -> Body {
        Body::Job(json.as_bytes().to_vec())
    }

    fn known() -> Body {
        job(r#"{"type":"known"}"#)
    }

    fn kind_of(body: Body, deliveries: u32, beside: Beside) -> Kind {
        let entry = entry(body, deliveries);
        kind(entry, MAX_DELIVERIES, beside, |job_type| {
            (job_type == "known").then_some(HANG_LIMIT)
        })
    }

    /// The reason and the error of a dead letter.
    fn letter(kind: Kind) -> (&'static str, String) {
        match kind {
            Kind::NoRun(NoRun::Poison(letter) | NoRun::Unreadable(letter)) => {
                (letter.reason, letter.error)
            }
            kind => panic!("{kind:?}"),
        }
    }

    #[test]
    fn a_job_runs_when_its_type_is_known_and_it_has_no_delay() {
        let kind = |json| kind_of(job(json), 1, ALONE);
        let Kind::Ready(delivery) = kind(r#"{"type":"known","attempt":2}"#) else {
            panic!("it is a job to run");
        };
        assert_eq!((delivery.job.attempt, delivery.deliveries), (2, 1));
        assert_eq!(delivery.hang_limit, HANG_LIMIT);
        let unknown = kind(r#"{"type":"other"}"#);
        assert!(matches!(unknown, Kind::NoRun(NoRun::UnknownType(_))));
        for delayed in [
            r#"{"type":"known","delay_ms":1}"#,
            r#"{"type":"other","delay_ms":1}"#,
        ] {
            let delayed = kind(delayed);
            assert!(matches!(delayed, Kind::NoRun(NoRun::Delayed(_))));
        }
    }

    #[test]
    fn only_a_job_that_was_never_started_may_have_expired() {
        let kind = |json, deliveries| kind_of(job(json), deliveries, ALONE);
        let Kind::NoRun(NoRun::Expiring { at_ms, .. }) =
            kind(r#"{"type":"known","expires_in_ms":60}"#, 1)
        else {
            panic!("it may have expired");
        };
        assert_eq!(at_ms, 65, "its entry is of 5");
        let moved = kind(
            r#"{"type":"known","expires_in_ms":60,"expires_at_ms":9}"#,
            1,
        );
        assert!(matches!(
            moved,
            Kind::NoRun(NoRun::Expiring { at_ms: 9, .. })
        ));
        let later = kind(r#"{"type":"known","expires_at_ms":9,"delay_ms":1}"#, 1);
        assert!(matches!(later, Kind::NoRun(NoRun::Delayed(_))));
        for (json, deliveries) in [
            (r#"{"type":"known","expires_in_ms":60}"#, 2),
            (r#"{"type":"known","expires_at_ms":9,"attempt":1}"#, 1),
            (r#"{"type":"known","expires_in_ms":0}"#, 1),
            (r#"{"type":"known","expires_in_ms":null}"#, 1),
        ] {
            assert!(matches!(kind(json, deliveries), Kind::Ready(_)), "{json}");
        }
    }

    #[test]
    fn what_somebody_has_cancelled_does_not_run() {
        let cancelled = Beside {
            cancelled: true,
            ..ALONE
        };
        let also_second_suspect = Beside {
            suspect: true,
            ..cancelled
        };
        for json in [
            r#"{"type":"known"}"#,
            r#"{"type":"known","delay_ms":1,"expires_in_ms":1}"#,
            r#"{"type":"other"}"#,
        ] {
            let suspect = kind_of(job(json), SUSPECT_DELIVERIES, also_second_suspect);
            assert!(
                matches!(suspect, Kind::NoRun(NoRun::Cancelled(_))),
                "{json}"
            );
            let kind = kind_of(job(json), 2, cancelled);
            assert!(matches!(kind, Kind::NoRun(NoRun::Cancelled(_))), "{json}");
        }
    }

    #[test]
    fn what_is_no_job_is_unreadable() {
        let (reason, error) = letter(kind_of(Body::Foreign, 1, ALONE));
        assert_eq!(reason, "malformed");
        assert_eq!(error, "expected an entry with the one field `job`");
        let (reason, _) = letter(kind_of(job("{}"), 1, ALONE));
        assert_eq!(reason, "malformed");
    }

    #[test]
    fn beyond_the_limit_of_deliveries_anything_is_poison() {
        let limit = MAX_DELIVERIES;
        for body in [known, || Body::Foreign, || Body::TooLarge(9)] {
            let (reason, error) = letter(kind_of(body(), limit + 1, ALONE));
            assert_eq!(reason, "poison");
            assert!(error.starts_with("5 deliveries ended without"), "{error}");
        }
        assert!(matches!(kind_of(known(), limit, ALONE), Kind::Ready(_)));
    }

    #[test]
    fn of_suspects_a_worker_has_one_at_a_time() {
        let another = Beside {
            suspect: true,
            ..ALONE
        };
        let second = |body, deliveries| {
            let kind = kind_of(body, deliveries, another);
            matches!(kind, Kind::NoRun(NoRun::SecondSuspect))
        };
        assert!(second(known(), SUSPECT_DELIVERIES));
        assert!(second(Body::Foreign, SUSPECT_DELIVERIES));
        assert!(!second(known(), SUSPECT_DELIVERIES - 1));
        let alone = kind_of(known(), SUSPECT_DELIVERIES, ALONE);
        assert!(matches!(alone, Kind::Ready(_)));
    }

    #[test]
    fn a_bounded_number_of_large_entries_is_fetched_by_itself() {
        let kind = |bytes, aside| {
            let beside = Beside {
                suspect: true,
                aside,
                ..ALONE
            };
            kind_of(Body::TooLarge(bytes), 3, beside)
        };
        let limit = job::MAX_ENTRY_BYTES;
        let fits = kind(limit, MAX_ASIDE - 1);
        assert!(matches!(fits, Kind::Large { bytes } if bytes == limit));
        let one_more = kind(limit, MAX_ASIDE);
        assert!(matches!(one_more, Kind::NoRun(NoRun::OneLargeTooMany)));
        let (reason, _) = letter(kind(limit + 1, 0));
        assert_eq!(reason, "malformed");
    }
}
