//! Why a job will not run again: what its dead letter says. Redis itself copies the fields of the
//! entry into it.

use super::outcome::Delivery;
use crate::service::jobqueue::job::Job;
use crate::service::jobqueue::redis::{Body, DeadLetter, Entry, RETRIES_USED_UP};
use crate::shortened::shortened;

/// An error's text is cut at this many bytes: it is for people to read, and no archive.
const MAX_ERROR_BYTES: usize = 1024;

/// A job whose retries are used up.
pub(crate) fn exhausted(delivery: &Delivery, error: &str) -> DeadLetter {
    let attempts = delivery.job.attempt.saturating_add(1);
    of_job(delivery, RETRIES_USED_UP, error, attempts)
}

/// A job whose type no worker knew for as long as that is allowed. No attempt was made.
pub(crate) fn unknown_type(delivery: &Delivery, error: &str) -> DeadLetter {
    of_job(delivery, "unknown type", error, delivery.job.attempt)
}

/// A job that its handler cannot make sense of.
pub(crate) fn malformed(delivery: &Delivery, error: &str) -> DeadLetter {
    of_job(delivery, "malformed", error, delivery.job.attempt)
}

/// A job that nobody wants any more.
pub(crate) fn cancelled(delivery: &Delivery) -> DeadLetter {
    let attempt = delivery.job.attempt;
    of_job(delivery, "cancelled", "somebody cancelled it", attempt)
}

/// A job that no worker has started in time.
pub(crate) fn expired(delivery: &Delivery) -> DeadLetter {
    let error = "no worker started it before it expired";
    of_job(delivery, "expired", error, delivery.job.attempt)
}

/// An entry that was delivered again and again without an outcome.
pub(crate) fn poison(entry: &Entry) -> DeadLetter {
    let deliveries = entry.deliveries.saturating_sub(1);
    let mut error = format!("{deliveries} deliveries ended without an outcome");
    let mut job = None;
    match &entry.body {
        Body::Job(json) => job = Job::parse(json).ok(),
        Body::Foreign => {}
        Body::TooLarge(bytes) => {
            error.push_str(&format!(": none of its {bytes} bytes got through"));
        }
    }
    let attempt = job.as_ref().map_or(0, |job| job.attempt);
    DeadLetter {
        deliveries,
        job_id: job.and_then(|job| job.id).as_deref().map(shortened),
        ..of_entry(entry, "poison", &error, attempt)
    }
}

/// An entry that is not a job, and so was never attempted.
pub(crate) fn unreadable(entry: &Entry, error: &str) -> DeadLetter {
    of_entry(entry, "malformed", error, 0)
}

fn of_job(delivery: &Delivery, reason: &'static str, error: &str, attempt: u32) -> DeadLetter {
    DeadLetter {
        reason,
        error: cut(error),
        attempt,
        deliveries: delivery.deliveries,
        job_id: delivery.job.id.as_deref().map(shortened),
        bytes: delivery.json.len(),
    }
}

fn of_entry(entry: &Entry, reason: &'static str, error: &str, attempt: u32) -> DeadLetter {
    DeadLetter {
        reason,
        error: cut(error),
        attempt,
        deliveries: entry.deliveries,
        job_id: None,
        bytes: entry.bytes,
    }
}

fn cut(error: &str) -> String {
    error[..error.floor_char_boundary(MAX_ERROR_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign() -> Entry {
        Entry {
            id: "5-1".parse().unwrap(),
            body: Body::Foreign,
            bytes: 7,
            deliveries: 1,
        }
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let letter = unreadable(&foreign(), &"é".repeat(1000));
        assert_eq!(letter.error.len(), MAX_ERROR_BYTES);
    }

    #[test]
    fn the_delivery_that_finds_out_does_not_count() {
        let mut entry = foreign();
        entry.deliveries = 6;
        let letter = poison(&entry);
        assert_eq!(letter.deliveries, 5);
        assert_eq!(letter.error, "5 deliveries ended without an outcome");
    }
}
