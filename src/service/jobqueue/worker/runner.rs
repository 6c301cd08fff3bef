//! Runs the handlers of the deliveries that are ready.
//!
//! A runner takes deliveries one after the other while any are ready and slots are free. When it has
//! taken one and there are more, [`Held`] starts the next runner: a few runners run short jobs, and
//! as many handlers as there are slots can wait at once. What becomes of a job is decided by
//! [`decide`], and goes to the settler through [`Held`]; nothing here knows of Redis.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rustc_hash::FxHashMap;
use tokio::runtime::{Handle, Runtime};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error};

use super::decide::{self, Rules};
use super::held::{Held, Limits};
use super::job_log::JobLog;
use super::outcome::{Delivery, Outcome, Times};
use super::shared::Flags;
use super::trail::{self, Step};
use super::type_limit::{self, Place, TypeLimit};
use crate::config::{RetryConfig, WorkerConfig};
use crate::service::jobqueue::handler::{Completion, Context, JobError, Later, ResultSender};
use crate::service::jobqueue::mux::{Handler, HandlerFuture, Mux};
use crate::shortened::shortened;
use crate::threads;

/// As the log calls a runner that panics.
const PART: &str = "runner";

/// What a worker's runners share.
#[derive(Debug)]
pub(crate) struct Runners {
    held: Arc<Held>,
    mux: Mux,
    log: Arc<JobLog>,
    rules: Rules,
    job_timeout: Duration,
    /// The limits of the types that have one.
    type_limits: FxHashMap<String, Arc<TypeLimit>>,
    /// The shutdown's deadline: running handlers are dropped.
    cutoff: CancellationToken,
    /// Set, with the stop requested, when a handler found the process unfit.
    unfit: AtomicBool,
    /// How many handlers the cutoff has dropped.
    cut_off: AtomicUsize,
    flags: Flags,
    tracker: TaskTracker,
    /// Where handlers run.
    handlers: Handlers,
}

/// A runtime for the runners and the handlers that they call, and for nothing else.
///
/// A handler that does not yield keeps an executor thread to itself, and a few of them keep all
/// threads. If the other parts were on the same runtime, nothing would be settled then, no timeout
/// would end and no signal would be seen.
#[derive(Debug)]
struct Handlers {
    handle: Handle,
    /// Absent only while it is dropped.
    runtime: Option<Runtime>,
}

