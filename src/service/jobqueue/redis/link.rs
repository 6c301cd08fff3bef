//! One part's connection to Redis. It is opened again by itself after an outage.
//!
//! When a part's own connection ends, or a reply on it is too late, that is no outage: the
//! connection is opened anew, and the other parts are told only if that fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::backoff::gap_left;
use super::connector::Connector;
use super::error::{Class, Error};
use super::scripts;

/// A part's connection that has ended so many times is told, but no more often than once in
/// this interval.
const MANY_ENDS: u32 = 10;
const ENDS_INTERVAL: Duration = Duration::from_secs(60);

/// What a part sends its commands over.
#[derive(Debug)]
pub(crate) struct Link {
    connector: Connector,
    /// The connection's name, when it is not the shared one.
    own: Option<&'static str>,
    /// How long a reply may take that brings next to nothing.
    response_timeout: Duration,
    /// The open connection, and the generation in which it was opened.
    open: Option<(u64, MultiplexedConnection)>,
    /// When it was opened last.
    opened: Option<Instant>,
    /// How often it has ended since its ends were told last.
    ends: u32,
    /// When its ends were told last.
    told: Option<Instant>,
    /// The epoch at the last [`Self::connect`], and the stream's mark in that epoch.
    epoch: u64,
    incarnation: Arc<str>,
}

impl Link {
    /// Waits until the connection can be used, and opens it when it is not open.
    /// True when it was opened now. Cancel safe.
    pub(crate) async fn connect(&mut self) -> bool {
        loop {
            let status = self.connector.up_beyond(None).await;
            self.epoch = status.epoch;
            self.incarnation = status.incarnation;
            if let Some((generation, _)) = &self.open
                && *generation == status.generation
            {
                return false;
            }
            self.open = None;
            let opened = match self.own {
                None => match self.connector.shared() {
                    Some((status, shared)) => {
                        self.epoch = status.epoch;
                        self.incarnation = status.incarnation;
                        Ok((status.generation, shared))
                    }
                    // It was lost again after `up_beyond` had returned.
                    None => continue,
                },
                Some(name) => {
                    sleep(gap_left(self.opened.map(|at| at.elapsed()))).await;
                    self.opened = Some(Instant::now());
                    let opened = self.connector.open_own(name, self.response_timeout);
                    let opened = opened.await;
                    opened.map(|connection| (status.generation, connection))
                }
            };
            match opened {
                Ok(open) => {
                    self.open = Some(open);
                    return true;
                }
                // While the shared connection works, the line is only full.
                Err(error) if self.own.is_some() && error.is_timeout() => {
                    debug!(%error, "cannot open a connection in time");
                }
                Err(error) => self.connector.lost(status.generation, &error),
            }
        }
    }

    /// Whether Redis could be used a moment ago.
    pub(crate) fn is_up(&self) -> bool {
        self.connector.is_up()
    }

    /// Counts how often Redis was found fit, as of the last [`Self::connect`].
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether `epoch` is not over, and the connection has not ended, as far as is known.
    pub(crate) fn is_still_in(&self, epoch: u64) -> bool {
        self.open.is_some() && self.connector.is_in(epoch)
    }

    /// The mark of the stream in that epoch.
    pub(super) fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// Waits until the next epoch. Cancel safe.
    pub(crate) async fn next_epoch(&self) {
        self.connector.up_beyond(Some(self.epoch)).await;
    }

    /// The queue was found to be paused, or not to be.
    pub(crate) fn found_paused(&self, paused: bool) {
        self.connector.condition().paused(paused, Instant::now());
    }

    /// Sends one command. `what` names it in the log while it fails.
    ///
    /// Not cancel safe: a dropped future's command may still run.
    pub(super) async fn call(&mut self, what: &'static str, cmd: &Cmd) -> Result<Value, Error> {
        self.call_within(what, cmd, Duration::ZERO).await
    }

    /// Sends one command whose reply may take `time` longer than others.
    ///
    /// Not cancel safe: a dropped future's command may still run.
    pub(super) async fn call_within(
        &mut self,
        what: &'static str,
        cmd: &Cmd,
        time: Duration,
    ) -> Result<Value, Error> {
        self.allow(time);
        let reply = self.ask(cmd).await;
        self.allow(Duration::ZERO);
        self.judge(what, reply)
    }

    /// Sends one command. Its failure changes nothing for other parts and is not logged.
    pub(super) async fn ask(&mut self, cmd: &Cmd) -> Result<Value, Error> {
        let Some((_, connection)) = &mut self.open else {
            return Err(not_connected());
        };
        let mut reply = connection.send_packed_command(cmd).await?;
        if let Value::ServerError(error) = &reply
            && scripts::is_unknown(error)
            && let Some(whole) = scripts::whole(cmd)
        {
            reply = connection.send_packed_command(&whole).await?;
        }
        match reply {
            Value::ServerError(error) => Err(Error::from(&error)),
            reply => Ok(reply),
        }
    }

