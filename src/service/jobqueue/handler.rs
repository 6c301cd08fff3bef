//! What the queue and the handler of a job tell each other: what a handler is given, and the ways in
//! which it ends.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::job::DEFAULT_MAX_RETRY;
use crate::config::WorkerConfig;

/// What a handler knows of its job, beside the payload.
#[derive(Debug, Clone)]
pub struct Context {
    pub(crate) job_id: String,
    pub(crate) attempt: u32,
    pub(crate) max_retry: u32,
    pub(crate) deadline: Instant,
    pub(crate) stopping: CancellationToken,
}

impl Context {
    /// A context for a test that calls a handler directly. The job's id is `test`, and this is the
    /// first attempt of a job with 10 retries, whose timeout is over in 30 minutes. A test can cancel
    /// [`Self::stopping`].
    ///
    /// ```
    /// use dm_jobqueue::{Context, JobError};
    ///
    /// async fn greet(name: String, context: Context) -> Result<(), JobError> {
    ///     println!("hello {name}, says job {}", context.job_id());
    ///     Ok(())
    /// }
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// greet("you".to_owned(), Context::for_test()).await.unwrap();
    /// # });
    /// ```
    pub fn for_test() -> Self {
        Self {
            job_id: "test".to_owned(),
            attempt: 0,
            max_retry: DEFAULT_MAX_RETRY,
            deadline: Instant::now() + WorkerConfig::default().job_timeout,
            stopping: CancellationToken::new(),
        }
    }

    /// The id that the producer gave the job. It stays the same in all attempts, so a handler can use
    /// it to notice that it does something a second time. A bare entry that has not moved yet has the
    /// id of its entry.
    pub fn job_id(&self) -> &str {
        &self.job_id
    }

    /// How many attempts of this job have failed: 0 in the first one.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many times the job is repeated when it fails. If this attempt fails and [`Self::attempt`]
    /// has reached this number, the job goes to the dead letters.
    pub fn max_retry(&self) -> u32 {
        self.max_retry
    }

    /// When the job's timeout is over. The handler is dropped then at its next await, and the attempt
    /// has failed. A handler that blocks its thread must look at this time itself.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Cancelled when the worker is asked to stop. From then on the handler has the
    /// `shutdown_timeout` of the worker's settings. After that it is dropped at its next await, and
    /// the job runs again, in another worker or later. A handler that cannot end in that time may
    /// return [`JobError::Interrupted`].
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}

/// Why a handler did not do its job. The variant decides what happens to the job.
///
/// The texts are logged. The one of an attempt that sends the job to the dead letters is kept there too,
/// up to 1024 bytes. So they must hold no secrets.
///
/// Every [`Error`] becomes [`JobError::Failed`], so `?` works in a handler. For that reason this type
/// is no `Error` itself. `anyhow::Error` and `Box<dyn Error>` are none either:
/// `.map_err(|error| JobError::Failed(format!("{error:#}")))?` takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobError {
    /// The attempt failed. The job is retried after a pause while retries are left.
    Failed(String),
    /// The job can never succeed. It goes to the dead letters at once.
    Malformed(String),
    /// This process cannot do any job, through no fault of this one. The job is put back without an
    /// attempt being charged, and the worker ends as [`Exit::Unfit`].
    ///
    /// [`Exit::Unfit`]: crate::Exit::Unfit
    ProcessUnfit(String),
    /// The job has not had its effect, and will not have it in this process. It is put back, and
    /// neither an attempt nor the delivery is charged.
    Interrupted,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) | Self::Malformed(why) | Self::ProcessUnfit(why) => f.write_str(why),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl<E: Error> From<E> for JobError {
    /// The attempt failed. The text has the error and its sources, as in `no answer: timed out`.
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let words = error.to_string();
            // Many errors have the words of their source in their own.
            if !text.ends_with(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            source = error.source();
        }
        Self::Failed(text)
    }
}

/// How a handler ends that succeeded, or will.
#[derive(Debug)]
#[non_exhaustive]
pub enum Completion {
    /// The job is done.
    Done,
    /// Something else has the job's effect in its hands and says later how it ended. For example,
    /// the job's line is with a writer of lines. From then on neither the job's timeout nor the
    /// shutdown ends the job: it could print after it was put back.
    Later(Later),
}

impl From<()> for Completion {
    /// A handler that returns nothing has done its job.
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// A promise to say how a job ended.
pub struct Later(Box<dyn FnOnce(ResultSender) + Send>);

impl Later {
    /// `promise` is called once, at once. It must not block. It must pass the job's result to
    /// [`ResultSender::send`], now or later. A worker that stops waits for it until its shutdown
    /// timeout is over; a sender that is kept for ever keeps the worker's threads.
    ///
    /// If `promise` panics or drops its sender, the attempt has failed. The worker goes on.
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
pub struct ResultSender(Option<Box<Ending>>);

/// What ends one job with its result.
type Ending = dyn FnOnce(Result<(), JobError>) + Send;

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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn any_error_is_a_failure_and_says_its_sources_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("no answer")]
        struct NoAnswer(#[source] std::io::Error);
        let timed_out = std::io::Error::other("timed out");
        let error = JobError::from(NoAnswer(timed_out));
        assert_eq!(error, JobError::Failed("no answer: timed out".to_owned()));
        let wrapped = std::io::Error::other("8 is no port".parse::<u16>().unwrap_err());
        let error = JobError::from(wrapped);
        let expected = "invalid digit found in string".to_owned();
        assert_eq!(error, JobError::Failed(expected));
    }

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
