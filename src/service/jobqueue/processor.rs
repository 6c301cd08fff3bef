//! Input and output of the handlers: calls the usecase of a job with its payload, and tells the queue
//! what the result means for the job.
//!
//! The only part of the queue that knows `usecase::jobqueue` and what a job prints to.

use crate::service::line_writer::{WriteError, Written};
use crate::usecase::jobqueue::delay_print::{DelayPrintPayload, DelayPrintUsecase};

use super::constants::JOB_TYPE_DELAY_PRINT;
use super::handler::{Completion, JobError, Later};
use super::mux::Mux;

/// Registers the handler of delay-print jobs.
pub fn register(mux: &mut Mux, usecase: DelayPrintUsecase) {
    mux.handle(
        JOB_TYPE_DELAY_PRINT,
        move |payload: DelayPrintPayload, _| {
            let written = usecase.run(payload);
            std::future::ready(Ok(once_written(written)))
        },
    );
}

/// A job is done when its line has gone out, and not before.
fn once_written(written: Written) -> Completion {
    Completion::Later(Later::new(move |sender| {
        written.then(move |result| {
            sender.send(result.map_err(|error| match error {
                WriteError::Abandoned => JobError::Interrupted,
                WriteError::Output(_) => JobError::ProcessUnfit(error.to_string()),
            }));
        });
    }))
}
