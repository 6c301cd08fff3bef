//! One delivery: run, decide, settle.
//!
//! A runner takes deliveries one after the other while any are ready and slots are free.
//! When it has taken one and there are more, it starts the next runner: short jobs are
//! run by a few, and as many handlers as there are slots can wait at once. Nothing here
//! knows of Redis: what is decided goes to the settler through [`Held`].

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::runtime::{Handle, Runtime};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, warn};

use super::dead_letter;
use super::held::Held;
use super::job_log::JobLog;
use super::outcome::{Delivery, Outcome};
use super::retry;
use super::trail::{self, Step};
use crate::config::{JobqueueConfig, RetryConfig};
use crate::service::jobqueue::job::{self, MalformedJob};
use crate::service::jobqueue::mux::{Completion, Handler, HandlerFuture, JobError, Mux, Task};
use crate::service::line_writer::{WriteError, Written};
use crate::shortened::{shortened, shortened_to};
use crate::threads;

/// How much of a job's type an error shows, so that there is room for what it says of it.
const MAX_TYPE_BYTES: usize = 64;
/// What the log says of jobs that go wrong.
pub(crate) const MALFORMED: &str = "malformed job; moving it to the dead letters";
const FAILED: &str = "job failed; it will be tried again";
const UNKNOWN: &str = "job of a type that this worker does not know; it is left to others";
const UNKNOWN_FOR_GOOD: &str = "job of a type that no worker knows; moving it to the dead letters";
const EXHAUSTED: &str = "job failed for the last time; moving it to the dead letters";

/// What a worker's runners share.
#[derive(Debug)]
pub(crate) struct Runners {
    held: Arc<Held>,
    mux: Mux,
    log: Arc<JobLog>,
    retry: RetryConfig,
    unknown_type_grace: Duration,
    job_timeout: Duration,
    /// The shutdown's deadline: running handlers are dropped.
    cutoff: CancellationToken,
    /// Set, with the stop requested, when a handler found the process unfit.
    unfit: AtomicBool,
    /// How many handlers the cutoff has dropped.
    cut_off: AtomicUsize,
    stop: CancellationToken,
    tracker: TaskTracker,
    /// Where handlers run; see [`Handlers`].
    handlers: Handlers,
}

/// A runtime for handlers and nothing else.
///
/// One that does not yield keeps an executor thread to itself, and a few of them all
/// threads: on one runtime with the rest nothing would be settled then, no time would
/// pass and no signal be seen.
#[derive(Debug)]
pub(crate) struct Handlers {
    handle: Handle,
    /// Absent only while it is dropped.
    runtime: Option<Runtime>,
}

impl Handlers {
    /// # Errors
    /// When the system gives no threads.
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads::runtime(builder.thread_name("handler"))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        // Without waiting for a handler that does not yield.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How a handler's run ended.
enum Ran {
    Ended(Result<(), JobError>),
    /// Its output is with the writer.
    Written(Written),
    /// Cut off by the shutdown.
    CutOff,
    /// There is no handler for it.
    Unknown,
}

impl Runners {
    /// Runs by the handlers of `mux` what the [`Held`] that belongs to it holds; see
    /// [`Self::held`].
    ///
    /// # Errors
    /// When the system gives no threads.
    pub(crate) fn new(
        config: &JobqueueConfig,
        mux: Mux,
        log: Arc<JobLog>,
        stop: CancellationToken,
        cutoff: CancellationToken,
    ) -> std::io::Result<Arc<Self>> {
        let handlers = Handlers::new()?;
        // The runners own what they take deliveries from, which only knows how to start one.
        Ok(Arc::new_cyclic(|runners: &Weak<Self>| {
            let runners = runners.clone();
            let start_runner = move || {
                if let Some(runners) = runners.upgrade() {
                    runners.start_runner();
                }
            };
            Self {
                held: Arc::new(Held::new(config.concurrency, start_runner)),
                mux,
                log,
                retry: config.retry,
                unknown_type_grace: config.unknown_type_grace,
                job_timeout: config.job_timeout,
                cutoff,
                unfit: AtomicBool::new(false),
                cut_off: AtomicUsize::new(0),
                stop,
                tracker: TaskTracker::new(),
                handlers,
            }
        }))
    }