    /// Sends commands in one round trip that may take `time` longer than others. The link can send
    /// more of them meanwhile. When Redis answers one of them with an error, that error stands among
    /// the replies. The caller gives the result and such errors to [`Self::judge_in`].
    ///
    /// Not cancel safe: a dropped future's commands may still run.
    pub(super) fn send(
        &self,
        pipeline: Pipeline,
        time: Duration,
    ) -> impl Future<Output = Result<Vec<Value>, Error>> + use<> {
        let open = self.open.clone();
        let timeout = self.response_timeout + time;
        async move {
            let (_, mut connection) = open.ok_or_else(not_connected)?;
            connection.set_response_timeout(timeout);
            let mut replies = connection
                .send_packed_commands(&pipeline, 0, pipeline.len())
                .await?;
            for (cmd, reply) in pipeline.cmd_iter().zip(&mut replies) {
                if let Value::ServerError(error) = reply
                    && scripts::is_unknown(error)
                    && let Some(whole) = scripts::whole(cmd)
                {
                    *reply = connection.send_packed_command(&whole).await?;
                }
            }
            Ok(replies)
        }
    }

    /// Sends one command whose reply may take `time` longer than others. The link can send more of them
    /// meanwhile. The caller gives the result to [`Self::judge_in`].
    ///
    /// Not cancel safe: a dropped future's command may still run.
    pub(super) fn send_one(
        &self,
        cmd: Cmd,
        time: Duration,
    ) -> impl Future<Output = Result<Value, Error>> + use<> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(cmd);
        let replies = self.send(pipeline, time);
        async move {
            match replies.await?.pop() {
                Some(Value::ServerError(error)) => Err(Error::from(&error)),
                // Where a reply is missing, its shape is wrong.
                reply => Ok(reply.unwrap_or_default()),
            }
        }
    }

    /// This part's own connection has ended. That is worth a warning when it happens again and
    /// again.
    fn ended(&mut self, what: &'static str, error: &Error) {
        let connection = self.own;
        debug!(connection, what, %error, "this connection is of no use any more");
        self.ends += 1;
        let silent = self.told.is_some_and(|told| told.elapsed() < ENDS_INTERVAL);
        if self.ends >= MANY_ENDS && !silent {
            let times = self.ends;
            // Several commands share the name of a renewal, so only the connection tells them apart.
            warn!(connection, times, %error, "a connection to redis ends again and again");
            self.ends = 0;
            self.told = Some(Instant::now());
        }
    }

    fn allow(&mut self, time: Duration) {
        if let Some((_, connection)) = &mut self.open {
            connection.set_response_timeout(self.response_timeout + time);
        }
    }

    /// Draws the consequences of a command's result: for the log, for this connection, and for
    /// the other parts.
    pub(super) fn judge<T>(
        &mut self,
        what: &'static str,
        result: Result<T, Error>,
    ) -> Result<T, Error> {
        match &result {
            Ok(_) => {
                self.connector.log().recovered(what, Instant::now());
            }
            Err(error) if error.class == Class::Operator => {
                self.connector.log().failed(what, error, Instant::now());
            }
            // No answer came, and nobody else uses this connection.
            Err(error) if self.own.is_some() && error.code.is_none() => {
                self.open = None;
                self.ended(what, error);
            }
            Err(error) => {
                if let Some((generation, _)) = &self.open {
                    self.connector.lost(*generation, error);
                }
                if error.class != Class::Repair {
                    self.open = None;
                }
            }
        }
        result
    }

    /// Draws the consequences of a command that was sent in `epoch`. When that epoch is over, or the
    /// connection has ended, they were drawn.
    pub(crate) fn judge_in<T>(
        &mut self,
        epoch: u64,
        what: &'static str,
        result: Result<T, Error>,
    ) -> Result<T, Error> {
        if self.is_still_in(epoch) {
            self.judge(what, result)
        } else {
            result
        }
    }
}

impl Connector {
    /// A link with a connection of its own, which `CLIENT LIST` shows by `name`. Its replies may
    /// take `blocking` longer than those of other links.
    pub(crate) fn link(&self, name: &'static str, blocking: Duration) -> Link {
        self.new_link(Some(name), blocking)
    }

    /// A link that uses the shared connection.
    pub(crate) fn shared_link(&self) -> Link {
        self.new_link(None, Duration::ZERO)
    }

    fn new_link(&self, own: Option<&'static str>, blocking: Duration) -> Link {
        Link {
            connector: self.clone(),
            own,
            response_timeout: self.response_timeout() + blocking,
            open: None,
            opened: None,
            ends: 0,
            told: None,
            epoch: 0,
            incarnation: "".into(),
        }
    }
}

fn not_connected() -> Error {
    Error::new(Class::Wait, "not connected to redis")
}
