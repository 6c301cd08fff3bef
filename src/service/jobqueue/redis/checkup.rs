//! Makes a Redis fit for the queue, and asks it how it is.
//!
//! This is done on each fresh connection, after each loss of the stream, and for those who ask
//! whether Redis can be used.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use tracing::info;

use super::condition::Condition;
use super::error::{Class, Error};
use super::keys::Keys;
use super::questions;
use crate::lock::lock;

/// What is to be found out about one queue's Redis, and what was found.
pub(super) struct Checkup {
    keys: Keys,
    /// Each of these commands shows by running that Redis can be used. It answers 1 when it had
    /// to create the consumer group, or the mark of the stream.
    setup: Vec<Cmd>,
    condition: Mutex<Condition>,
}

impl Checkup {
    /// `redis` is the address of the Redis, without secrets.
    pub(super) fn new(redis: String, keys: &Keys, setup: Vec<Cmd>) -> Self {
        Self {
            keys: keys.clone(),
            setup,
            condition: Mutex::new(Condition::new(redis, keys)),
        }
    }

    /// What an operator should know about a Redis that can be used.
    pub(super) fn condition(&self) -> MutexGuard<'_, Condition> {
        lock(&self.condition)
    }

    /// Looks at the server behind a fresh connection.
    pub(super) async fn inspect(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), Error> {
        let answer = connection.send_packed_command(&questions::server()).await?;
        if let Some(version) = questions::version_too_old(&answer) {
            return Err(Error::new(
                Class::Operator,
                format!("found version {version}, expected 7.0 or later; upgrade the server"),
            ));
        }
        self.condition().connected();
        Ok(())
    }

    /// Makes Redis fit for the queue, and asks how it is. Answers the stream's mark, if there is
    /// one. Cancel safe.
    pub(super) async fn set_up(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Arc<str>, Error> {
        let mut incarnation = String::new();
        for reply in self.ask_all(connection, &self.setup).await? {
            match reply {
                Value::ServerError(error) => return Err(Error::from(&error)),
                Value::Int(1) => info!("created the stream's consumer group"),
                // The last one is the mark. One before it may be the hash of a script.
                Value::BulkString(mark) => {
                    incarnation = String::from_utf8_lossy(&mark).into_owned();
                }
                _ => {}
            }
        }
        Ok(incarnation.into())
    }

    /// Asks how Redis is. Whoever needs Redis finds out when it does not answer. Cancel safe.
    pub(super) async fn ask(&self, connection: &mut MultiplexedConnection) {
        drop(self.ask_all(connection, &[]).await);
    }

    /// Sends `commands` and asks how Redis is, in one round trip, because Redis may be far
    /// away. Returns the replies to the commands.
    async fn ask_all(
        &self,
        connection: &mut MultiplexedConnection,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, Error> {
        let questions = self.condition().questions(Instant::now());
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.add_command(command.clone());
        }
        for question in &questions {
            pipeline.add_command(question.command(&self.keys));
        }
        let mut replies = connection
            .send_packed_commands(&pipeline, 0, pipeline.len())
            .await?;
        let answers = replies.split_off(commands.len().min(replies.len()));
        let is_refusal = |reply: &Value| matches!(reply, Value::ServerError(_));
        // What a Redis that is unfit says of itself does not count.
        if !replies.iter().any(is_refusal) {
            let (mut condition, now) = (self.condition(), Instant::now());
            for (question, answer) in questions.iter().zip(&answers) {
                condition.answered(*question, question.read(answer), now);
            }
        }
        Ok(replies)
    }
}
