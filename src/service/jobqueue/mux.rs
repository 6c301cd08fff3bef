//! Job type to handler: what a program registers before it runs a worker.

mod payload;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use self::payload::Decoder;
use super::handler::{Completion, Context, JobError};
use crate::config::{InvalidSetting, RetryConfig, WorkerConfig};

pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<Completion, JobError>> + Send>>;
type Run = Box<dyn Fn(Option<&RawValue>, Context) -> HandlerFuture + Send + Sync>;

/// The handlers by job type. Cheap to clone: several workers can have the same handlers.
///
/// ```
/// use dm_jobqueue::{Context, JobError, Mux};
///
/// #[derive(serde::Deserialize)]
/// struct Mail {
///     to: String,
/// }
///
/// async fn send(mail: Mail, _: Context) -> Result<(), JobError> {
///     let (_user, _host) = mail.to.split_once('@').ok_or_else(|| {
///         // It would fail in the same way again.
///         JobError::Malformed("to has no @".to_owned())
///     })?;
///     Ok(())
/// }
///
/// let mut mux = Mux::new();
/// mux.handle("mail:send", send);
/// ```
#[derive(Clone, Default)]
pub struct Mux {
    /// Asked twice for each job. Its keys are the program's own, so nobody can make it slow.
    handlers: FxHashMap<String, Arc<Handler>>,
}

/// The handler of one job type.
pub(crate) struct Handler {
    run: Run,
    options: HandlerOptions,
}

/// What differs for the jobs of one type from the worker's settings.
///
/// [`Mux::handle`] makes it:
///
/// ```
/// # use std::time::Duration;
/// # use dm_jobqueue::{Context, JobError, Mux, RetryConfig};
/// # async fn send(mail: String, _: Context) -> Result<(), JobError> { Ok(()) }
/// # let mut mux = Mux::new();
/// let retry = RetryConfig {
///     initial: Duration::from_secs(60),
///     ..RetryConfig::default()
/// };
/// mux.handle("mail:send", send)
///     .timeout(Duration::from_secs(30))
///     .retry(retry)
///     .concurrency(2);
/// ```
///
/// [`Worker::new`](crate::Worker::new) refuses an option that is out of its range, and names the type.
#[derive(Debug)]
pub struct HandlerOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<RetryConfig>,
    pub(crate) concurrency: Option<usize>,
}

impl Mux {
    /// A mux without handlers: every job is of an unknown type.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs jobs of `job_type` by `handler`, in place of an earlier one.
    ///
    /// The handler gets the job's payload as a `P`. A payload that is no `P` makes the job malformed,
    /// and it goes to the dead letters. A job without a payload has the payload `null` or `{}`,
    /// whichever is a `P`. A struct is read from an object alone. For a struct further inside, in
    /// another one or in a list, serde also takes an array of its fields' values.
    ///
    /// A handler that returns `()` has done its job; [`Completion::Later`] is for one that leaves the
    /// rest to somebody else. A panic counts as a failed attempt.
    ///
    /// # Cancel safety
    /// The handler's future is dropped at its next await when the job's timeout or the shutdown's
    /// deadline comes, and the job runs once more. So a handler should be able to run twice.
    pub fn handle<P, C, F, Fut>(&mut self, job_type: &str, handler: F) -> &mut HandlerOptions
    where
        P: DeserializeOwned + 'static,
        C: Into<Completion>,
        F: Fn(P, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C, JobError>> + Send + 'static,
    {
        let decoder = Decoder::<P>::new();
        let run = move |payload: Option<&RawValue>, context| -> HandlerFuture {
            match decoder.decode(payload) {
                Ok(payload) => {
                    let handled = handler(payload, context);
                    Box::pin(async { handled.await.map(Into::into) })
                }
                Err(error) => Box::pin(std::future::ready(Err(JobError::Malformed(error)))),
            }
        };
        let handler = Arc::new(Handler {
            run: Box::new(run),
            options: HandlerOptions {
                timeout: None,
                retry: None,
                concurrency: None,
            },
        });
        self.handlers.insert(job_type.to_owned(), handler);
        let inserted = self.handlers.get_mut(job_type).and_then(Arc::get_mut);
        &mut inserted
            .expect("cannot fail because it was inserted and has no clone yet")
            .options
    }

    pub(crate) fn get(&self, job_type: &str) -> Option<&Handler> {
        self.handlers.get(job_type).map(Arc::as_ref)
    }

    /// # Errors
    /// The first option that is out of the range of the setting that it stands in for, or at odds with
    /// another one. The key names the job type.
    pub(crate) fn check(&self) -> Result<(), InvalidSetting> {
        for (job_type, options) in self.options() {
            let defaults = WorkerConfig::default();
            let own = WorkerConfig {
                job_timeout: options.timeout.unwrap_or(defaults.job_timeout),
                retry: options.retry.unwrap_or(defaults.retry),
                ..defaults
            };
            own.check().map_err(|error| InvalidSetting {
                key: format!("{} of the job type {job_type:?}", error.key),
                ..error
            })?;
        }
        Ok(())
    }

    /// All job types that are known, with their options.
    pub(crate) fn options(&self) -> impl Iterator<Item = (&str, &HandlerOptions)> {
        let handlers = self.handlers.iter();
        handlers.map(|(job_type, handler)| (job_type.as_str(), &handler.options))
    }
}

impl Handler {
    /// Begins to run a job. Panics when the handler does so before its first await.
    pub(crate) fn run(&self, payload: Option<&RawValue>, context: Context) -> HandlerFuture {
        (self.run)(payload, context)
    }

