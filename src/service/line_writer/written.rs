//! What becomes of one line: a promise that the writer keeps, and its other half for the caller.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::lock::lock;

/// Why a line did not go out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The output failed. It takes no other line either.
    #[error("cannot write to the output: {0}")]
    Output(Arc<io::Error>),
    /// The line was given back before it was begun: the worker stops, or the output has taken nothing
    /// for as long as a job may take.
    #[error("the line was given back before it was begun")]
    Abandoned,
}

/// A line that the writer has. Only the writer decides what becomes of it.
#[derive(Debug)]
pub struct Written(Arc<Mutex<Fate>>);

/// The writer's half of a [`Written`]. It is resolved exactly once.
#[derive(Debug)]
pub(super) struct Promise(Arc<Mutex<Fate>>);

/// What is known of a line.
enum Fate {
    /// Nothing, and nobody waits for it.
    Open,
    /// Nothing; this is called once it is known.
    Awaited(Box<dyn FnOnce(Result<(), WriteError>) + Send>),
    /// The line went out, or why it did not.
    Known(Result<(), WriteError>),
}

impl Written {
    /// A line whose fate is known from the start.
    pub(super) fn known(result: Result<(), WriteError>) -> Self {
        Self(Arc::new(Mutex::new(Fate::Known(result))))
    }

    /// Calls `done` once it is known whether the line went out: on the writer's thread, or at once
    /// when it is known already. `done` must not block, since other lines wait meanwhile.
    pub fn then(self, done: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        let mut fate = lock(&self.0);
        match std::mem::replace(&mut *fate, Fate::Open) {
            Fate::Known(result) => {
                drop(fate);
                done(result);
            }
            _ => *fate = Fate::Awaited(Box::new(done)),
        }
    }

    /// Waits until it is known whether the line went out. Cancel safe: the line is written in any
    /// case.
    ///
    /// # Errors
    /// The reason why the line did not go out.
    pub async fn wait(self) -> Result<(), WriteError> {
        let (sender, receiver) = oneshot::channel();
        // Sending fails when this future was dropped: then nobody waits for the result.
        self.then(|result| drop(sender.send(result)));
        // The writer resolves every line that it has, unless its thread has panicked.
        receiver.await.unwrap_or(Err(WriteError::Abandoned))
    }
}

impl Promise {
    /// A promise and its other half.
    pub(super) fn new() -> (Self, Written) {
        let fate = Arc::new(Mutex::new(Fate::Open));
        (Self(Arc::clone(&fate)), Written(fate))
    }

    /// Makes the fate of the line known.
    pub(super) fn resolve(self, result: Result<(), WriteError>) {
        let mut fate = lock(&self.0);
        match std::mem::replace(&mut *fate, Fate::Open) {
            Fate::Awaited(done) => {
                drop(fate);
                done(result);
            }
            _ => *fate = Fate::Known(result),
        }
    }
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Awaited(_) => "Awaited",
            Self::Known(_) => "Known",
        })
    }
}
