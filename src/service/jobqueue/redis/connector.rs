//! One process' way to Redis: who connects, who waits, and what is logged of it.
//!
//! A [`Connector`] stands for the process. One prober in it finds out whether Redis
//! can be used; everything else waits for its word, so that an outage costs one
//! connection attempt at a time however many parts there are. A [`super::link::Link`]
//! is one part's connection. redis-rs' own ConnectionManager is not used: it does not
//! replace a half-open socket, and each manager would probe for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, RedisError, Value};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::condition::{Condition, field};
use super::error::{self, Class, Error};
use super::keys::Keys;
use super::login::Login;
use super::outage::OutageLog;
use super::tls;
use crate::config::RedisConfig;

/// Two connection attempts of a process are at least this far apart.
pub(crate) const MIN_ATTEMPT_GAP: Duration = Duration::from_millis(500);
/// How often something is tried again that waits for an operator.
pub(crate) const OPERATOR_RETRY: Duration = Duration::from_secs(5);
/// How often the prober looks whether a reminder of an outage is due.
const REMINDER_CHECK: Duration = Duration::from_secs(5);
/// How long Redis' word that all is well is good for those who ask whether it is.
const READY_PERIOD: Duration = Duration::from_secs(1);
/// Who waits for that longer than this is told that Redis does not answer: a prober gives up
/// after a second, and would not learn the reason.
const READY_PATIENCE: Duration = Duration::from_millis(900);
/// How often Redis is asked how it is when nobody asks.
const CONDITION_PERIOD: Duration = Duration::from_secs(10);
/// The oldest Redis whose scripts have flags.
const MIN_REDIS_MAJOR: u32 = 7;
/// The outage log's name for a Redis that cannot be reached or used at all.
const CONNECTION: &str = "connection";

/// This process' view of one Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    login: Login,
    config: RedisConfig,
    /// What makes a Redis fit for the queue, and shows by running that it is.
    setup: Vec<Cmd>,
    state: watch::Sender<Status>,
    /// The connection that the prober opened, for all that need none of their own.
    /// Taken away when it is of no use; there again with the next generation. Changes
    /// together with `state`, whose changes are made while this is locked.
    shared: Mutex<Option<MultiplexedConnection>>,
    log: Mutex<OutageLog>,
    /// What an operator should know about a Redis that can be used.
    condition: Mutex<Condition>,
    /// The last question of [`Connector::ready`].
    question: Mutex<Option<Question>>,
}

/// Whether Redis can be used, as it was asked on a connection of `generation`. All who ask
/// within a while share it, and so its answer.
struct Question {
    generation: u64,
    asked: Instant,
    /// Whether it will be asked again, for those who came while its answer was still good.
    repeats: bool,
    answer: Readiness,
}

type Readiness = Shared<BoxFuture<'static, Result<(), String>>>;

#[derive(Debug, Clone)]
pub(crate) struct Status {
    up: bool,
    /// Counts how often all connections had to be opened anew. A report about a
    /// connection of an earlier generation is old news.
    pub(crate) generation: u64,
    /// Counts how often Redis was found fit: after each outage, and each loss of the
    /// stream. Only within one epoch an entry id surely means the same entry.
    pub(crate) epoch: u64,
    /// The mark of the stream in this epoch.
    pub(crate) incarnation: Arc<str>,
}

impl Connector {
    /// Prepares the way to the queue of `keys` in the Redis of `config`. `setup` runs on each fresh
    /// connection and after each data loss; each of its commands answers 1 when it
    /// had to create something, or the mark of the stream. Nothing connects before [`Self::probe`] runs.
    ///
    /// # Errors
    /// When `config.addr` cannot be understood.
    pub(crate) fn new(
        config: &RedisConfig,
        keys: &Keys,
        setup: Vec<Cmd>,
    ) -> Result<Self, RedisError> {
        // Fails when a provider is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let login = Login::new(config)?;
        let (state, _) = watch::channel(Status {
            up: false,
            generation: 0,
            epoch: 0,
            incarnation: "".into(),
        });
        Ok(Self(Arc::new(Inner {
            login,
            config: config.clone(),
            setup,
            state,
            shared: Mutex::new(None),
            log: Mutex::new(OutageLog::new(config.display_addr())),
            condition: Mutex::new(Condition::new(config.display_addr(), keys)),
            question: Mutex::new(None),
        })))
    }

