//! Input and output of the handlers: which usecase runs which type of job, and what the usecase's
//! result means for the job.
//!
//! The only part of the queue that knows `usecase::jobqueue` and what a job prints to.

use std::future::ready;

use super::handler::{Completion, JobError, Later};
use super::mux::Mux;
use crate::service::delay_print_service::DelayPrintService;
use crate::service::line_writer::{LineWriter, WriteError, Written};
use crate::usecase::jobqueue::delay_print::{DelayPrintUsecase, JOB_TYPE_DELAY_PRINT};

/// Registers the handlers of all job types that the program `jobqueue` knows. They print to `out`.
pub fn register(mux: &mut Mux, out: &LineWriter) {
    let delay_print = DelayPrintUsecase::new(DelayPrintService::new(out.clone()));
    mux.handle(JOB_TYPE_DELAY_PRINT, move |payload, _| {
        ready(Ok(delay_print.run(payload)))
    });
}

impl From<Written> for Completion {
    /// A job is done when its line has gone out, and not before.
    fn from(written: Written) -> Self {
        Self::Later(Later::new(move |sender| {
            written.then(move |result| {
                sender.send(result.map_err(|error| match error {
                    WriteError::Abandoned => JobError::Interrupted,
                    WriteError::Output(_) => JobError::ProcessUnfit(error.to_string()),
                }));
            });
        }))
    }
}
