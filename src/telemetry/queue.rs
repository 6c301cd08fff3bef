//! Log lines on their way to stderr: a bounded queue, and one thread that writes them.
//!
//! A stderr that nobody reads blocks that thread and nothing else. What the queue has no
//! room for is dropped and counted, and the log says how many as soon as it flows again.
//! (tracing-appender is close to this. But at the exit its guard waits for more than a
//! second, and prints to stdout, which belongs to the jobs, when its queue is full.)

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Dispatch, warn};

use crate::{descriptor, threads};

/// How much may wait. A burst of thousands of lines fits, and the memory is bounded.
const MAX_BYTES: usize = 1024 * 1024;
/// While more is logged than goes out, the log says this often how much was dropped.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long an exiting process waits for a stderr that takes nothing, and in all.
const FLUSH_PATIENCE: Duration = Duration::from_millis(200);
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// See the file's head.
#[derive(Debug)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    /// There is a line to write, or one has been written.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    started: bool,
    lines: VecDeque<Vec<u8>>,
    /// The sum of their lengths.
    bytes: usize,
    /// When the thread began to write a line that is not out yet.
    writing: Option<Instant>,
    /// Lines that nobody will see, and that the log has not told of.
    dropped: u64,
}

/// Puts what is written to it into a [`LogQueue`]. Never blocks and never fails.
#[derive(Debug)]
pub(super) struct Enqueue(pub(super) &'static LogQueue);

/// Writes to stderr past the lock of [`std::io::Stderr`]: who waits for that lock waits for
/// whoever is stuck in a write.
#[derive(Debug, Clone)]
pub(super) struct Stderr(Arc<File>);

impl LogQueue {
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                started: false,
                lines: VecDeque::new(),
                bytes: 0,
                writing: None,
                dropped: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Starts the thread, unless it runs already. `reporter` is where it says how many
    /// lines were dropped; it should write to `out` itself.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(&'static self, out: Stderr, reporter: Dispatch) -> io::Result<()> {
        if std::mem::replace(&mut self.lock().started, true) {
            return Ok(());
        }
        let spawned = threads::spawn("log", move || self.run(out, &reporter));
        self.lock().started = spawned.is_ok();
        spawned.map(drop)
    }

    /// Adds a line, or counts it when there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if !state.lines.is_empty() && state.bytes + line.len() > MAX_BYTES {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until every line is out, as long as stderr takes them.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_LIMIT;
        let mut state = self.lock();
        while state.started && (state.writing.is_some() || !state.lines.is_empty()) {
            let stuck = state
                .writing
                .map_or(Duration::ZERO, |since| since.elapsed());
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = FLUSH_PATIENCE.saturating_sub(stuck).min(left);
            if patience.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, patience);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, mut out: Stderr, reporter: &Dispatch) {
        let mut reported = Instant::now() - REPORT_INTERVAL;
        let mut flows = true;
        loop {
            let (line, dropped) = self.next(flows && reported.elapsed() >= REPORT_INTERVAL);
            if dropped > 0 {
                reported = Instant::now();
                tracing::dispatcher::with_default(reporter, || {
                    warn!(dropped, "log lines were dropped: stderr did not take them");
                });
            }
            // When stderr fails there is nowhere to say so.
            flows = out.write_all(&line).is_ok();
            let mut state = self.lock();
            state.dropped += u64::from(!flows);
            state.writing = None;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for a line and takes it. How many were dropped comes with it when that is to
    /// be told: because `report` says so, or because this is the last line for now.
    fn next(&self, report: bool) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = Some(Instant::now());
                let tell = report || state.lines.is_empty();
                let dropped = if tell {
                    std::mem::take(&mut state.dropped)
                } else {
                    0
                };
                return (line, dropped);
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Enqueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stderr {
    /// # Errors
    /// When the process has as many files open as it may.
    pub(super) fn open() -> io::Result<Self> {
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Self(Arc::new(File::from(stderr))))
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&*self.0).write(bytes) {
                // Somebody who shares it has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    descriptor::wait_writable(&*self.0, None);
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
