//! What the model remembers only for its properties. No process can see it.

use super::state::{Entry, Job, State};

/// The marks of one state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Marks {
    pub(crate) runs: Vec<Runs>,
    /// The jobs whose line was printed.
    pub(crate) printed: Vec<Job>,
    /// A handler was started again, and no fault explains it.
    pub(crate) unexplained_run: bool,
    /// A process admitted an entry again whose outcome Redis had confirmed to it.
    pub(crate) rerun: bool,
    /// A worker took an entry whose lease had not ended.
    pub(crate) stolen_lease: bool,
    /// A job was buried as poison after too few faults.
    pub(crate) undeserved_burial: bool,
    /// An outcome other than success took effect, and its sender did not own the entry.
    pub(crate) usurped: bool,
    /// The cancels of running jobs that Redis has accepted.
    pub(crate) accepted: Vec<Accepted>,
    /// The entries that operators have made from dead letters.
    pub(crate) retried: Vec<Entry>,
    /// All dead letters that operators have seen. Only a bug acts on one that is no longer there, so
    /// they are noted only for that bug.
    pub(crate) letters: Vec<Entry>,
    /// An attempt began, or went on, although its process should have known of the cancel.
    pub(crate) lost_cancel: bool,
    /// An operator deleted an entry that its owner had in hand, and no fault explains it.
    pub(crate) cut_short: bool,
    /// A retried dead letter died before it had all attempts of a new job.
    pub(crate) short_retry: bool,
}

/// The cancel of a running job that Redis has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Accepted {
    pub(crate) entry: Entry,
    /// Redis has forgotten the delivery since then. So a read may deliver the entry as a new one.
    pub(crate) forgotten: bool,
}

/// The runs of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Runs {
    pub(crate) entry: Entry,
    pub(crate) started: bool,
    /// How many times a fault made the owner lose the entry. Each explains one more start.
    pub(crate) credit: u8,
}

impl State {
    /// Whether Redis has accepted the cancel of this entry.
    pub(crate) fn is_cancel_accepted(&self, entry: Entry) -> bool {
        self.marks.accepted.iter().any(|a| a.entry == entry)
    }

    pub(crate) fn forget_delivery_of_cancelled(&mut self, entry: Entry) {
        for accepted in &mut self.marks.accepted {
            accepted.forgotten |= accepted.entry == entry;
        }
    }

    pub(crate) fn runs_mut(&mut self, entry: Entry) -> &mut Runs {
        let at = match self.marks.runs.iter().position(|r| r.entry == entry) {
            Some(at) => at,
            None => {
                let started = false;
                self.marks.runs.push(Runs {
                    entry,
                    started,
                    credit: 0,
                });
                self.marks.runs.len() - 1
            }
        };
        &mut self.marks.runs[at]
    }
}
