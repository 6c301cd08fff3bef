//! Which jobs an action is for: some ids, or what the jobs have in common. What is malformed is refused
//! here.

use std::time::Duration;

use clap::{ArgGroup, Args};

use crate::duration;
use crate::service::jobqueue::inspector::Filter;

/// An id is at most so long. The API's have 36 bytes, but other programs may name a job as they like.
const MAX_ID_BYTES: usize = 200;
/// A job that is older than this does not exist.
const MAX_AGE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The heading of what selects jobs without their ids.
pub(super) const FILTERS: &str = "Instead of ids, all jobs that match";

/// The jobs of an action: some ids, or what they have in common.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Which {
    /// Ids of jobs, as the API answered them, or of their entries in Redis
    #[arg(value_name = "ID", value_parser = id, group = JOBS, conflicts_with_all = ["all", "job_type", "older", "text"])]
    pub(super) ids: Vec<String>,
    /// All of them
    #[arg(long, group = JOBS, help_heading = FILTERS, conflicts_with_all = ["job_type", "older", "text"])]
    pub(super) all: bool,
    /// Only jobs of this type
    #[arg(long = "type", value_name = "TYPE", group = JOBS, help_heading = FILTERS, value_parser = not_empty)]
    pub(super) job_type: Option<String>,
    /// Only jobs registered, or dead, longer ago than 7d, 1week or 2h
    #[arg(long, value_name = "AGE", group = JOBS, help_heading = FILTERS, value_parser = age)]
    pub(super) older: Option<Duration>,
    /// Only jobs with this text in their payload
    #[arg(long, value_name = "TEXT", group = JOBS, help_heading = FILTERS, value_parser = not_empty)]
    pub(super) text: Option<String>,
}

/// The dead letters of an action.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct WhichDead {
    #[command(flatten)]
    pub(super) which: Which,
    /// Only dead letters of this reason, such as `retries used up`
    #[arg(long, value_name = "REASON", group = JOBS, help_heading = FILTERS, value_parser = not_empty, conflicts_with_all = ["ids", "all"])]
    pub(super) reason: Option<String>,
}

/// The group of all that selects jobs.
const JOBS: &str = "jobs";

/// Something must select jobs.
pub(super) fn one_of_them() -> ArgGroup {
    ArgGroup::new(JOBS).required(true).multiple(true)
}

impl Which {
    /// What matches instead of ids.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            reason: None,
            job_type: self.job_type.clone(),
            older: self.older,
            text: self.text.clone(),
        }
    }
}

impl WhichDead {
    /// What matches instead of ids.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            reason: self.reason.clone(),
            ..self.which.filter()
        }
    }
}

/// Reads an id. What it means is for Redis to say.
pub(super) fn id(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an id is not empty".to_owned());
    }
    if text.len() > MAX_ID_BYTES {
        return Err(format!("an id has at most {MAX_ID_BYTES} bytes"));
    }
    match text.chars().any(char::is_control) {
        true => Err("an id has no control characters".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Reads what jobs must have. An empty text is a variable of a script that was not set, and would match
/// all.
pub(super) fn not_empty(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("expected a text that is not empty; --all means all".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn age(text: &str) -> Result<Duration, String> {
    let expected = "expected an age such as 7d, 1week or 2h";
    duration::parse(text, MAX_AGE).map_err(|_| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_text_of_a_bounded_length() {
        let long = "x".repeat(MAX_ID_BYTES);
        for text in ["1-0", "日本語", &long] {
            assert_eq!(id(text).as_deref(), Ok(text));
        }
        for text in ["", "a\nb", "\u{1b}[2J", "a\u{9b}", &format!("{long}x")] {
            assert!(id(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_age_is_a_duration_for_people() {
        for (text, days) in [("7d", 7), ("1week", 7), ("48h", 2)] {
            assert_eq!(age(text), Ok(Duration::from_secs(days * 24 * 3600)));
        }
        for text in ["", "7", "d", "-1d", "200years", "999999999999999999999s"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
