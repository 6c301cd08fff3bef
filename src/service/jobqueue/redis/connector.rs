//! One process' way to Redis: who connects, and who waits for that.
//!
//! A [`Connector`] stands for the process. One prober in it finds out whether Redis can be used,
//! and everything else waits for its word. So an outage costs one connection attempt at a time,
//! however many parts there are. A [`super::link::Link`] is one part's connection.
//!
//! The `ConnectionManager` of redis-rs is not used: it does not replace a half-open socket, and
//! each manager would probe for itself.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::FutureExt;
use redis::Cmd;
use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};
use tracing::info;

use super::checkup::Checkup;
use super::condition::Condition;
use super::error::{Class, Error};
use super::keys::Keys;
use super::login::Login;
use super::migrations;
use super::outage::OutageLog;
use super::shared_answer::{Health, SharedAnswer};
use super::status::{SharedConnection, Status};
use super::tls;
use super::words::CLOSED;
use crate::config::{InvalidSetting, RedisConfig};
use crate::lock::lock;

/// After this time without a reply, [`Connector::ready`] says that Redis does not answer. A health check gives up after a second, and would not learn the reason.
const READY_PATIENCE: Duration = Duration::from_millis(900);
/// How often Redis is asked how it is when nobody asks.
const CONDITION_PERIOD: Duration = Duration::from_secs(10);
/// The outage log's name for a Redis that cannot be reached or used at all.
const CONNECTION: &str = "connection";

/// This process' view of one Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connector(Arc<Inner>);

struct Inner {
    login: Login,
    config: RedisConfig,
    checkup: Checkup,
    shared: SharedConnection<MultiplexedConnection>,
    log: Mutex<OutageLog>,
    /// The last question of [`Connector::ready`].
    ready: SharedAnswer,
}

impl Connector {
    /// Prepares a worker's way to the queue of `keys` in the Redis of `config`. Nothing connects
    /// before [`Self::probe`] runs.
    ///
    /// # Errors
    /// When a setting in `config` cannot be used.
    pub(crate) fn of_worker(config: &RedisConfig, keys: &Keys) -> Result<Self, InvalidSetting> {
        Self::new(config, keys, migrations::commands_of_worker(keys))
    }

    /// The same for a producer, which must be allowed to append jobs.
    ///
    /// # Errors
    /// When a setting in `config` cannot be used.
    pub(crate) fn of_producer(config: &RedisConfig, keys: &Keys) -> Result<Self, InvalidSetting> {
        Self::new(config, keys, migrations::commands_of_producer(keys))
    }

    /// The same for an operator, who looks at a queue that need not be there yet. Nothing is created, and the
    /// user need not be allowed to write.
    ///
    /// # Errors
    /// When a setting in `config` cannot be used.
    pub(crate) fn of_operator(config: &RedisConfig, keys: &Keys) -> Result<Self, InvalidSetting> {
        // Any command shows whether Redis answers, and whether this user may look at the queue.
        let mut look = redis::cmd("TYPE");
        look.arg(&keys.stream);
        Self::new(config, keys, vec![look])
    }

    fn new(config: &RedisConfig, keys: &Keys, setup: Vec<Cmd>) -> Result<Self, InvalidSetting> {
        config.check()?;
        let login = Login::new(config).map_err(|error| InvalidSetting {
            key: "cache_server.redis.jobqueue.addr".to_owned(),
            found: config.display_addr(),
            expected: format!("an address that redis-rs understands ({error})"),
        })?;
        // Fails when a provider is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let redis = config.display_addr();
        Ok(Self(Arc::new(Inner {
            login,
            config: config.clone(),
            checkup: Checkup::new(redis.clone(), keys, setup),
            shared: SharedConnection::new(),
            log: Mutex::new(OutageLog::new(redis)),
            ready: SharedAnswer::default(),
        })))
    }

    /// Whether Redis can be used now: warnings for an operator when it can, the
    /// reason when it cannot.
    ///
    /// A known trouble is returned at once. Otherwise Redis is asked, at most once a second however
    /// many callers there are. So a call costs no connection attempt. After a caller was given
    /// an earlier answer, Redis is asked again as soon as that answer is a second old. By then a
    /// new trouble is found. Cancel safe.
    pub(crate) async fn ready(&self) -> Result<Vec<String>, String> {
        if let Some(reason) = self.log().reason() {
            return Err(reason);
        }
        let Some((status, connection)) = self.shared() else {
            let redis = self.0.config.display_addr();
            return Err(format!("not connected to Redis at {redis} yet"));
        };
        let generation = status.generation;
        let ask = || self.ask(generation, connection);
        let answer = self
            .0
            .ready
            .get(generation, ask, |after| self.ask_again(after));
        let answer = timeout(READY_PATIENCE, answer).await;
        answer.unwrap_or_else(|_| Err(self.silence(READY_PATIENCE)))?;
        Ok(self.condition().warnings())
    }

