//! Which jobs an action on many is for. Decides from values alone.

use std::time::Duration;

use super::texts;
use super::view::{JobView, State};

/// Which jobs a bulk action is for. What is not set matches all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of dead letters: why they died.
    pub reason: Option<String>,
    /// Of what type they are.
    pub job_type: Option<String>,
    /// Of dead letters: dead for longer. Of others: registered longer ago.
    pub older: Option<Duration>,
    /// The payload's JSON has this text.
    pub text: Option<String>,
}

impl Filter {
    /// Texts one of which every job has that matches, as Redis has it. Without any, Redis cannot tell.
    pub(super) fn texts(&self) -> Vec<String> {
        let wanted = [&self.text, &self.job_type, &self.reason];
        let Some(wanted) = wanted.into_iter().flatten().find(|text| !text.is_empty()) else {
            return Vec::new();
        };
        let mut ways = texts::of(wanted);
        ways.push(wanted.clone());
        ways
    }

    /// Whether it is for this job, when it is `now_ms` by Redis' clock.
    pub(super) fn matches(&self, job: &JobView, now_ms: u64) -> bool {
        let since_ms = match job.state {
            State::Dead => job.died_ms,
            State::Done => job.finished_ms,
            _ => job.registered_ms,
        };
        let is_older = |than: Duration| {
            let age = since_ms.map(|ms| Duration::from_millis(now_ms.saturating_sub(ms)));
            age.is_some_and(|age| age > than)
        };
        let has_text = |text: &String| {
            let payload = job.payload.as_ref().map_or("", |payload| payload.get());
            payload.contains(text) || texts::of(text).iter().any(|way| payload.contains(way))
        };
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        is(&self.reason, &job.reason)
            && is(&self.job_type, &job.job_type)
            && self.older.is_none_or(is_older)
            && self.text.as_ref().is_none_or(has_text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_job_matches_when_all_that_is_set_does() {
        let mut job = JobView::new(State::Dead, "a".to_owned());
        job.reason = Some("poison".to_owned());
        job.job_type = Some("x".to_owned());
        job.died_ms = Some(1000);
        job.registered_ms = Some(0);
        let payload = r#"{"to":"jos\u00e9","n": 5}"#.to_owned();
        job.payload = Some(RawValue::from_string(payload).unwrap());
        let text = |text: &str| Some(text.to_owned());
        let older = |ms| Some(Duration::from_millis(ms));
        let all = Filter {
            reason: text("poison"),
            job_type: text("x"),
            older: older(499),
            text: text("josé"),
        };
        assert!(all.matches(&job, 1500));
        assert!(Filter::default().matches(&job, 0));
        for (which, other) in [
            (
                "reason",
                Filter {
                    reason: text("poiso"),
                    ..all.clone()
                },
            ),
            (
                "type",
                Filter {
                    job_type: text("y"),
                    ..all.clone()
                },
            ),
            (
                "age",
                Filter {
                    older: older(500),
                    ..all.clone()
                },
            ),
            (
                "text",
                Filter {
                    text: text("jose"),
                    ..all.clone()
                },
            ),
        ] {
            assert!(!other.matches(&job, 1500), "{which}");
        }
        job.state = State::Scheduled;
        assert!(all.matches(&job, 500), "its registration counts");
        job.payload = None;
        assert!(!all.matches(&job, 500));
    }
}
