//! Writes lines to the output on a thread of its own, and says of each line whether it went out.
//!
//! `line_queue` holds the lines until `writer_thread` takes them; `written` is the promise that a
//! caller has for each line. `output_turn` lets several processes share one output, and
//! `output_watch` notices an output that takes nothing.

mod line_queue;
mod stdout;
mod writer_thread;
mod written;

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use line_queue::WaitingLines;
pub use written::{WriteError, Written};

use self::line_queue::LineQueue;
use self::writer_thread::WriterThread;
use super::output_turn::OutputTurn;
use crate::descriptor::wait_writable;
use crate::threads;

/// Hands lines to the thread that writes them. Cheap to clone.
///
/// What else prints to the same output, as `println!` does, may end up within a line.
#[derive(Debug, Clone)]
pub struct LineWriter {
    queue: Arc<LineQueue>,
    /// The output, when it is one that can block.
    blocking_out: Option<Arc<File>>,
}

impl LineWriter {
    /// A writer to this process' stdout. Warns when that is /dev/null.
    ///
    /// # Errors
    /// When stdout was closed at the start of the process, or cannot be written to, and when
    /// the system gives no thread.
    pub(crate) fn stdout() -> io::Result<Self> {
        let out = Arc::new(stdout::open()?);
        let turn = OutputTurn::of(&out)?;
        let blocking_out = turn.is_some().then(|| Arc::clone(&out));
        Self::start(out, blocking_out, turn)
    }

    /// A writer to `out`, which should have no buffer of its own, and which no other
    /// process writes to.
    ///
    /// # Errors
    /// When the system gives no thread.
    #[cfg(test)]
    pub(crate) fn spawn(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::start(out, None, None)
    }

    fn start(
        out: impl Write + Send + 'static,
        blocking_out: Option<Arc<File>>,
        turn: Option<OutputTurn>,
    ) -> io::Result<Self> {
        let queue = Arc::new(LineQueue::new());
        let thread = WriterThread::new(Arc::clone(&queue), out, turn);
        threads::spawn("line-writer", move || thread.run())?;
        Ok(Self {
            queue,
            blocking_out,
        })
    }

    /// Hands `line` to the thread, and returns at once. It does not block, even while the output takes
    /// nothing. Then lines wait in memory without a limit of their own. A job that ends with its
    /// [`Written`] keeps its slot until the line is out, which limits them.
    ///
    /// `line` must end with its only newline, which is not checked. Without one, the next line
    /// continues it. With another one inside, the reader sees two lines.
    ///
    /// The line is written even if its [`Written`] is dropped.
    pub fn write(&self, line: String) -> Written {
        self.queue.push(line)
    }

    /// Gives back every line that was not begun, and accepts no more lines. A line that was begun
    /// is finished if the output takes it.
    pub(crate) fn abandon(&self) {
        self.queue.close(&WriteError::Abandoned);
    }

    /// Gives back every line that was not begun and has waited since `before` or longer.
    pub(crate) fn give_back(&self, before: Instant) {
        self.queue.give_back(before);
    }

    /// Since when the oldest line waits that was not begun.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.queue.oldest()
    }

    /// What waits for the output, if anything does.
    pub(super) fn waiting(&self) -> Option<WaitingLines> {
        self.queue.waiting()
    }

    /// Whether the output has taken something after `time`, or would take something now.
    pub(super) fn flows_since(&self, time: Instant) -> bool {
        let writable = |out: &Arc<File>| wait_writable(&**out, Some(Duration::ZERO));
        let is_idle = || self.queue.waiting().is_none();
        self.queue.moved_after(time)
            || (is_idle() && self.blocking_out.as_ref().is_none_or(writable))
    }
}
