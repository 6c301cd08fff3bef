//! The signals that ask a process to stop.
//!
//! The first one starts the graceful shutdown; whoever runs it keeps the
//! `Signals` and waits for a second one, which means "now".

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for SIGINT and SIGTERM from its creation on.
///
/// From then on neither signal ends the process by itself, so create it before
/// the work starts, and always act on what it yields.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes over both signals. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a signal handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal and returns its name, `SIGINT` or `SIGTERM`.
    ///
    /// The system merges equal signals that arrive before the first is seen. Cancel safe:
    /// a signal that no call has returned is returned by the next call.
    pub async fn recv(&mut self) -> &'static str {
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

    fn send_to_this_process(signal: &str) {
        let kill = format!("kill -{signal} {}", std::process::id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// One test, because every `Signals` of the process gets every signal.
    #[tokio::test]
    async fn every_signal_is_received_once_and_by_name() {
        let mut signals = Signals::new().unwrap();
        for name in ["SIGTERM", "SIGINT", "SIGTERM"] {
            let early = tokio::time::timeout(Duration::ZERO, signals.recv()).await;
            assert!(early.is_err(), "{early:?} was not sent");
            send_to_this_process(&name[3..]);
            let received = tokio::time::timeout(Duration::from_secs(5), signals.recv()).await;
            assert_eq!(received.unwrap(), name);
        }
    }
}