    pub(crate) fn options(&self) -> &HandlerOptions {
        &self.options
    }
}

impl HandlerOptions {
    /// How long one attempt may take, instead of [`WorkerConfig::job_timeout`], and within the same
    /// range.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = Some(timeout);
        self
    }

    /// The pauses between the attempts, instead of [`WorkerConfig::retry`], and within the same ranges.
    /// How many attempts there are is up to each job: [`Job::max_retry`](crate::Job::max_retry).
    pub fn retry(&mut self, retry: RetryConfig) -> &mut Self {
        self.retry = Some(retry);
        self
    }

    /// How many jobs of this type may run at once in this process; 0 counts as 1. Without it, as many
    /// as [`WorkerConfig::concurrency`].
    ///
    /// Jobs beyond this number do not wait here, where they would keep jobs of other types from
    /// running. They go to the scheduled set for 0.1 s to 30 s, and any worker runs them then. Each
    /// round costs Redis about as much as a delayed job, and their order changes. While more than a
    /// hundred a second are sent away, and more than two for each one that is run, they stay away for
    /// longer, up to 10 minutes. A worker that is started meanwhile gets them as late. (One that was
    /// delivered before goes back to the stream at once, with its count of deliveries.)
    ///
    /// One job of the type waits here for up to a second, while another slot is free. So a limit is
    /// used to the full only if the worker's `concurrency` is larger by two or more.
    pub fn concurrency(&mut self, concurrency: usize) -> &mut Self {
        self.concurrency = Some(concurrency.max(1));
        self
    }
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: std::collections::BTreeMap<_, _> = self.options().collect();
        f.debug_map().entries(types).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a mux whose only job type has these options.
    fn refused(set: impl FnOnce(&mut HandlerOptions) -> &mut HandlerOptions) -> Option<String> {
        let mut mux = Mux::new();
        set(mux.handle("x", async |(): (), _: Context| Ok::<(), JobError>(())));
        mux.check().err().map(|error| error.key)
    }

    #[test]
    fn the_options_of_a_type_have_the_ranges_of_the_settings() {
        let timeout = |timeout| refused(|options| options.timeout(timeout));
        for fit in [Duration::from_millis(1), Duration::from_secs(30 * 86_400)] {
            assert_eq!(timeout(fit), None);
        }
        for unfit in [Duration::ZERO, Duration::MAX] {
            let key = timeout(unfit).unwrap();
            assert_eq!(key, r#"jobqueue.job_timeout of the job type "x""#);
        }
        let retry = RetryConfig {
            factor: f64::NAN,
            ..RetryConfig::default()
        };
        let key = refused(|options| options.retry(retry)).unwrap();
        assert_eq!(key, r#"jobqueue.retry.factor of the job type "x""#);
    }
}
