//! The signals that ask a process to stop.
//!
//! The first one starts the graceful shutdown. The second one means "now": the signal
//! handler itself ends the process, so that nothing in the process can hold it up, be it
//! threads that are all busy or a log that nobody reads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit status after a second signal.
const SECOND_SIGNAL_STATUS: i32 = 1;

/// Listens for SIGINT and SIGTERM from its creation on.
///
/// From then on the first of them does not end the process by itself, so create it before
/// the work starts, and always act on what it yields.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// A signal came while the handlers were being installed, and the streams missed it.
    missed: bool,
}

impl Signals {
    /// Takes over both signals. Must be called within a Tokio runtime. A second signal
    /// ends the process with status 1, without any clean-up.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a signal handler.
    pub fn new() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        // What is registered first runs first: the signal that sets the flag does not
        // find it set.
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, SECOND_SIGNAL_STATUS, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            missed: asked.load(Ordering::SeqCst),
        })
    }

    /// Waits for the first signal and returns its name, `SIGINT` or `SIGTERM`, or "a signal"
    /// for one that came during [`Self::new`]. There is no second one to wait for.
    ///
    /// Cancel safe: a signal that no call has returned is returned by the next call.
    pub async fn recv(&mut self) -> &'static str {
        if std::mem::take(&mut self.missed) {
            return "a signal";
        }
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;

    /// One test with one signal: a second one would end the process of all the tests.
    #[tokio::test]
    async fn the_first_signal_is_received_by_name() {
        let mut signals = Signals::new().unwrap();
        let early = tokio::time::timeout(Duration::ZERO, signals.recv()).await;
        assert!(early.is_err(), "{early:?} was not sent");
        let kill = format!("kill -TERM {}", std::process::id());
        let kill = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(kill.success());
        let received = tokio::time::timeout(Duration::from_secs(5), signals.recv()).await;
        assert_eq!(received.unwrap(), "SIGTERM");
    }
}