    /// The prober: connects, and connects again after each outage, until `stop`.
    pub(crate) async fn probe(&self, stop: CancellationToken) {
        let mut state = self.0.state.subscribe();
        let mut backoff = self.0.config.min_retry_backoff;
        let mut last_attempt: Option<Instant> = None;
        while !stop.is_cancelled() {
            let mut wait = REMINDER_CHECK;
            if !state.borrow_and_update().up {
                if let Some(last) = last_attempt {
                    sleep(MIN_ATTEMPT_GAP.saturating_sub(last.elapsed())).await;
                }
                last_attempt = Some(Instant::now());
                match self.attempt().await {
                    Ok(()) => {
                        backoff = self.0.config.min_retry_backoff;
                        continue;
                    }
                    Err(error) if error.class == Class::Operator => wait = OPERATOR_RETRY,
                    Err(_) => {
                        wait = backoff.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
                        backoff = (backoff * 2).min(self.0.config.max_retry_backoff);
                    }
                }
            }
            tokio::select! {
                () = self.stand_by(wait) => {}
                _ = state.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Waits, then reminds of what lasts and looks how Redis is when nobody did lately. Cancel
    /// safe.
    async fn stand_by(&self, wait: Duration) {
        sleep(wait).await;
        let now = Instant::now();
        self.log().remind(now);
        self.condition().remind(now);
        let lately = self.condition().asked();
        let due = lately.is_none_or(|at| now - at >= CONDITION_PERIOD);
        if due && let Some((_, mut connection)) = self.shared() {
            // Those who need Redis find out when it does not answer.
            drop(self.ask_all(&mut connection, &[]).await);
        }
    }

    /// Whether Redis can be used now: warnings for an operator when it can, the
    /// reason when it cannot.
    ///
    /// A trouble that is known already is told at once. Only when there is none Redis is
    /// asked, once a second however many ask. So asking costs no connection attempts
    /// either. Who is told the answer of a moment ago makes Redis be asked again when that
    /// is a second old: a new trouble is found by then. Cancel safe.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        if let Some(reason) = self.log().reason() {
            return Err(reason);
        }
        let Some((generation, connection)) = self.shared() else {
            let redis = self.0.config.display_addr();
            return Err(format!("not connected to Redis at {redis} yet"));
        };
        let answer = timeout(READY_PATIENCE, self.answer(generation, connection)).await;
        answer.unwrap_or_else(|_| Err(self.silence()))?;
        Ok(self.condition().warnings())
    }

    /// What was answered lately does not hold any more: who wants to know asks Redis anew.
    pub(crate) fn ask_anew(&self) {
        *lock(&self.0.question) = None;
    }

    /// Why Redis would refuse another job although it can be used, as of the last question.
    pub(crate) fn is_full(&self) -> Option<String> {
        self.condition().is_full()
    }

    /// What an operator is told of `error`.
    pub(crate) fn told(&self, error: &Error) -> String {
        error.told_of(&self.0.config.display_addr())
    }

    fn silence(&self) -> String {
        let error = format!("no answer within {READY_PATIENCE:?}");
        self.told(&Error::new(Class::Reconnect, error))
    }

    /// The answer to the question that is being asked, or was a moment ago, or else to a
    /// new one.
    fn answer(&self, generation: u64, connection: MultiplexedConnection) -> Readiness {
        let mut question = lock(&self.0.question);
        if let Some(last) = &mut *question
            && last.generation == generation
        {
            let left = READY_PERIOD.saturating_sub(last.asked.elapsed());
            match last.answer.peek() {
                None => return last.answer.clone(),
                Some(Ok(())) if !left.is_zero() => {
                    if !std::mem::replace(&mut last.repeats, true) {
                        self.ask_again(left);
                    }
                    return last.answer.clone();
                }
                _ => {}
            }
        }
        let answer = self.ask(generation, connection);
        *question = Some(Question {
            generation,
            asked: Instant::now(),
            repeats: false,
            answer: answer.clone(),
        });
        answer
    }

    fn ask(&self, generation: u64, mut connection: MultiplexedConnection) -> Readiness {
        let connector = self.clone();
        let asking = async move {
            let answer = connector.set_up(&mut connection).await;
            answer.map(drop).map_err(|error| {
                connector.lost(generation, &error);
                connector.told(&error)
            })
        };
        let answer = asking.boxed().shared();
        // Any of the askers may go away at any time, and all of them.
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

    /// The shared connection and its generation, when Redis could be used a moment ago.
    pub(crate) fn shared(&self) -> Option<(u64, MultiplexedConnection)> {
        let (state, shared) = self.shared_now()?;
        Some((state.generation, shared))
    }

    /// The shared connection and the state that it belongs to.
    pub(crate) fn shared_now(&self) -> Option<(Status, MultiplexedConnection)> {
        let shared = lock(&self.0.shared);
        let state = self.0.state.borrow().clone();
        state.up.then_some((state, shared.clone()?))
    }

    /// Whether Redis could be used a moment ago.
    pub(crate) fn is_up(&self) -> bool {
        self.0.state.borrow().up
    }

    /// Waits until connections of `generation` are of no use any more. Cancel safe.
    pub(crate) async fn gone(&self, generation: u64) {
        let mut state = self.0.state.subscribe();
        let gone = |state: &Status| !state.up || state.generation != generation;
        // An error cannot happen while `self` holds the sender.
        drop(state.wait_for(gone).await);
    }

    /// Waits until Redis can be used. Cancel safe.
    pub(crate) async fn up(&self) -> Status {
        self.up_beyond(None).await
    }

    /// Waits until Redis can be used in another epoch than the one named. Cancel safe.
    pub(crate) async fn up_beyond(&self, epoch: Option<u64>) -> Status {
        let mut state = self.0.state.subscribe();
        loop {
            let now = state.borrow_and_update().clone();
            // An error cannot happen while `self` holds the sender.
            if now.up && Some(now.epoch) != epoch || state.changed().await.is_err() {
                return now;
            }
        }
    }

    /// Reports that a connection of `generation` is of no use, or that Redis lost
    /// its schema. The prober takes over, and who needs Redis waits for it.
    pub(crate) fn lost(&self, generation: u64, error: &Error) {
        // Both change in one step: the prober, which may be awake before this returns, must
        // not set up a connection that is then taken away.
        let mut shared = lock(&self.0.shared);
        let news = self.0.state.send_if_modified(|state| {
            let news = state.up && state.generation == generation;
            state.up &= !news;
            news
        });
        // A repair needs no new connection, and nothing is said of it unless it fails.
        if news && error.class != Class::Repair {
            let gone = shared.take();
            drop(shared);
            // Its end is reported here again, perhaps at once.
            drop(gone);
            self.log().failed(CONNECTION, error, Instant::now());
        }
    }

    /// How long a reply may take.
    pub(crate) fn response_timeout(&self) -> Duration {
        self.0.config.read_timeout + self.0.config.write_timeout
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, OutageLog> {
        lock(&self.0.log)
    }

    pub(crate) fn condition(&self) -> MutexGuard<'_, Condition> {
        lock(&self.0.condition)
    }

    /// One attempt of the prober: connect unless the connection is good, set up.
    async fn attempt(&self) -> Result<(), Error> {
        let kept = lock(&self.0.shared).take();
        let fresh = kept.is_none();
        let result = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.open_shared().await?,
            };
            let incarnation = self.set_up(&mut connection).await?;
            Ok((connection, incarnation))
        }
        .await;
        let (connection, incarnation) =
            result.inspect_err(|error| self.log().failed(CONNECTION, error, Instant::now()))?;
        let announced = self.log().recovered(CONNECTION, Instant::now());
        let first = self.0.state.borrow().generation == 0;
        if first && !announced {
            info!(redis = %self.0.config.display_addr(), "connected to redis");
        }
        let mut shared = lock(&self.0.shared);
        *shared = Some(connection);
        self.0.state.send_modify(|state| {
            state.up = true;
            state.generation += u64::from(fresh);
            state.epoch += 1;
            state.incarnation = incarnation;
        });
        Ok(())
    }

