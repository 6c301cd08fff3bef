//! The signals that ask a process to stop.
//!
//! The first signal starts the orderly stop. The second one means "now": the signal handler itself
//! ends the process, so nothing in the process can delay that, neither threads that are all busy
//! nor a log that nobody reads.
//!
//! SIGHUP is sent when a terminal is closed. `nohup` makes a program ignore it, and these programs
//! keep ignoring it. A shell makes the commands that a script starts with `&` ignore SIGINT and
//! SIGQUIT. That protects commands that would just die; these programs stop in order, so they
//! handle both signals all the same.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::select_all;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask to stop, with their names.
const SIGNALS: [(i32, &str); 4] = [
    (SIGINT, "SIGINT"),
    (SIGTERM, "SIGTERM"),
    (SIGQUIT, "SIGQUIT"),
    (SIGHUP, "SIGHUP"),
];

/// The exit status after a second signal.
const SECOND_SIGNAL_STATUS: i32 = 1;

/// Receives the signals from its creation on.
///
/// From then on the first signal does not end the process by itself. So create this before the work
/// starts, and always act on what [`Self::recv`] returns.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(&'static str, Signal)>,
    /// Whether a signal arrived while the handlers were installed, which the streams did not see.
    missed: bool,
}

impl Signals {
    /// Takes over the signals. Must be called within a Tokio runtime. A second signal ends the process
    /// with status 1, without any clean-up.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a signal handler.
    pub(crate) fn new() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        // The handler that is registered first runs first: a first signal does not find the flag
        // set, and then sets it.
        let mut streams = Vec::new();
        for (number, name) in SIGNALS {
            if number == SIGHUP && is_ignored(number) {
                continue;
            }
            flag::register_conditional_shutdown(number, SECOND_SIGNAL_STATUS, Arc::clone(&asked))?;
            flag::register(number, Arc::clone(&asked))?;
            streams.push((name, signal(SignalKind::from_raw(number))?));
        }
        Ok(Self {
            streams,
            missed: asked.load(Ordering::SeqCst),
        })
    }

    /// Waits for the first signal and returns its name, such as `SIGTERM`. A signal that arrived during
    /// [`Self::new`] has the name "a signal". No second signal is ever returned: also one ends the process
    /// that another thread handles at the same moment, so that its handler does not find the flag set.
    ///
    /// Cancel safe: a signal that no call has returned is returned by the next call.
    pub(crate) async fn recv(&mut self) -> &'static str {
        if std::mem::take(&mut self.missed) {
            // One of the streams may have seen it as well.
            return "a signal";
        }
        let first = next(&mut self.streams).await;
        let mut streams = std::mem::take(&mut self.streams);
        tokio::spawn(async move {
            next(&mut streams).await;
            std::process::exit(SECOND_SIGNAL_STATUS);
        });
        first
    }
}

/// Waits for a signal, and returns its name.
async fn next(streams: &mut [(&'static str, Signal)]) -> &'static str {
    if streams.is_empty() {
        return std::future::pending().await;
    }
    let streams = streams.iter_mut().map(|(name, stream)| {
        Box::pin(async move {
            stream.recv().await;
            *name
        })
    });
    select_all(streams).await.0
}

/// Whether this process has ignored a signal since its start. Only Linux says so; on other systems the
/// signal counts as not ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let ignored = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;

    /// Only one test sends a signal, and only one: a second signal would end the process of all tests.
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
