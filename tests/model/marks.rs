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
