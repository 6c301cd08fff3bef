//! A worker process' life: starts the parts of a worker, and ends them in an order that loses
//! nothing. What the parts do is their own business.
//!
//! The end, from the request to stop until [`Server::run`] returns:
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
use crate::config::{JobqueueConfig, RedisConfig};
use crate::service::jobqueue::redis::{
    Broker, Connector, Error, LeaseTimes, OPERATOR_RETRY, SettlingRules,
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

/// One worker of one queue.
#[derive(Debug)]
pub struct Server {
    config: JobqueueConfig,
    max_retry_backoff: Duration,
    connector: Connector,
    broker: Arc<Broker>,
    mux: Mux,
    flags: Flags,
    /// Cancelled at the shutdown's deadline.
    cutoff: CancellationToken,
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

impl Server {
    /// A worker for the queue of `config` that runs jobs by the handlers of `mux`.
    /// Nothing connects before [`Self::run`].
    ///
    /// # Errors
    /// When the address in `redis` cannot be understood.
    pub fn new(config: &JobqueueConfig, redis: &RedisConfig, mux: Mux) -> Result<Self, Error> {
        let broker = Broker::new(&config.queue, consumer_name());
        let connector = Connector::of_worker(redis, broker.keys())?;
        Ok(Self {
            config: config.clone(),
            max_retry_backoff: redis.max_retry_backoff,
            connector,
            broker: Arc::new(broker),
            mux,
            flags: Flags::default(),
            cutoff: CancellationToken::new(),
        })
    }

    /// The name of this worker in the queue's group.
    pub fn consumer(&self) -> &str {
        self.broker.consumer()
    }

    /// The way to ask whether Redis can be used.
    pub fn connector(&self) -> Connector {
        self.connector.clone()
    }

    /// Cancelling it starts the shutdown.
    pub fn stop(&self) -> CancellationToken {
        self.flags.stop.clone()
    }

    /// Cancelled at the shutdown's deadline: whoever still waits for anything gives up.
    pub fn cutoff(&self) -> CancellationToken {
        self.cutoff.clone()
    }

    /// While this is set, the worker takes no more jobs and goes on with those it has. It is
    /// for a process that cannot do any job for the time being.
    pub fn suspended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flags.suspended)
    }

    /// Takes and runs jobs until [`Self::stop`] is cancelled or a handler finds the process
    /// unfit. Then it shuts down within `shutdown_timeout` and half a second.
    ///
    /// # Errors
    /// When the system gives no thread for the heartbeat or the handlers.
    pub async fn run(self) -> std::io::Result<Exit> {
        let parts = self.start()?;
        info!(
            consumer = %self.broker.consumer(),
            queue = %self.config.queue,
            concurrency = self.config.concurrency,
            "worker started"
        );
        self.flags.stop.cancelled().await;
        let deadline = Instant::now() + self.config.shutdown_timeout;
        info!(running = parts.held.running(), "worker stopping");
        let exit = self.shut_down(parts, deadline).await;
        info!(?exit, "worker stopped");
        Ok(exit)
    }

    fn start(&self) -> std::io::Result<Parts> {
        let config = &self.config;
        let log = Arc::new(JobLog::new());
        let runners = self.runners(&log)?;
        let shared = Shared {
            broker: Arc::clone(&self.broker),
            connector: self.connector.clone(),
            held: Arc::clone(runners.held()),
            log,
            flags: self.flags.clone(),
        };
        let (alarm, times) = (Arc::new(Alarm::default()), self.lease_times());
        let hang_limit = runner::hang_limit(&self.mux, config.job_timeout, config.lease);
        let (finish, end) = (CancellationToken::new(), CancellationToken::new());

        let (prober, prober_end) = (self.connector.clone(), end.clone());
        self.spawn("prober", async move { prober.probe(prober_end).await });
        self.heartbeat(&shared, hang_limit, end.clone())
            .spawn(&self.connector, self.flags.clone())?;
        let promoter = Promoter::new(&shared, Arc::clone(&alarm));
        self.spawn("promoter", promoter.run());
        self.spawn("janitor", Janitor::new(&shared, times).run());
        let settler = self.settler(&shared, alarm, &finish);
        let settler = self.spawn("settler", settler.run());
        let fetcher = Fetcher::new(&shared, self.triage(&shared), times, hang_limit);
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

    fn heartbeat(&self, shared: &Shared, limit: Duration, stop: CancellationToken) -> Heartbeat {
        let (broker, held) = (Arc::clone(&shared.broker), Arc::clone(&shared.held));
        Heartbeat::new(broker, held, self.config.heartbeat, limit, stop)
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
        let flags = self.flags.clone();
        tokio::spawn(async move { flags.guard(part, run).await })
    }

    fn runners(&self, log: &Arc<JobLog>) -> std::io::Result<Arc<Runners>> {
        let (flags, cutoff) = (self.flags.clone(), self.cutoff.clone());
        let mux = self.mux.clone();
        Runners::new(&self.config, mux, Arc::clone(log), flags, cutoff)
    }

    fn triage(&self, shared: &Shared) -> Triage {
        let (held, log) = (Arc::clone(&shared.held), Arc::clone(&shared.log));
        let (rules, max_deliveries) = (Rules::new(&self.config), self.config.max_deliveries);
        Triage::new(held, self.mux.clone(), log, rules, max_deliveries)
    }

    fn lease_times(&self) -> LeaseTimes {
        LeaseTimes {
            lease: self.config.lease,
            heartbeat: self.config.heartbeat,
            reconnect: self.max_retry_backoff + RECONNECT_ALLOWANCE,
            interval: self.config.reclaim_interval,
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

        if self.flags.is_broken() {
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
            self.cutoff.cancel();
            // A handler that does not yield cannot be dropped, so this wait has an end.
            drop(timeout(CUT_OFF_GRACE, runners.wait()).await);
        }
    }

    /// Leaves the group, if Redis knows of nothing that is pending for this worker.
    async fn leave(&self) {
        if !self.connector.is_up() {
            return;
        }
        let mut link = self.connector.shared_link();
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
