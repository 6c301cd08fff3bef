//! Job type to handler: what a program registers before it runs the workers.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::value::RawValue;

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

/// How a handler ends that succeeded, or will.
#[derive(Debug)]
pub enum Completion {
    /// The job is done.
    Done,
    /// Something else has the job's effect in its hands and says later how it ended. For example,
    /// the job's line is with a writer of lines. From then on neither the job's timeout nor the
    /// shutdown ends the job: it could print after it was put back.
    Later(Later),
}

/// A promise to say how a job ended.
pub struct Later(Box<dyn FnOnce(ResultSender) + Send>);

impl Later {
    /// `promise` is called once, at once. It must not block. It must pass the job's result to
    /// [`ResultSender::send`], now or later.
    pub fn new(promise: impl FnOnce(ResultSender) + Send + 'static) -> Self {
        Self(Box::new(promise))
    }

    /// Calls the promise. One that panics drops what it got, so its job has failed. The caller may
    /// have begun another job already, which must not end with it.
    pub(crate) fn begin(self, sender: ResultSender) {
        let begun = catch_unwind(AssertUnwindSafe(|| (self.0)(sender)));
        // The panic was logged by the program's hook.
        drop(begun);
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

/// Waits for the result of one job, which has its slot until then. When it is dropped without one,
/// the job has failed.
pub struct ResultSender(Option<Box<End>>);

/// What ends one job with its result.
type End = dyn FnOnce(Result<(), JobError>) + Send;

impl ResultSender {
    pub(crate) fn new(end: impl FnOnce(Result<(), JobError>) + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }

    /// The job has ended like this. May be called on any thread, and does not block.
    pub fn send(mut self, result: Result<(), JobError>) {
        self.end(result);
    }

    fn end(&mut self, result: Result<(), JobError>) {
        if let Some(end) = self.0.take() {
            end(result);
        }
    }
}

impl Drop for ResultSender {
    fn drop(&mut self) {
        if self.0.is_some() {
            let error = "the handler has lost its promise to say how the job ended";
            self.end(Err(JobError::Failed(error.to_owned())));
        }
    }
}

impl fmt::Debug for ResultSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResultSender")
    }
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

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// What a job ends with whose handler keeps its promise in this way.
    fn ended(promise: impl FnOnce(ResultSender) + Send + 'static) -> Vec<Result<(), JobError>> {
        let (sender, results) = mpsc::channel();
        let result = ResultSender::new(move |result| sender.send(result).unwrap());
        Later::new(promise).begin(result);
        results.iter().collect()
    }

    #[test]
    fn a_promise_ends_its_job_once() {
        assert_eq!(ended(|sender| sender.send(Ok(()))), [Ok(())]);
        let interrupted = ended(|sender| sender.send(Err(JobError::Interrupted)));
        assert_eq!(interrupted, [Err(JobError::Interrupted)]);
    }

    #[test]
    fn a_promise_that_is_lost_is_a_failure() {
        for results in [ended(drop), ended(|_sender| panic!("on purpose"))] {
            assert!(matches!(results[..], [Err(JobError::Failed(_))]));
        }
    }
}
