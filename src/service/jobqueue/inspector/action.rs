//! What can be done to a job, and the words for why it cannot.

use super::view::{JobView, State};

/// What is done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A scheduled job goes to the stream at once.
    RunNow,
    /// A scheduled or waiting job is deleted. A running one is ended by its worker, which makes a dead
    /// letter of it.
    Cancel,
    /// A dead letter becomes the job that it was, with all its attempts.
    Retry,
    /// A dead letter is deleted.
    Delete,
}

/// What an action did to one job.
#[derive(Debug, Clone)]
pub enum Acted {
    /// It was done. The job as it was before.
    Done(JobView),
    /// Its worker was told to end it. The job as it was found.
    Asked(JobView),
    /// It cannot be done to a job in this state, or another action came first.
    Refused {
        /// What the job is now.
        job: JobView,
        /// What that state stands against.
        why: String,
    },
    /// The job is in no place.
    Missing {
        /// What was looked at.
        looked: String,
    },
}

/// Why `action` cannot be done to a job in such a state.
pub(super) fn why_not(action: Action, job: &JobView) -> String {
    let wants = match action {
        Action::RunNow => "only a scheduled job can be run now",
        Action::Cancel => "only a job that has not ended can be cancelled",
        Action::Retry => "only a dead letter can run again",
        Action::Delete => "only a dead letter can be deleted",
    };
    let is = what_it_is(job);
    let instead = match (action, job.state) {
        (Action::RunNow, State::Dead) => "; retry it instead",
        (Action::Cancel, State::Dead) => "; delete it instead",
        (Action::Retry, State::Scheduled) => "; run it now instead",
        (Action::Delete, State::Waiting | State::Running | State::Scheduled) => {
            "; cancel it instead"
        }
        _ => "",
    };
    format!("{wants}, and {is}{instead}")
}

/// Why a second cancel changes nothing.
pub(super) fn is_cancelled_already(worker: &str) -> String {
    format!("it is being cancelled already, and worker {worker} has not ended it yet")
}

/// Why an action has given up.
pub(super) fn keeps_moving(job: &JobView) -> String {
    let is = what_it_is(job);
    format!("it moved each time it was about to be done, and now {is}; try again")
}

fn what_it_is(job: &JobView) -> String {
    match (job.state, &job.worker) {
        (State::Waiting, _) => "it waits for the next free worker".to_owned(),
        (State::Running, Some(worker)) => format!("it is running in worker {worker}"),
        (State::Running, None) => "it is running".to_owned(),
        (State::Scheduled, _) => "it is scheduled".to_owned(),
        (State::Dead, _) => "it is a dead letter".to_owned(),
        (State::Done, _) => "it has finished".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_wanted_and_what_the_job_is() {
        let mut job = JobView::new(State::Running, "a".to_owned());
        job.worker = Some("w1".to_owned());
        for (action, why) in [
            (
                Action::RunNow,
                "only a scheduled job can be run now, and it is running in worker w1",
            ),
            (
                Action::Delete,
                "only a dead letter can be deleted, and it is running in worker w1; cancel it instead",
            ),
        ] {
            assert_eq!(why_not(action, &job), why);
        }
        job.state = State::Dead;
        assert_eq!(
            why_not(Action::Cancel, &job),
            "only a job that has not ended can be cancelled, and it is a dead letter; delete it instead"
        );
    }
}
