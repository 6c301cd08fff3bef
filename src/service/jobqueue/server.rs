//! A worker process' life: starts the parts of a worker, and ends them in an order that loses
//! nothing. What the parts do is their own business.

mod exit;
mod handle;
mod shutdown;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use self::exit::Exit;
pub use self::handle::WorkerHandle;
use self::shutdown::{EndWhenDropped, Parts};
use super::mux::Mux;
use crate::config::{InvalidSetting, RedisConfig, WorkerConfig};
use crate::service::jobqueue::redis::{
    Broker, Connector, LeaseTimes, OPERATOR_RETRY, SettlingRules,
};
use crate::service::jobqueue::worker::decide::Rules;
use crate::service::jobqueue::worker::fetcher::Fetcher;
use crate::service::jobqueue::worker::heartbeat::Heartbeat;
use crate::service::jobqueue::worker::janitor::Janitor;
use crate::service::jobqueue::worker::job_log::JobLog;
use crate::service::jobqueue::worker::large_fetcher::LargeEntryFetcher;
use crate::service::jobqueue::worker::promoter::{Alarm, Promoter};
use crate::service::jobqueue::worker::runner::{self, Runners};
use crate::service::jobqueue::worker::settler::Settler;
use crate::service::jobqueue::worker::shared::{Flags, Shared};
use crate::service::jobqueue::worker::triage::Triage;
use crate::service::jobqueue::worker::unblocker::Unblocker;

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
    /// the process unfit. `stop` may be `tokio::signal::ctrl_c()`, or `std::future::pending::<()>()` when
    /// only the handle is to stop it. This waits for a Redis that is away.
    ///
    /// Then it shuts down: jobs that run may take `shutdown_timeout` to end, and 0.6 s later
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
        let dropped = EndWhenDropped::new(&parts, &self.handle);
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
        let exit = parts.shut_down(&self.broker, &self.handle, deadline).await;
        info!(?exit, "worker stopped");
        dropped.disarm();
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
            tally: Arc::default(),
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
        Heartbeat::new(shared, &self.config, stop)
    }

    fn settler(&self, shared: &Shared, alarm: Arc<Alarm>, finish: &CancellationToken) -> Settler {
        let rules = SettlingRules {
            dead_letter_max_len: self.config.dead_letter_max_len,
            // Others may claim it when it would be tried again here.
            put_off_idle: self.config.lease.saturating_sub(OPERATOR_RETRY),
            done_max_len: self.config.done_max_len,
        };
        let done_per_second = self.config.done_per_second;
        Settler::new(shared, alarm, rules, done_per_second, finish.clone())
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
