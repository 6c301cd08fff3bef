//! Job type to handler: what a program registers before it runs the workers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::value::RawValue;

use crate::service::line_writer::Written;

/// What a handler gets.
#[derive(Debug)]
pub struct Task {
    /// The job's id; the entry's id when the producer gave none.
    pub id: String,
    /// The payload as the producer wrote it.
    pub payload: Option<Box<RawValue>>,
    /// How many attempts have failed before this one.
    pub attempt: u32,
}

/// Why a handler did not do its job. The variant decides what happens to the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// It failed this time: retried after a backoff while retries are left.
    #[error("{0}")]
    Failed(String),
    /// It can never succeed: to the dead letters at once.
    #[error("{0}")]
    Malformed(String),
    /// This process cannot do any job, through no fault of this one: the job is put
    /// back without an attempt being charged, and the worker stops with status 74.
    #[error("{0}")]
    ProcessUnfit(String),
    /// The job has not had its effect, and will not have it in this process: it is put
    /// back, and neither an attempt nor the delivery is charged.
    #[error("interrupted")]
    Interrupted,
}

/// How a handler ends that found no fault.
#[derive(Debug)]
pub enum Completion {
    /// The job is done.
    Done,
    /// The job's output is with the writer, which alone decides from here on whether it
    /// was done: neither the job's timeout nor the shutdown may cut this short, or a
    /// line could be printed of a job that is put back.
    Written(Written),
}

pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<Completion, JobError>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Task) -> HandlerFuture + Send + Sync>;

/// The handlers by job type.
#[derive(Clone, Default)]
pub struct Mux {
    /// Asked twice for each job. Its keys are the program's own, so nobody can make it slow.
    handlers: FxHashMap<String, Handler>,
}

impl Mux {
    /// A mux without handlers: every job is of an unknown type.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs jobs of `job_type` by `handler`, in place of an earlier one.
    ///
    /// The handler's future is dropped at its next await when the job's timeout or the
    /// shutdown's deadline comes; a panic counts as a failed attempt.
    pub fn handle<F, Fut>(&mut self, job_type: &str, handler: F)
    where
        F: Fn(Task) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Completion, JobError>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |task| Box::pin(handler(task)));
        self.handlers.insert(job_type.to_owned(), handler);
    }

    pub(crate) fn get(&self, job_type: &str) -> Option<&Handler> {
        self.handlers.get(job_type)
    }
}

impl std::fmt::Debug for Mux {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}
