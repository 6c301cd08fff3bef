//! The way to Redis: each command that goes there has an end, also when Redis is away, and Ctrl-C is
//! heard meanwhile.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use crate::service::jobqueue::inspector::{Connector, Error};

/// How often a Redis that is away is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// A trouble that is over sooner is not worth a word: a connection is opened again, or a Redis has just
/// been started.
const PASSING: Duration = Duration::from_millis(300);
/// Connecting is a few round trips, and each has its own time limit.
const SPARE: Duration = Duration::from_millis(500);

/// What stands between a command and Redis.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    connector: Connector,
    /// How long connecting may take.
    dial_timeout: Duration,
    /// Cancelled by Ctrl-C.
    interrupt: CancellationToken,
}

impl Way {
    pub(crate) fn new(
        connector: Connector,
        dial_timeout: Duration,
        interrupt: CancellationToken,
    ) -> Self {
        Self {
            connector,
            dial_timeout,
            interrupt,
        }
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupt.is_cancelled()
    }

    /// Waits for `time`. Ends early with Ctrl-C.
    pub(super) async fn rest(&self, time: Duration) -> Result<(), Failure> {
        tokio::select! {
            () = sleep(time) => Ok(()),
            () = self.interrupt.cancelled() => Err(Failure::Interrupted("by Ctrl-C".to_owned())),
        }
    }

    /// Waits for an answer of somebody at the terminal. Ends early with Ctrl-C.
    pub(super) async fn unless_interrupted<T>(
        &self,
        answer: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::select! {
            answer = answer => Ok(answer),
            () = self.interrupt.cancelled() => {
                Err(Failure::Interrupted("nothing was changed".to_owned()))
            }
        }
    }

    /// Does `work` in Redis. When Redis is away and stays so, that is the end.
    ///
    /// Ctrl-C does not end work that has begun: whoever does something long asks
    /// [`Self::is_interrupted`] after each step.
    pub(super) async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        self.reach().await?;
        tokio::select! {
            biased;
            done = work => done.map_err(|error| Failure::Redis(self.connector.told(&error))),
            away = self.away() => Err(away),
        }
    }

    /// What an operator is to know of Redis, such as that its memory is full.
    pub(super) async fn warnings(&self) -> Result<Vec<String>, Failure> {
        self.reach().await?;
        self.connector.ready().await.map_err(Failure::Redis)
    }

    /// Waits until Redis can be used.
    async fn reach(&self) -> Result<(), Failure> {
        tokio::select! {
            biased;
            () = self.connector.up() => Ok(()),
            trouble = self.trouble() => Err(Failure::Redis(trouble)),
            () = self.interrupt.cancelled() => {
                Err(Failure::Interrupted("Redis was not reached yet".to_owned()))
            }
        }
    }

    /// Waits until it is known why Redis cannot be used.
    async fn trouble(&self) -> String {
        let since = Instant::now();
        loop {
            sleep(LOOK).await;
            let is_lasting = since.elapsed() >= PASSING.min(self.dial_timeout);
            if let Some(trouble) = self.connector.trouble().filter(|_| is_lasting) {
                return trouble;
            }
            if since.elapsed() >= self.dial_timeout + SPARE {
                return self.connector.silence(self.dial_timeout);
            }
        }
    }

    /// Waits until Redis has gone away, and stays away.
    async fn away(&self) -> Failure {
        loop {
            sleep(LOOK).await;
            if !self.connector.is_up()
                && let Err(failure @ Failure::Redis(_)) = self.reach().await
            {
                return failure;
            }
        }
    }
}
