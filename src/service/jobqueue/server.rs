//! A worker process' life: starts the parts of a worker, and ends them in an order that loses
//! nothing. What the parts do is their own business.
//!
//! The end, from the request to stop until [`Worker::run`] returns:
//!
//! 1. What is ready is put back, and the fetcher ends. From here on nothing is delivered, so
//!    nothing can be started any more. What its last read brought is put back too.
//! 2. The runners finish the jobs that run. At the deadline the handlers are dropped, and their
//!    jobs are put back.
//! 3. The settler sends the outcomes of all that.
//! 4. The worker leaves the group, if every outcome was sent.
//! 5. The heartbeat and the prober end. The other parts needed them until here: the leases of
//!    jobs that still ran had to be renewed, and an outage had to be overcome.
//!
//! The promoter, the janitor and the fetcher of large entries end at the request. What they
//! leave undone is done by other workers.

mod exit;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::exit::Exit;
use super::mux::Mux;
use crate::config::{InvalidSetting, RedisConfig, WorkerConfig};
use crate::service::jobqueue::redis::{
    Broker, Connector, LeaseTimes, OPERATOR_RETRY, SettlingRules,
};
use crate::service::jobqueue::worker::decide::Rules;
use crate::service::jobqueue::worker::fetcher::Fetcher;
use crate::service::jobqueue::worker::heartbeat::Heartbeat;
use crate::service::jobqueue::worker::held::Held;
use crate::service::jobqueue::worker::janitor::Janitor;
use crate::service::jobqueue::worker::job_log::JobLog;
use crate::service::jobqueue::worker::large_fetcher::LargeEntryFetcher;
use crate::service::jobqueue::worker::promoter::{Alarm, Promoter};
use crate::service::jobqueue::worker::runner::{self, Runners};
use crate::service::jobqueue::worker::settler::Settler;
use crate::service::jobqueue::worker::shared::{Flags, Shared};
use crate::service::jobqueue::worker::triage::Triage;
use crate::service::jobqueue::worker::unblocker::Unblocker;

/// How long dropped handlers may take to end, after the shutdown's deadline.
const CUT_OFF_GRACE: Duration = Duration::from_millis(150);
/// How long the last outcomes may take to get to Redis, after the shutdown's deadline.
const SETTLE_GRACE: Duration = Duration::from_millis(350);
/// How long leaving the group may take. If it fails, the janitors of other workers do it.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(100);
/// Part of the reclaim hold: time to reconnect and to send a heartbeat.
const RECONNECT_ALLOWANCE: Duration = Duration::from_secs(1);

/// One worker of one queue: takes jobs from the stream and runs them by the handlers of a [`Mux`].
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    max_retry_backoff: Duration,
    broker: Arc<Broker>,
    mux: Mux,
    handle: WorkerHandle,
}

/// Asks a worker how it is while it runs, and asks it to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    consumer: Arc<str>,
    connector: Connector,
    flags: Flags,
    /// Cancelled at the shutdown's deadline.
    cutoff: CancellationToken,
}

impl WorkerHandle {
    /// The worker's name in the queue's consumer group: host, process and a random part.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Asks the worker to stop. [`Worker::run`] says how long that takes.
    pub fn stop(&self) {
        self.flags.stop.cancel();
    }

    /// Whether jobs can be taken from Redis now. If they can, there may be warnings for an operator,
    /// such as of memory that is nearly full. Redis is asked once a second at most, however often this is
    /// called. Cancel safe.
    ///
    /// # Errors
    /// The reason when they cannot, in words for an operator.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        self.connector.ready().await
    }

    /// Cancelled when the worker is asked to stop.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.flags.stop
    }

    /// Cancelled at the shutdown's deadline: whoever still waits for anything gives up.
    pub(crate) fn cutoff(&self) -> &CancellationToken {
        &self.cutoff
    }

    /// While this is set, the worker takes no more jobs and goes on with those it has. It is
    /// for a process that cannot do any job for the time being.
    pub(crate) fn suspended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flags.suspended)
    }
}

/// The parts that the shutdown has to wait for or to end.
struct Parts {
    runners: Arc<Runners>,
    held: Arc<Held>,
    log: Arc<JobLog>,
    fetcher: JoinHandle<()>,
    unblocker: Unblocker,
    settler: JoinHandle<()>,
    /// Ends the settler once everything is settled.
    finish: CancellationToken,
    /// Ends the heartbeat and the prober, which the other parts need until they have ended.
    end: CancellationToken,
}

/// Ends all parts of a worker whose [`Worker::run`] is dropped before it is over.
struct EndWhenDropped {
    held: Arc<Held>,
    tokens: [CancellationToken; 4],
    is_over: bool,
}

impl Drop for EndWhenDropped {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // First this: each handler that is dropped makes room for the next job that is ready.
        self.held.stop_starting();
        for token in &self.tokens {
            token.cancel();
        }
    }
}

