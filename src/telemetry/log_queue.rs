//! Log lines on their way to stderr: a bounded queue, and one thread that writes them.
//!
//! A stderr that nobody reads blocks that thread and nothing else. Lines that do not fit into the
//! queue are dropped and counted, and the log says how many as soon as it flows again.
//!
//! tracing-appender is similar. But at the exit its guard waits for more than a second, and when its
//! queue is full it prints to stdout, which belongs to the jobs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tracing::{Dispatch, warn};

use crate::lock::{lock, unpoisoned};
use crate::{descriptor, threads};

/// How many bytes may wait. A burst of thousands of lines fits.
const MAX_BYTES: usize = 1024 * 1024;
/// How often the log says how many lines were dropped, while more is logged than stderr accepts.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long an exiting process waits for a stderr that accepts nothing.
const FLUSH_PATIENCE: Duration = Duration::from_millis(200);
/// How long an exiting process waits for stderr in all.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The queue of the process.
#[derive(Debug)]
pub(super) struct LogQueue {
    inner: Mutex<Inner>,
    /// Notified when a line was added and when one was written.
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    started: bool,
    lines: VecDeque<Vec<u8>>,
    /// The sum of their lengths.
    bytes: usize,
    /// When the thread began to write the line that is not out yet.
    writing: Option<Instant>,
    /// How many lines were dropped that the log has not reported yet.
    dropped: u64,
}

/// Puts what is written to it into a [`LogQueue`]. Never blocks and never fails.
#[derive(Debug)]
pub(super) struct Enqueue(pub(super) &'static LogQueue);

/// Writes to stderr without the lock of [`std::io::Stderr`]. A thread that is stuck in a write would
/// hold that lock.
#[derive(Debug, Clone)]
pub(super) struct Stderr(Arc<File>);

impl LogQueue {
    pub(super) const fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                started: false,
                lines: VecDeque::new(),
                bytes: 0,
                writing: None,
                dropped: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Starts the thread, unless it runs already. The thread reports dropped lines to `reporter`, which
    /// should write to `out` directly.
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
        let mut inner = self.lock();
        if !inner.lines.is_empty() && inner.bytes + line.len() > MAX_BYTES {
            inner.dropped += 1;
            return;
        }
        inner.bytes += line.len();
        inner.lines.push_back(line.to_vec());
        drop(inner);
        self.changed.notify_all();
    }

    /// Waits until every line is out, but not for a stderr that accepts nothing.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_LIMIT;
        let mut inner = self.lock();
        while inner.started && (inner.writing.is_some() || !inner.lines.is_empty()) {
            let stuck = inner
                .writing
                .map_or(Duration::ZERO, |since| since.elapsed());
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = FLUSH_PATIENCE.saturating_sub(stuck).min(left);
            if patience.is_zero() {
                return;
            }
            (inner, _) = unpoisoned(self.changed.wait_timeout(inner, patience));
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
            // When stderr fails, no place is left to say so.
            flows = out.write_all(&line).is_ok();
            let mut inner = self.lock();
            inner.dropped += u64::from(!flows);
            inner.writing = None;
            drop(inner);
            self.changed.notify_all();
        }
    }

    /// Waits for a line and takes it. Returns with it how many lines were dropped if that should be
    /// reported now: because `report` says so, or because no other line waits.
    fn next(&self, report: bool) -> (Vec<u8>, u64) {
        let mut inner = self.lock();
        loop {
            if let Some(line) = inner.lines.pop_front() {
                inner.bytes -= line.len();
                inner.writing = Some(Instant::now());
                let reports = report || inner.lines.is_empty();
                let dropped = if reports {
                    std::mem::take(&mut inner.dropped)
                } else {
                    0
                };
                return (line, dropped);
            }
            inner = unpoisoned(self.changed.wait(inner));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
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
                // Another process that shares stderr has made it non-blocking.
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
