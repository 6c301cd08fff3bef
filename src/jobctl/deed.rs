//! The words for what is done to jobs, and whether it is a question first.
//!
//! A question is asked where jobs are lost or started that nobody has named one by one, and where a
//! dead letter is deleted. A job that is cancelled by its id is what its owner asked for, and a retry
//! can be cancelled again.

use crate::service::jobqueue::inspector::{Action, State};

/// What is done to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deed(pub(super) Action);

impl Deed {
    pub(super) fn action(self) -> Action {
        self.0
    }

    /// Whether it is a question although the jobs are named by their ids.
    pub(super) fn asks_for_each(self) -> bool {
        self.0 == Action::Delete
    }

    /// Whether it is a question when it is done to all that match.
    pub(super) fn asks_for_all(self) -> bool {
        self.0 != Action::Retry
    }

    /// `delete` in "delete 3 dead letters?".
    pub(super) fn verb(self) -> &'static str {
        match self.0 {
            Action::RunNow => "run",
            Action::Cancel => "cancel",
            Action::Retry => "run again",
            Action::Delete => "delete",
        }
    }

    /// `deleted` in "3 dead letters deleted".
    pub(super) fn done(self) -> &'static str {
        match self.0 {
            Action::RunNow => "sent to run now",
            Action::Cancel => "cancelled",
            Action::Retry => "sent to run again",
            Action::Delete => "deleted",
        }
    }

    /// The same, for jobs in a state.
    pub(super) fn done_to(self, state: State) -> &'static str {
        match (self.0, state) {
            (Action::Cancel, State::Running) => "to be ended by their workers",
            _ => self.done(),
        }
    }

    /// The word in the document of `--json`.
    pub(super) fn name(self) -> &'static str {
        match self.0 {
            Action::RunNow => "run",
            Action::Cancel => "cancel",
            Action::Retry => "retry",
            Action::Delete => "delete",
        }
    }
}