impl Worker {
    /// A worker for the queue of `config` that runs jobs by the handlers of `mux`. Nothing connects
    /// before [`Self::run`], and no Tokio runtime is needed before that.
    ///
    /// # Errors
    /// When a setting is out of its range, or at odds with another one. A Redis that is away is no
    /// error.
    pub fn new(
        config: &WorkerConfig,
        redis: &RedisConfig,
        mux: Mux,
    ) -> Result<Self, InvalidSetting> {
        config.check()?;
        mux.check()?;
        let broker = Broker::new(&config.queue, consumer_name());
        let handle = WorkerHandle {
            consumer: broker.consumer().into(),
            connector: Connector::of_worker(redis, broker.keys())?,
            flags: Flags::default(),
            cutoff: CancellationToken::new(),
        };
        Ok(Self {
            config: config.clone(),
            max_retry_backoff: redis.max_retry_backoff,
            broker: Arc::new(broker),
            mux,
            handle,
        })
    }

    /// The way to this worker while it runs.
    pub fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Takes and runs jobs until `stop` is over, [`WorkerHandle::stop`] is called or a handler finds
    /// the process unfit. It waits for a Redis that is away.
    ///
    /// Then it shuts down: jobs that run may take `shutdown_timeout` to end, and half a second later
    /// this returns. Jobs that were cut off run again, here or in another worker.
    ///
    /// # Errors
    /// When the system gives no thread for the heartbeat or the handlers.
    ///
    /// # Panics
    /// Outside of a Tokio runtime whose time and I/O are enabled.
    ///
    /// # Cancel safety
    /// A dropped call ends the worker at once: handlers are dropped at their next await. Other workers
    /// run their jobs, and those whose outcome was not sent yet, when the leases are over.
    pub async fn run(self, stop: impl Future) -> std::io::Result<Exit> {
        let parts = self.start()?;
        let mut dropped = EndWhenDropped {
            held: Arc::clone(&parts.held),
            tokens: [
                self.handle.flags.stop.clone(),
                self.handle.cutoff.clone(),
                parts.finish.clone(),
                parts.end.clone(),
            ],
            is_over: false,
        };
        info!(
            consumer = %self.broker.consumer(),
            queue = %self.config.queue,
            concurrency = self.config.concurrency,
            "worker started"
        );
        tokio::select! {
            _ = stop => self.handle.stop(),
            () = self.handle.flags.stop.cancelled() => {}
        }
        let deadline = Instant::now() + self.config.shutdown_timeout;
        info!(running = parts.held.running(), "worker stopping");
        let exit = self.shut_down(parts, deadline).await;
        info!(?exit, "worker stopped");
        dropped.is_over = true;
        Ok(exit)
    }

    fn start(&self) -> std::io::Result<Parts> {
        let config = &self.config;
        let log = Arc::new(JobLog::new());
        let runners = self.runners(&log)?;
        let shared = Shared {
            broker: Arc::clone(&self.broker),
            connector: self.handle.connector.clone(),
            held: Arc::clone(runners.held()),
            log,
            flags: self.handle.flags.clone(),
        };
        let (alarm, times) = (Arc::new(Alarm::default()), self.lease_times());
        let (finish, end) = (CancellationToken::new(), CancellationToken::new());

        // First what may fail: nothing that was spawned before would ever end.
        self.heartbeat(&shared, end.clone())
            .spawn(&self.handle.connector, self.handle.flags.clone())?;
        let (prober, prober_end) = (self.handle.connector.clone(), end.clone());
        self.spawn("prober", async move { prober.probe(prober_end).await });
        let promoter = Promoter::new(&shared, Arc::clone(&alarm));
        self.spawn("promoter", promoter.run());
        self.spawn("janitor", Janitor::new(&shared, times).run());
        let settler = self.settler(&shared, alarm, &finish);
        let settler_end = end.clone();
        let settler = self.spawn("settler", async move {
            tokio::select! {
                () = settler.run() => {}
                // Without the prober it would wait for ever for a Redis that is away.
                () = settler_end.cancelled() => {}
            }
        });
        let fetcher = Fetcher::new(&shared, self.triage(&shared), times);
        let unblocker = Unblocker::new(&shared, fetcher.client_id());
        let fetcher = self.spawn("fetcher", fetcher.run());
        let large = LargeEntryFetcher::new(
            &shared,
            self.triage(&shared),
            config.lease,
            config.max_deliveries,
        );
        self.spawn("large entry fetcher", large.run());
        Ok(Parts {
            runners,
            held: shared.held,
            log: shared.log,
            fetcher,
            unblocker,
            settler,
            finish,
            end,
        })
    }

    fn heartbeat(&self, shared: &Shared, stop: CancellationToken) -> Heartbeat {
        let (broker, held) = (Arc::clone(&shared.broker), Arc::clone(&shared.held));
        Heartbeat::new(broker, held, self.config.heartbeat(), stop)
    }

