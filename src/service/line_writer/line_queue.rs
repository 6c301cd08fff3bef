//! The lines that wait for the writer's thread, and how far the thread has got with them.
//!
//! A line that is still in the queue has surely not been begun, so it can be given back. What is
//! taken out is begun: from then on only the output decides what becomes of it.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::written::{Promise, WriteError, Written};
use crate::lock::{lock, unpoisoned};

/// Lines on their way from the callers to the thread.
#[derive(Debug)]
pub(super) struct LineQueue {
    inner: Mutex<Inner>,
    /// Notified when lines were added for a sleeping thread, and when the queue was closed.
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    lines: VecDeque<Line>,
    /// How many lines were taken out and are not written yet.
    begun: usize,
    /// When the oldest of those was added.
    begun_since: Instant,
    /// When the output last took something.
    moved: Instant,
    /// Whether the thread sleeps: only then it has to be woken.
    thread_sleeps: bool,
    /// Why no line is accepted any more.
    closed: Option<WriteError>,
}

/// One line, with its newline.
#[derive(Debug)]
pub(super) struct Line {
    text: String,
    /// When the line was added.
    since: Instant,
    promise: Promise,
}

/// Lines that wait for the output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitingLines {
    /// How many lines wait. The line that is being written counts.
    pub(crate) count: usize,
    /// Since when the output has taken nothing of them.
    pub(crate) stuck_since: Instant,
    /// When the oldest of them was added.
    pub(crate) oldest: Instant,
}

impl LineQueue {
    pub(super) fn new() -> Self {
        let inner = Inner {
            lines: VecDeque::new(),
            begun: 0,
            begun_since: Instant::now(),
            moved: Instant::now(),
            thread_sleeps: false,
            closed: None,
        };
        Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    /// Adds a line, which ends with its only newline.
    pub(super) fn push(&self, text: String) -> Written {
        let mut inner = lock(&self.inner);
        if let Some(error) = &inner.closed {
            return Written::known(Err(error.clone()));
        }
        let (promise, written) = Promise::new();
        let since = Instant::now();
        inner.lines.push_back(Line {
            text,
            since,
            promise,
        });
        let thread_sleeps = mem::take(&mut inner.thread_sleeps);
        drop(inner);
        if thread_sleeps {
            self.changed.notify_one();
        }
        written
    }

    /// Gives back all lines with `error`, and accepts no more.
    pub(super) fn close(&self, error: &WriteError) {
        let mut inner = lock(&self.inner);
        let lines = mem::take(&mut inner.lines);
        inner.closed.get_or_insert(error.clone());
        drop(inner);
        resolve(lines, 0, error);
        self.changed.notify_one();
    }

    /// Gives back the lines that were added at `before` or earlier.
    pub(super) fn give_back(&self, before: Instant) {
        let mut inner = lock(&self.inner);
        let late = inner.lines.iter().take_while(|line| line.since <= before);
        let late = late.count();
        let lines: Vec<Line> = inner.lines.drain(..late).collect();
        drop(inner);
        resolve(lines, 0, &WriteError::Abandoned);
    }

    /// When the oldest line was added that was not begun.
    pub(super) fn oldest(&self) -> Option<Instant> {
        lock(&self.inner).lines.front().map(|line| line.since)
    }

    /// What waits for the output, if anything does.
    pub(super) fn waiting(&self) -> Option<WaitingLines> {
        let inner = lock(&self.inner);
        let count = inner.lines.len() + inner.begun;
        let front = inner.lines.front().map(|line| line.since);
        let (stuck_since, oldest) = match front {
            Some(front) if inner.begun == 0 => (inner.moved.max(front), front),
            _ => (inner.moved, inner.begun_since),
        };
        (count > 0).then_some(WaitingLines {
            count,
            stuck_since,
            oldest,
        })
    }

    /// Whether the output has taken something after `time`.
    pub(super) fn moved_after(&self, time: Instant) -> bool {
        lock(&self.inner).moved > time
    }

    /// Waits for lines. False when there will be none.
    pub(super) fn wait_for_lines(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.begun = 0;
        let waited = self.changed.wait_while(inner, |inner| {
            inner.thread_sleeps = inner.lines.is_empty() && inner.closed.is_none();
            inner.thread_sleeps
        });
        !unpoisoned(waited).lines.is_empty()
    }

    /// Begins the oldest lines: as many as have `limit` bytes together, or one line that is longer.
    pub(super) fn take_chunk(&self, limit: usize) -> Vec<Line> {
        let mut inner = lock(&self.inner);
        let mut chunk = Vec::new();
        let mut bytes = 0;
        while let Some(line) = inner.lines.front()
            && (chunk.is_empty() || bytes + line.text.len() <= limit)
        {
            bytes += line.text.len();
            chunk.extend(inner.lines.pop_front());
        }
        inner.begun = chunk.len();
        if let Some(oldest) = chunk.first() {
            inner.begun_since = oldest.since;
        }
        inner.moved = Instant::now();
        chunk
    }

    /// Notes that the output takes more of a line that was begun.
    pub(super) fn note_moved(&self) {
        lock(&self.inner).moved = Instant::now();
    }
}

/// Resolves the lines within the first `written` bytes as written, and the others with `error`.
pub(super) fn resolve(lines: impl IntoIterator<Item = Line>, written: usize, error: &WriteError) {
    let mut end = 0;
    for line in lines {
        end += line.text.len();
        line.promise.resolve(match end <= written {
            true => Ok(()),
            false => Err(error.clone()),
        });
    }
}

/// The bytes of the lines, one after another.
pub(super) fn concat(lines: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.text.len()).sum());
    for line in lines {
        bytes.extend_from_slice(line.text.as_bytes());
    }
    bytes
}