    /// Why Redis cannot be used, if an attempt has failed since it could be used last.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.log().reason()
    }

    /// The last answer of [`Self::ready`] is out of date, so the next call asks Redis.
    pub(crate) fn ask_anew(&self) {
        self.0.ready.forget();
    }

    /// Why Redis would refuse another job although it can be used, as of the last question.
    pub(crate) fn is_full(&self) -> Option<String> {
        self.condition().is_full()
    }

    /// What an operator is told of `error`.
    pub(crate) fn told(&self, error: &Error) -> String {
        error.told_of(&self.0.config.display_addr())
    }

    /// What an operator is told of a Redis that has said nothing for `patience`.
    pub(crate) fn silence(&self, patience: Duration) -> String {
        let error = format!("no answer within {patience:?}");
        self.told(&Error::new(Class::Reconnect, error))
    }

    fn ask(&self, generation: u64, mut connection: MultiplexedConnection) -> Health {
        let connector = self.clone();
        let asking = async move {
            let answer = connector.0.checkup.set_up(&mut connection).await;
            answer.map(drop).map_err(|error| {
                connector.lost(generation, &error);
                connector.told(&error)
            })
        };
        let answer = asking.boxed().shared();
        // Each of those who asked may go away at any time, and so may all of them.
        tokio::spawn(answer.clone());
        answer
    }

    fn ask_again(&self, after: Duration) {
        let connector = self.clone();
        tokio::spawn(async move {
            sleep(after).await;
            drop(connector.ready().await);
        });
    }

    /// The shared connection and the status that it belongs to, if Redis could be used a moment
    /// ago.
    pub(super) fn shared(&self) -> Option<(Status, MultiplexedConnection)> {
        self.0.shared.get()
    }

    /// Whether Redis could be used a moment ago.
    pub(crate) fn is_up(&self) -> bool {
        self.0.shared.is_up()
    }

    /// Whether no other epoch than `epoch` has begun.
    pub(super) fn is_in(&self, epoch: u64) -> bool {
        self.0.shared.is_in(epoch)
    }

    /// Waits until connections of `generation` are of no use any more. Cancel safe.
    pub(crate) async fn gone(&self, generation: u64) {
        self.0.shared.gone(generation).await;
    }

    /// Waits until Redis can be used. Cancel safe.
    pub(crate) async fn up(&self) {
        self.up_beyond(None).await;
    }

    /// Waits until Redis can be used in another epoch than the one named. Cancel safe.
    pub(super) async fn up_beyond(&self, epoch: Option<u64>) -> Status {
        self.0.shared.up_beyond(epoch).await
    }

    /// Tells of all changes of the status from now on.
    pub(super) fn subscribe(&self) -> tokio::sync::watch::Receiver<Status> {
        self.0.shared.subscribe()
    }

    /// Reports that a connection of `generation` is of no use, or that Redis lost
    /// its schema. The prober takes over, and who needs Redis waits for it.
    pub(crate) fn lost(&self, generation: u64, error: &Error) {
        // A repair needs no new connection, and nothing is said of it unless it fails.
        let repair = error.class == Class::Repair;
        if self.0.shared.lost(generation, repair) && !repair {
            self.log().failed(CONNECTION, error, Instant::now());
        }
    }

    pub(super) fn config(&self) -> &RedisConfig {
        &self.0.config
    }

    /// How long a reply may take that brings next to nothing.
    pub(super) fn response_timeout(&self) -> Duration {
        self.0.config.read_timeout + self.0.config.write_timeout
    }

    pub(super) fn log(&self) -> MutexGuard<'_, OutageLog> {
        lock(&self.0.log)
    }

    pub(super) fn condition(&self) -> MutexGuard<'_, Condition> {
        self.0.checkup.condition()
    }

    /// Reminds of what lasts, and looks how Redis is when nobody did lately. Cancel safe.
    pub(super) async fn look_after(&self) {
        let now = Instant::now();
        self.log().remind(now);
        self.condition().remind(now);
        let lately = self.condition().asked();
        let due = lately.is_none_or(|at| now - at >= CONDITION_PERIOD);
        if due && let Some((_, mut connection)) = self.shared() {
            self.0.checkup.ask(&mut connection).await;
        }
    }

    /// One attempt of the prober: opens the shared connection unless it is still good, and sets
    /// Redis up.
    pub(super) async fn attempt(&self) -> Result<(), Error> {
        let kept = self.0.shared.take();
        let fresh = kept.is_none();
        let result = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.open_shared().await?,
            };
            let incarnation = self.0.checkup.set_up(&mut connection).await?;
            Ok((connection, incarnation))
        }
        .await;
        let (connection, incarnation) =
            result.inspect_err(|error| self.log().failed(CONNECTION, error, Instant::now()))?;
        let announced = self.log().recovered(CONNECTION, Instant::now());
        let first = self.0.shared.status().generation == 0;
        if first && !announced {
            info!(redis = %self.0.config.display_addr(), "connected to redis");
        }
        self.0.shared.set_up(connection, fresh, incarnation);
        Ok(())
    }

    async fn open_shared(&self) -> Result<MultiplexedConnection, Error> {
        let next = self.0.shared.status().generation + 1;
        let inner = Arc::downgrade(&self.0);
        let on_end = move || {
            if let Some(inner) = inner.upgrade() {
                Self(inner).lost(next, &Error::new(Class::Wait, CLOSED));
            }
        };
        let login = &self.0.login;
        let opened = login.open("shared", self.response_timeout(), on_end).await;
        let mut connection = match opened {
            Err(error) if error.is_timeout() && login.lacks_tls().await => {
                return Err(Error::new(Class::Operator, tls::NO_TLS));
            }
            opened => opened?,
        };
        self.0.checkup.inspect(&mut connection).await?;
        Ok(connection)
    }

    /// Opens a connection of a part's own. Nobody is told of its end.
    pub(super) async fn open_own(
        &self,
        name: &str,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, Error> {
        self.0.login.open(name, response_timeout, || {}).await
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("redis", &self.config.display_addr())
            .field("status", &self.shared.status())
            .finish_non_exhaustive()
    }
}