    /// Where the runners get their deliveries.
    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Whether a handler found that this process cannot run jobs.
    pub(crate) fn is_unfit(&self) -> bool {
        self.unfit.load(Ordering::Relaxed)
    }

    /// How many handlers the cutoff has dropped.
    pub(crate) fn cut_off(&self) -> usize {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Whether a job's type is known here.
    pub(crate) fn knows(&self, job_type: &str) -> bool {
        self.mux.get(job_type).is_some()
    }

    /// Waits until no runner is left and no output is on its way. Nothing may become ready any
    /// more. Cancel safe.
    pub(crate) async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn start_runner(self: &Arc<Self>) {
        let runner = Arc::clone(self).run_ready();
        self.tracker.spawn_on(runner, &self.handlers.handle);
        // The task that a thread spawns last is for that thread alone, which the next handler
        // may block: let that be this one.
        self.handlers.handle.spawn(async {});
    }

    async fn run_ready(self: Arc<Self>) {
        let mut next = self.held.start(Instant::now());
        while let Some(delivery) = next {
            next = match self.run(&delivery).await {
                Ran::Written(written) => {
                    self.conclude_when(written, Arc::clone(&delivery));
                    self.held.leave_to_output(&delivery, Instant::now())
                }
                Ran::Ended(result) => {
                    let outcome = self.decide(&delivery, result);
                    self.held.end(&delivery, outcome, Instant::now())
                }
                Ran::Unknown => {
                    let outcome = self.decide_unknown(&delivery);
                    self.held.end(&delivery, outcome, Instant::now())
                }
                Ran::CutOff => {
                    self.cut_off.fetch_add(1, Ordering::Relaxed);
                    let deliveries = delivery.deliveries;
                    let outcome = Outcome::PutBack { deliveries };
                    self.held.end(&delivery, outcome, Instant::now())
                }
            };
        }
    }

    /// Ends a delivery once it is known whether its line went out. Its runner does not
    /// wait for that: it would have to be woken for every line.
    fn conclude_when(self: &Arc<Self>, written: Written, delivery: Arc<Delivery>) {
        let worker = Arc::clone(self);
        // The shutdown waits for lines as it does for runners.
        let token = self.tracker.token();
        written.then(move |result| {
            let result = result.map_err(|error| match error {
                WriteError::Abandoned => JobError::Interrupted,
                WriteError::Output(_) => JobError::ProcessUnfit(error.to_string()),
            });
            let outcome = worker.decide(&delivery, result);
            worker.held.end_output(&delivery, outcome);
            drop(token);
        });
    }

    /// Runs the handler within the limits of its timeout and the shutdown.
    async fn run(&self, delivery: &Delivery) -> Ran {
        let job = &delivery.job;
        let Some(handler) = self.mux.get(&job.job_type) else {
            return Ran::Unknown;
        };
        let task = Task {
            id: job.id.clone().unwrap_or_else(|| delivery.id.to_string()),
            payload: job.payload.clone(),
            attempt: job.attempt,
        };
        // The handler is called inside the future, so that a panic of either is caught.
        let handled = AssertUnwindSafe(async { call(handler, task, delivery).await });
        let handled = handled.catch_unwind();
        let handled = tokio::select! {
            biased;
            handled = timeout(self.job_timeout, handled) => handled,
            () = self.cutoff.cancelled() => return Ran::CutOff,
        };
        let completion = match handled {
            Err(_) => {
                let limit = humantime::format_duration(self.job_timeout);
                let error = format!("no result within {limit}");
                return Ran::Ended(Err(JobError::Failed(error)));
            }
            Ok(Err(panic)) => {
                let error = format!("the handler panicked: {}", panic_message(&*panic));
                return Ran::Ended(Err(JobError::Failed(error)));
            }
            Ok(Ok(completion)) => completion,
        };
        match completion {
            Ok(Completion::Done) => Ran::Ended(Ok(())),
            Ok(Completion::Written(written)) => Ran::Written(written),
            Err(error) => Ran::Ended(Err(error)),
        }
    }

    fn decide(&self, delivery: &Delivery, result: Result<(), JobError>) -> Outcome {
        let deliveries = delivery.deliveries;
        let Err(error) = result else {
            if trail::is_on() {
                delivery.tell(Step::Finished);
            }
            return Outcome::Done;
        };
        match error {
            JobError::Interrupted => Outcome::PutBack {
                deliveries: deliveries.saturating_sub(1),
            },
            JobError::ProcessUnfit(reason) => {
                if !self.unfit.swap(true, Ordering::Relaxed) {
                    let reason = shortened(&reason);
                    error!(reason, "this process cannot run jobs; stopping");
                }
                self.stop.cancel();
                Outcome::PutBack {
                    deliveries: deliveries.saturating_sub(1),
                }
            }
            JobError::Malformed(error) => {
                self.tell(delivery, MALFORMED, &error, None);
                Outcome::Dead(dead_letter::malformed(delivery, &error))
            }
            JobError::Failed(error) => self.retry_or_bury(delivery, &error),
        }
    }

    /// A job of a type that this worker does not know is for others: for a program that runs
    /// other types of the same queue, or for this one once it is upgraded. So no attempt is
    /// charged, until nobody has known it for the whole of its grace.
    pub(crate) fn decide_unknown(&self, delivery: &Delivery) -> Outcome {
        let job = &delivery.job;
        let waited_ms = job.unknown_for_ms.unwrap_or(0);
        let shown = shortened_to(MAX_TYPE_BYTES, &job.job_type);
        let Some(pause_ms) = retry::unknown_pause(self.retry, waited_ms, self.unknown_type_grace)
        else {
            let grace = humantime::format_duration(self.unknown_type_grace);
            let error =
                format!("the job type {shown:?} was known to no worker that got it, for {grace}");
            self.tell(delivery, UNKNOWN_FOR_GOOD, &error, None);
            return Outcome::Dead(dead_letter::unknown_type(delivery, &error));
        };
        let (entry, unknown_for_ms) = (delivery.id.to_string(), waited_ms + pause_ms);
        match job::moved(&delivery.json, &entry, job.attempt, unknown_for_ms) {
            Ok(edits) => {
                let pause = Duration::from_millis(pause_ms);
                let pause = retry::jittered(pause, self.retry.jitter, fastrand::f64());
                self.tell(delivery, UNKNOWN, "", Some(pause));
                if trail::is_on() {
                    delivery.tell(Step::LeftToOthers);
                }
                Outcome::LeaveToOthers { edits, pause }
            }
            Err(json) => {
                let error = MalformedJob::from(json).to_string();
                Outcome::Dead(dead_letter::malformed(delivery, &error))
            }
        }
    }

    fn retry_or_bury(&self, delivery: &Delivery, error: &str) -> Outcome {
        let job = &delivery.job;
        let failures = job.attempt.saturating_add(1);
        if job.attempt >= job.max_retry {
            self.tell(delivery, EXHAUSTED, error, None);
            return Outcome::Dead(dead_letter::exhausted(delivery, error));
        }
        match job::moved(&delivery.json, &delivery.id.to_string(), failures, 0) {
            Ok(edits) => {
                let backoff = retry::backoff(self.retry, failures, fastrand::f64());
                self.tell(delivery, FAILED, error, Some(backoff));
                Outcome::Retry { edits, backoff }
            }
            Err(json) => {
                let error = MalformedJob::from(json).to_string();
                Outcome::Dead(dead_letter::malformed(delivery, &error))
            }
        }
    }

    /// A job that goes wrong is seen from its first attempt on.
    fn tell(
        &self,
        delivery: &Delivery,
        what: &'static str,
        error: &str,
        again_in: Option<Duration>,
    ) {
        let job = &delivery.job;
        if let Some(suppressed) = self.log.admit(what, &job.job_type, error) {
            let delivery = delivery.shown();
            warn!(
                job_id = delivery.job_id,
                entry_id = %delivery.entry_id,
                job_type = delivery.job_type,
                attempt = delivery.attempt,
                error = shortened(error),
                max_retry = job.max_retry,
                again_in = again_in.map(tracing::field::debug),
                suppressed,
                "{what}"
            );
        }
    }
}

/// Calls a handler, whose own log lines say which job they are about while the trail is told.
fn call(handler: &Handler, task: Task, delivery: &Delivery) -> HandlerFuture {
    if !trail::is_on() {
        return handler(task);
    }
    delivery.tell(Step::Started);
    let span = delivery.span();
    let handled = span.in_scope(|| handler(task));
    Box::pin(handled.instrument(span))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