    fn settler(&self, shared: &Shared, alarm: Arc<Alarm>, finish: &CancellationToken) -> Settler {
        let rules = SettlingRules {
            dead_letter_max_len: self.config.dead_letter_max_len,
            // Others may claim it when it would be tried again here.
            put_off_idle: self.config.lease.saturating_sub(OPERATOR_RETRY),
        };
        Settler::new(
            Arc::clone(&shared.broker),
            Arc::clone(&shared.held),
            Arc::clone(&shared.log),
            alarm,
            shared.connector.shared_link(),
            rules,
            finish.clone(),
        )
    }

    /// Runs a part of the worker.
    fn spawn(
        &self,
        part: &'static str,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let flags = self.handle.flags.clone();
        tokio::spawn(async move { flags.guard(part, run).await })
    }

    fn runners(&self, log: &Arc<JobLog>) -> std::io::Result<Arc<Runners>> {
        let (flags, cutoff) = (self.handle.flags.clone(), self.handle.cutoff.clone());
        let mux = self.mux.clone();
        Runners::new(&self.config, mux, Arc::clone(log), flags, cutoff)
    }

    fn triage(&self, shared: &Shared) -> Triage {
        let (held, log) = (Arc::clone(&shared.held), Arc::clone(&shared.log));
        let (rules, max_deliveries) = (Rules::new(&self.config), self.config.max_deliveries);
        let hang_limits = runner::hang_limits(&self.mux, &self.config);
        Triage::new(held, hang_limits, log, rules, max_deliveries)
    }

    fn lease_times(&self) -> LeaseTimes {
        LeaseTimes {
            lease: self.config.lease,
            heartbeat: self.config.heartbeat(),
            reconnect: self.max_retry_backoff + RECONNECT_ALLOWANCE,
            interval: self.config.reclaim_interval(),
        }
    }

    /// Ends the parts, in the order that the head of this file gives.
    async fn shut_down(&self, parts: Parts, deadline: Instant) -> Exit {
        let Parts { runners, held, .. } = parts;
        stop_fetching(&held, parts.fetcher, &parts.unblocker, deadline).await;
        self.finish_running(&runners, deadline).await;

        parts.finish.cancel();
        let last = deadline.max(Instant::now()) + SETTLE_GRACE;
        drop(timeout_at(last.into(), parts.settler).await);
        let (unsettled, running) = (held.unsettled(), held.running());
        if unsettled + running == 0 {
            self.leave().await;
        } else {
            warn!(
                unsettled,
                running, "some jobs have no outcome in redis; they will run again"
            );
        }
        parts.end.cancel();
        parts.log.tell_rest();

        if self.handle.flags.is_broken() {
            Exit::Broken
        } else if runners.is_unfit() {
            Exit::Unfit
        } else if unsettled + running + runners.cut_off() > 0 {
            Exit::CutOff
        } else {
            Exit::Clean
        }
    }

    /// Waits for the jobs that run, and cuts them off at the deadline.
    async fn finish_running(&self, runners: &Runners, deadline: Instant) {
        if timeout_at(deadline.into(), runners.wait()).await.is_err() {
            warn!(
                running = runners.held().running(),
                "the shutdown's deadline is over; cutting jobs off"
            );
            self.handle.cutoff.cancel();
            // A handler that does not yield cannot be dropped, so this wait has an end.
            drop(timeout(CUT_OFF_GRACE, runners.wait()).await);
        }
    }

    /// Leaves the group, if Redis knows of nothing that is pending for this worker.
    async fn leave(&self) {
        if !self.handle.connector.is_up() {
            return;
        }
        let mut link = self.handle.connector.shared_link();
        let leave = async {
            link.connect().await;
            self.broker.leave(&mut link).await
        };
        drop(timeout(LEAVE_TIMEOUT, leave).await);
    }
}

/// Puts back all that was not started, and waits until the fetcher has ended.
async fn stop_fetching(
    held: &Held,
    fetcher: JoinHandle<()>,
    unblocker: &Unblocker,
    deadline: Instant,
) {
    // This does not wait for the fetcher: while its last read ends, jobs would be started.
    held.stop_starting();
    tokio::select! {
        // If the read has not ended at the deadline, other workers run what it was about to get
        // once the leases are over.
        _ = timeout_at(deadline.into(), fetcher) => {}
        _ = unblocker.run() => {}
    }
}

/// A name that no other process has, and that tells an operator where this one runs.
fn consumer_name() -> String {
    let host = gethostname::gethostname();
    format!(
        "{}-{}-{:08x}",
        host.to_string_lossy(),
        std::process::id(),
        fastrand::u32(..)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::handler::{Context, JobError};

    #[test]
    fn a_worker_does_not_take_an_option_that_is_out_of_its_range() {
        let mut mux = Mux::new();
        mux.handle("x", async |(): (), _: Context| Ok::<(), JobError>(()))
            .timeout(Duration::ZERO);
        Worker::new(&WorkerConfig::default(), &RedisConfig::default(), mux).unwrap_err();
    }
}