impl Handlers {
    /// # Errors
    /// When the system gives no threads.
    fn new() -> std::io::Result<Self> {
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
        // It does not wait for a handler that does not yield.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How a handler's run ended.
enum Ran {
    /// It began at this time.
    Ended(Result<(), JobError>, Instant),
    /// Something else says how. The job keeps its place among those of its type until then. It began at this
    /// time.
    Later(Later, Option<Place>, Instant),
    /// The shutdown has cut it off.
    CutOff,
    /// Somebody has cancelled it.
    Cancelled,
    /// There is no handler for the job's type.
    Unknown,
    /// As many jobs of its type run as may run at once. It is to stay away for this long.
    NoPlace(Duration),
}

impl Runners {
    /// Runs jobs by the handlers of `mux`. The deliveries come from [`Self::held`].
    ///
    /// # Errors
    /// When the system gives no threads.
    pub(crate) fn new(
        config: &WorkerConfig,
        mux: Mux,
        log: Arc<JobLog>,
        flags: Flags,
        cutoff: CancellationToken,
    ) -> std::io::Result<Arc<Self>> {
        let handlers = Handlers::new()?;
        let type_limits = type_limits(&mux);
        let limits = Limits {
            concurrency: config.concurrency,
            ahead: config.ahead,
        };
        // The runners own what they take deliveries from, which only knows how to start one.
        Ok(Arc::new_cyclic(|runners: &Weak<Self>| {
            let runners = runners.clone();
            let start_runner = move || {
                if let Some(runners) = runners.upgrade() {
                    runners.start_runner();
                }
            };
            Self {
                held: Arc::new(Held::new(limits, start_runner)),
                mux,
                log,
                rules: Rules::new(config),
                job_timeout: config.job_timeout,
                type_limits,
                cutoff,
                unfit: AtomicBool::new(false),
                cut_off: AtomicUsize::new(0),
                flags,
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

    /// Waits until no runner is left and no output is on its way. Nothing may become ready any
    /// more. Cancel safe.
    pub(crate) async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn start_runner(self: &Arc<Self>) {
        let runners = Arc::clone(self);
        let runner = async move { runners.flags.guard(PART, runners.run_ready()).await };
        self.tracker.spawn_on(runner, &self.handlers.handle);
        // A thread of the runtime keeps the task that it spawned last for itself, and no other
        // thread takes it over. If that were the runner, it would wait for as long as the handler
        // on this thread does not yield. So an empty task is spawned last.
        self.handlers.handle.spawn(async {});
    }

    async fn run_ready(self: &Arc<Self>) {
        let mut next = self.held.start(Instant::now());
        while let Some(delivery) = next {
            next = match self.run(&delivery).await {
                Ran::Later(later, place, began) => {
                    let next = self.held.leave_to_output(&delivery, Instant::now());
                    later.begin(self.result_sender(delivery, place, began));
                    next
                }
                Ran::Ended(result, began) => {
                    let ended = Instant::now();
                    let outcome = self.decide(&delivery, result, Times { began, ended });
                    self.held.end(&delivery, outcome, ended)
                }
                Ran::Cancelled => {
                    let outcome = decide::cancelled(&delivery);
                    self.held.end(&delivery, outcome, Instant::now())
                }
                Ran::Unknown => {
                    let decision = self.rules.decide_unknown(&delivery, fastrand::f64());
                    let outcome = self.log.log_and_take(&delivery, decision);
                    self.held.end(&delivery, outcome, Instant::now())
                }
                Ran::NoPlace(pause) => {
                    if trail::is_on() {
                        delivery.tell(Step::TypeIsFull);
                    }
                    let decision = decide::no_place(&delivery, pause);
                    let outcome = self.log.log_and_take(&delivery, decision);
                    self.held.end(&delivery, outcome, Instant::now())
                }
                Ran::CutOff => {
                    self.cut_off.fetch_add(1, Ordering::Relaxed);
                    let outcome = decide::cut_off(&delivery);
                    self.held.end(&delivery, outcome, Instant::now())
                }
            };
        }
    }

    /// Makes the sender of the result of a delivery that ends later. The runner does not wait for
    /// it: it would have to be woken for every line that is written.
    fn result_sender(
        self: &Arc<Self>,
        delivery: Arc<Delivery>,
        place: Option<Place>,
        began: Instant,
    ) -> ResultSender {
        let runners = Arc::clone(self);
        // The shutdown waits for it as it does for runners.
        let token = self.tracker.token();
        ResultSender::new(move |result| {
            // The thread belongs to something else, a writer of lines for example.
            runners.flags.guard_call(PART, || {
                let ended = Instant::now();
                let outcome = runners.decide(&delivery, result, Times { began, ended });
                runners.held.end_output(&delivery, outcome, ended);
            });
            drop((place, token));
        })
    }

    /// Waits for a place among the jobs of the delivery's type, if that has a limit.
    ///
    /// # Errors
    /// How the run ends when there is none.
    async fn place(&self, job_type: &str, handler: &Handler) -> Result<Option<Place>, Ran> {
        if handler.options().concurrency.is_none() {
            return Ok(None);
        }
        let Some(limit) = self.type_limits.get(job_type) else {
            return Ok(None);
        };
        tokio::select! {
            biased;
            place = limit.place(|| self.held.has_free_slot()) => place.map(Some).map_err(Ran::NoPlace),
            () = self.flags.stop.cancelled() => Err(Ran::Ended(Err(JobError::Interrupted), Instant::now())),
        }
    }

    /// Waits until something ends the handler before its time.
    async fn interruption(&self, delivery: &Delivery) -> Ran {
        tokio::select! {
            () = self.cutoff.cancelled() => Ran::CutOff,
            () = self.held.wait_for_cancel(delivery) => Ran::Cancelled,
        }
    }

    /// Runs the handler within the limits of its type, its timeout, the shutdown and a cancel.
    async fn run(&self, delivery: &Delivery) -> Ran {
        let job = &delivery.job;
        let Some(handler) = self.mux.get(&job.job_type) else {
            return Ran::Unknown;
        };
        let place = match self.place(&job.job_type, handler).await {
            Ok(place) => place,
            Err(ran) => return ran,
        };
        let time = handler.options().timeout.unwrap_or(self.job_timeout);
        let began = Instant::now();
        let deadline = began + time;
        let context = Context {
            job_id: job.id.clone().unwrap_or_else(|| delivery.id.to_string()),
            attempt: job.attempt,
            max_retry: job.max_retry,
            deadline,
            stopping: self.flags.stop.clone(),
        };
        let called = catch_unwind(AssertUnwindSafe(|| call(handler, context, delivery)));
        let mut future = match called {
            Ok(future) => future,
            Err(panic) => return panicked(&*panic, began),
        };
        let handled = AssertUnwindSafe(&mut future).catch_unwind();
        let handled = tokio::select! {
            biased;
            handled = timeout_at(deadline.into(), handled) => Ok(handled),
            interrupted = self.interruption(delivery) => Err(interrupted),
        };
        // What the handler holds may panic when it is dropped. That ends this job and no other.
        drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
        let completion = match handled {
            Err(interrupted) => return interrupted,
            Ok(Err(_)) => {
                let limit = humantime::format_duration(time);
                let error = format!("no result within {limit}");
                return Ran::Ended(Err(JobError::Failed(error)), began);
            }
            Ok(Ok(Err(panic))) => return panicked(&*panic, began),
            Ok(Ok(Ok(completion))) => completion,
        };
        match completion {
            Ok(Completion::Done) => Ran::Ended(Ok(()), began),
            Ok(Completion::Later(later)) => Ran::Later(later, place, began),
            Err(error) => Ran::Ended(Err(error), began),
        }
    }

    fn retry_of(&self, job_type: &str) -> Option<RetryConfig> {
        self.mux.get(job_type)?.options().retry
    }

    fn decide(&self, delivery: &Delivery, result: Result<(), JobError>, times: Times) -> Outcome {
        if let Err(JobError::ProcessUnfit(reason)) = &result {
            if !self.unfit.swap(true, Ordering::Relaxed) {
                let reason = shortened(reason);
                error!(reason, "this process cannot run jobs; stopping");
            }
            self.flags.stop.cancel();
        }
        let retry = match result {
            Ok(()) => None,
            Err(_) => self.retry_of(&delivery.job.job_type),
        };
        let decision = self
            .rules
            .decide(delivery, result, times, retry, fastrand::f64());
        self.log.log_and_take(delivery, decision)
    }
}

/// How long a run may take before it counts as one that hangs, by the job types that are known: the
/// timeout, and a while for what comes before and after.
pub(crate) fn hang_limits(mux: &Mux, config: &WorkerConfig) -> FxHashMap<String, Duration> {
    let limits = mux.options().map(|(job_type, options)| {
        let wait = options
            .concurrency
            .map_or(Duration::ZERO, |_| type_limit::MAX_WAIT);
        let timeout = options.timeout.unwrap_or(config.job_timeout);
        (job_type.to_owned(), wait + timeout + config.lease)
    });
    limits.collect()
}

fn type_limits(mux: &Mux) -> FxHashMap<String, Arc<TypeLimit>> {
    let limits = mux.options().filter_map(|(job_type, options)| {
        let limit = TypeLimit::new(options.concurrency?, Instant::now());
        Some((job_type.to_owned(), limit))
    });
    limits.collect()
}

/// Calls a handler, whose own log lines say which job they are about while the trail is told.
fn call(handler: &Handler, context: Context, delivery: &Delivery) -> HandlerFuture {
    let payload = delivery.job.payload.as_deref();
    if !trail::is_on() {
        return handler.run(payload, context);
    }
    delivery.tell(Step::Started);
    let span = delivery.span();
    let handled = span.in_scope(|| handler.run(payload, context));
    Box::pin(handled.instrument(span))
}

fn panicked(panic: &(dyn Any + Send), began: Instant) -> Ran {
    let error = format!("the handler panicked: {}", panic_message(panic));
    Ran::Ended(Err(JobError::Failed(error)), began)
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
