//! Input and output of the handlers: decodes a job's payload, calls its usecase, and tells the queue
//! what the result means for the job.
//!
//! The only part of the queue that knows `usecase::jobqueue` and what a job prints to.

use serde::de::DeserializeOwned;

use crate::service::line_writer::{WriteError, Written};
use crate::usecase::jobqueue::delay_print::{DelayPrintPayload, DelayPrintUsecase};

use super::constants::JOB_TYPE_DELAY_PRINT;
use super::mux::{Completion, JobError, Later, Mux, Task};

/// Registers the handler of delay-print jobs.
pub fn register(mux: &mut Mux, usecase: DelayPrintUsecase) {
    mux.handle(JOB_TYPE_DELAY_PRINT, move |task| {
        let handled = delay_print(&usecase, &task);
        std::future::ready(handled)
    });
}

fn delay_print(usecase: &DelayPrintUsecase, task: &Task) -> Result<Completion, JobError> {
    // A bare job may leave its payload out.
    let payload = task.payload.as_ref().map_or("{}", |payload| payload.get());
    let payload: DelayPrintPayload = decode(payload)?;
    Ok(once_written(usecase.run(payload)))
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

/// Reads a payload, which is a JSON object.
fn decode<P: DeserializeOwned>(payload: &str) -> Result<P, JobError> {
    // serde would take an array of the fields' values as well.
    if !payload.trim_ascii_start().starts_with('{') {
        let error = "the payload is not a JSON object".to_owned();
        return Err(JobError::Malformed(error));
    }
    serde_json::from_str(payload)
        .map_err(|error| JobError::Malformed(format!("the payload cannot be read: {error}")))
}