    async fn open_shared(&self) -> Result<MultiplexedConnection, Error> {
        let next = self.0.state.borrow().generation + 1;
        let timeout = self.response_timeout();
        let mut connection = match self.open("shared", timeout, Some(next)).await {
            Err(error) if error.is_timeout() && self.0.login.lacks_tls().await => {
                return Err(Error::new(Class::Operator, tls::NO_TLS));
            }
            opened => opened?,
        };
        self.inspect(&mut connection).await?;
        Ok(connection)
    }

    /// Opens a connection. One of a `generation` reports its own end.
    pub(crate) async fn open(
        &self,
        name: &str,
        response_timeout: Duration,
        generation: Option<u64>,
    ) -> Result<MultiplexedConnection, Error> {
        let inner = Arc::downgrade(&self.0);
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(response_timeout))
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection
                    && let Some(generation) = generation
                    && let Some(inner) = inner.upgrade()
                {
                    let error = Error::new(Class::Wait, error::CLOSED);
                    Connector(inner).lost(generation, &error);
                }
                Ok::<(), SendError>(())
            });
        let mut connection = self.0.login.open(config).await?;
        let mut name_it = redis::cmd("CLIENT");
        name_it.arg("SETNAME").arg(format!("jobqueue-{name}"));
        // Only for the eyes of an operator: an ACL may well forbid it.
        connection.send_packed_command(&name_it).await?;
        Ok(connection)
    }

    /// Looks at the server behind a fresh connection.
    async fn inspect(&self, connection: &mut MultiplexedConnection) -> Result<(), Error> {
        let mut cmd = redis::cmd("INFO");
        cmd.arg("server");
        // Nothing when an ACL forbids it.
        let server = match connection.send_packed_command(&cmd).await? {
            Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
            Value::VerbatimString { text, .. } => text,
            _ => String::new(),
        };
        if let Some(version) = field(&server, "redis_version")
            && let Some(major) = version
                .split('.')
                .next()
                .and_then(|m| m.parse::<u32>().ok())
            && major < MIN_REDIS_MAJOR
        {
            return Err(Error::new(
                Class::Operator,
                format!("found version {version}, expected 7.0 or later; upgrade the server"),
            ));
        }
        self.condition().connected();
        Ok(())
    }

    /// Makes Redis fit for the queue. Answers the stream's mark, when there is one.
    async fn set_up(&self, connection: &mut MultiplexedConnection) -> Result<Arc<str>, Error> {
        let mut incarnation = String::new();
        for reply in self.ask_all(connection, &self.0.setup).await? {
            match reply {
                Value::ServerError(error) => return Err(Error::from(&error)),
                Value::Int(1) => info!("created the stream's consumer group"),
                Value::BulkString(mark) => {
                    incarnation = String::from_utf8_lossy(&mark).into_owned();
                }
                _ => {}
            }
        }
        Ok(incarnation.into())
    }

    /// Sends `commands` and asks how Redis is, in one round trip: Redis may be far away.
    /// Returns the replies to the commands. Cancel safe.
    async fn ask_all(
        &self,
        connection: &mut MultiplexedConnection,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, Error> {
        let questions = self.condition().questions(Instant::now());
        let mut pipeline = Pipeline::new();
        for command in commands.iter().chain(questions.iter().map(|(_, cmd)| cmd)) {
            pipeline.add_command(command.clone());
        }
        let mut replies = connection
            .send_packed_commands(&pipeline, 0, pipeline.len())
            .await?;
        let answers = replies.split_off(commands.len().min(replies.len()));
        // A Redis that is unfit says nothing that is to be relied on.
        if !replies
            .iter()
            .any(|reply| matches!(reply, Value::ServerError(_)))
        {
            let (mut condition, now) = (self.condition(), Instant::now());
            for ((question, _), answer) in questions.iter().zip(&answers) {
                condition.answered(*question, answer, now);
            }
        }
        Ok(replies)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("redis", &self.config.display_addr())
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

/// No code panics while it holds one of these locks; if one did, the state behind
/// it would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
