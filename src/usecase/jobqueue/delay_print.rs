//! The business rule of a delay-print job: what it prints when its delay is over, and the name and
//! payload by which those who register it and those who run it know it. Nothing here knows that a
//! queue exists.

use serde::{Deserialize, Serialize};

use crate::service::delay_print_service::DelayPrintService;
use crate::service::line_writer::Written;

/// The name of the job type, in the `type` field of a stream entry.
// It is `pub` because `program` exports it. A name that only this package uses is `pub(crate)`.
pub const JOB_TYPE_DELAY_PRINT: &str = "demo:delay_print";

/// What a job without a message prints.
pub(crate) const DEFAULT_MESSAGE: &str = "Job executed successfully";

/// The payload of a delay-print job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DelayPrintPayload {
    /// What to print; missing, null or empty means [`DEFAULT_MESSAGE`].
    #[serde(default)]
    pub message: Option<String>,
}

/// Runs delay-print jobs.
#[derive(Debug, Clone)]
pub(crate) struct DelayPrintUsecase {
    service: DelayPrintService,
}

impl DelayPrintUsecase {
    /// A usecase that prints through `service`.
    pub(crate) fn new(service: DelayPrintService) -> Self {
        Self { service }
    }

    /// Prints the payload's message. The job is done when the line is written.
    pub(crate) fn run(&self, payload: DelayPrintPayload) -> Written {
        let message = payload.message.filter(|message| !message.is_empty());
        self.service
            .print(message.as_deref().unwrap_or(DEFAULT_MESSAGE))
    }
}
