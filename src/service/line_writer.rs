//! One thread that writes lines to the output, and tells for each whether it went out.
//!
//! Lines that are ready go out together, cut at line ends into chunks of at most
//! PIPE_BUF bytes. A longer line goes alone. On an output that can block, a line is taken
//! out of the queue only when the output takes more and it is this process' turn, see
//! `output_turn`: what is still in the queue has surely not been begun, and can be
//! given back. A blocked output blocks this thread and nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::sync::oneshot;
use tracing::warn;

use super::output_turn::{OutputTurn, PIPE_BUF};
use crate::descriptor::wait_writable;
use crate::threads;

/// How long the thread waits for a blocked output before it looks whether lines are still
/// wanted.
const BLOCKED_LOOK: Duration = Duration::from_secs(1);
/// How long to wait before writing again to an output that is non-blocking and full.
const NON_BLOCKING_PAUSE: Duration = Duration::from_millis(1);
/// Other processes get their turn after so many bytes.
const MAX_TURN_BYTES: usize = 64 * 1024;

/// Hands lines to the thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LineWriter(Arc<Shared>);

/// Why a line did not go out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The output does not take it, nor any other.
    #[error("cannot write to the output: {0}")]
    Output(Arc<io::Error>),
    /// It was given back before it was begun, by [`LineWriter::abandon`] or
    /// [`LineWriter::give_back`].
    #[error("the line was given back before it was begun")]
    Abandoned,
}

/// A line that is with the writer, which alone decides what becomes of it.
#[derive(Debug)]
pub struct Written(Arc<Mutex<Fate>>);

enum Fate {
    Open,
    /// Who is to be told.
    Awaited(Box<dyn FnOnce(Result<(), WriteError>) + Send>),
    Known(Result<(), WriteError>),
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// There are lines, or they are not wanted any more.
    changed: Condvar,
    /// The output, when it is one that can block.
    out: Option<Arc<File>>,
}

#[derive(Debug)]
struct Queue {
    lines: VecDeque<Line>,
    /// How many lines were taken out that are not out yet.
    begun: usize,
    /// Since when the oldest of them waits.
    begun_since: Instant,
    /// When the output last took something.
    moved: Instant,
    /// The thread sleeps: only then does it have to be woken.
    waits: bool,
    /// Why no line is taken any more.
    closed: Option<WriteError>,
}

#[derive(Debug)]
struct Line {
    text: String,
    since: Instant,
    fate: Arc<Mutex<Fate>>,
}

/// Lines that wait for the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// How many, the one that is being written included.
    pub(super) lines: usize,
    /// Since when none of them has got any further.
    pub(super) since: Instant,
    /// Since when the oldest of them waits.
    pub(super) oldest: Instant,
}

impl LineWriter {
    /// A writer to this process' stdout. Warns when that goes nowhere.
    ///
    /// # Errors
    /// When stdout was closed at the start of the process, or cannot be written to, and when
    /// the system gives no thread.
    pub fn stdout() -> io::Result<Self> {
        // Without the line buffer of `std::io::Stdout`, which would not tell how much
        // of a chunk went out before an error.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        if !is_for_writing(&out)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "stdout is closed, or not open for writing, and jobs print to it; give it a file, \
                 a pipe or a terminal, or >/dev/null if what jobs print may be lost",
            ));
        }
        if is_null(&out)? {
            warn!("stdout is /dev/null: what jobs print goes nowhere");
        }
        let out = Arc::new(out);
        let turn = OutputTurn::of(&out)?;
        Self::start(Arc::clone(&out), turn.is_some().then_some(out), turn)
    }

    /// A writer to `out`, which should have no buffer of its own, and which no other
    /// process writes to.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::start(out, None, None)
    }

    fn start(
        out: impl Write + Send + 'static,
        blocks: Option<Arc<File>>,
        turn: Option<OutputTurn>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(blocks));
        let thread = Arc::clone(&shared);
        threads::spawn("line-writer", move || thread.run(out, turn))?;
        Ok(Self(shared))
    }

    /// Writes `line`, which ends with its only newline.
    pub fn write(&self, line: String) -> Written {
        let mut queue = lock(&self.0.queue);
        if let Some(error) = &queue.closed {
            let known = Fate::Known(Err(error.clone()));
            return Written(Arc::new(Mutex::new(known)));
        }
        let fate = Arc::new(Mutex::new(Fate::Open));
        let written = Written(Arc::clone(&fate));
        queue.lines.push_back(Line {
            text: line,
            since: Instant::now(),
            fate,
        });
        let waits = std::mem::take(&mut queue.waits);
        drop(queue);
        if waits {
            self.0.changed.notify_one();
        }
        written
    }

    /// Gives back every line that was not begun, and takes no more. What is being
    /// written is finished if the output takes it.
    pub fn abandon(&self) {
        self.0.close(WriteError::Abandoned);
    }

    /// Gives back every line that has waited since `before` or longer and was not begun.
    pub fn give_back(&self, before: Instant) {
        let mut queue = lock(&self.0.queue);
        let late = queue.lines.iter().take_while(|line| line.since <= before);
        let late = late.count();
        let lines: Vec<Line> = queue.lines.drain(..late).collect();
        drop(queue);
        answer(lines, 0, &WriteError::Abandoned);
    }

    /// Since when the oldest line waits that was not begun.
    pub(super) fn oldest(&self) -> Option<Instant> {
        lock(&self.0.queue).lines.front().map(|line| line.since)
    }

    /// What waits for the output, if anything does.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        let queue = lock(&self.0.queue);
        let lines = queue.lines.len() + queue.begun;
        let front = queue.lines.front().map(|line| line.since);
        let (since, oldest) = match front {
            Some(front) if queue.begun == 0 => (queue.moved.max(front), front),
            _ => (queue.moved, queue.begun_since),
        };
        (lines > 0).then_some(Waiting {
            lines,
            since,
            oldest,
        })
    }

    /// Whether the output has taken something since `time`, or would.
    pub(super) fn flows_since(&self, time: Instant) -> bool {
        let queue = lock(&self.0.queue);
        let idle = queue.lines.is_empty() && queue.begun == 0;
        let moved = queue.moved > time;
        drop(queue);
        let writable = |out: &Arc<File>| wait_writable(&**out, Some(Duration::ZERO));
        moved || (idle && self.0.out.as_ref().is_none_or(writable))
    }
}

impl Written {
    /// Calls `done` once it is known whether the line went out: on the writer's thread, or
    /// at once when it is known already. It must not block: other lines wait meanwhile.
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

    /// Waits until it is known. Cancel safe: the line goes its way in any case.
    ///
    /// # Errors
    /// Why the line did not go out.
    pub async fn wait(self) -> Result<(), WriteError> {
        let (sender, receiver) = oneshot::channel();
        // If this is dropped, nobody wants to know.
        self.then(|result| drop(sender.send(result)));
        // The writer answers every line that it takes.
        receiver.await.unwrap_or(Err(WriteError::Abandoned))
    }
}

impl Line {
    fn answer(self, result: Result<(), WriteError>) {
        let mut fate = lock(&self.fate);
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

impl Shared {
    fn new(out: Option<Arc<File>>) -> Self {
        let queue = Queue {
            lines: VecDeque::new(),
            begun: 0,
            begun_since: Instant::now(),
            moved: Instant::now(),
            waits: false,
            closed: None,
        };
        Self {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            out,
        }
    }

    fn run(&self, mut out: impl Write, mut turn: Option<OutputTurn>) {
        while self.wait_for_lines() {
            let Some(turn) = &mut turn else {
                if self.write_chunk(&mut out, PIPE_BUF, None).is_none() {
                    return;
                }
                continue;
            };
            if !turn.wait_writable(BLOCKED_LOOK) || !turn.begin() {
                continue;
            }
            let ended = self.write_turn(&mut out, turn);
            turn.end();
            if ended.is_none() {
                return;
            }
        }
    }

    /// Writes lines while there are any, the output takes them, and others need not wait
    /// for too long. None when the output has failed.
    fn write_turn(&self, out: &mut impl Write, turn: &OutputTurn) -> Option<()> {
        let mut bytes = 0;
        while bytes < MAX_TURN_BYTES && (bytes == 0 || turn.writable()) {
            match self.write_chunk(out, turn.chunk_bytes(), Some(turn))? {
                0 => break,
                count => bytes += count,
            }
        }
        Some(())
    }

    /// Writes one chunk and answers its lines. How many bytes it had; None when the output
    /// has failed.
    fn write_chunk(
        &self,
        out: &mut impl Write,
        limit: usize,
        turn: Option<&OutputTurn>,
    ) -> Option<usize> {
        let chunk = self.take_chunk(limit);
        let bytes = concat(&chunk);
        let (written, result) = self.write_all(out, &bytes, turn);
        if let Err(error) = result {
            let error = WriteError::Output(Arc::new(error));
            // First, so that whoever learns of the error finds the writer closed.
            self.close(error.clone());
            answer(chunk, written, &error);
            return None;
        }
        answer(chunk, written, &WriteError::Abandoned);
        Some(bytes.len())
    }

    /// Waits for lines. False when there will be none.
    fn wait_for_lines(&self) -> bool {
        let mut queue = lock(&self.queue);
        queue.begun = 0;
        let queue = self
            .changed
            .wait_while(queue, |queue| {
                queue.waits = queue.lines.is_empty() && queue.closed.is_none();
                queue.waits
            })
            .unwrap_or_else(PoisonError::into_inner);
        !queue.lines.is_empty()
    }

    /// Takes as many lines as have `limit` bytes together, or one that is longer. They are
    /// begun from now on: only the output decides what becomes of them.
    fn take_chunk(&self, limit: usize) -> Vec<Line> {
        let mut queue = lock(&self.queue);
        let mut chunk = Vec::new();
        let mut bytes = 0;
        while let Some(line) = queue.lines.front()
            && (chunk.is_empty() || bytes + line.text.len() <= limit)
        {
            bytes += line.text.len();
            chunk.extend(queue.lines.pop_front());
        }
        queue.begun = chunk.len();
        if let Some(oldest) = chunk.first() {
            queue.begun_since = oldest.since;
        }
        queue.moved = Instant::now();
        chunk
    }

    /// How many bytes went out, and what went wrong if that is not all. To an output that
    /// can block, in pieces that it takes without blocking: so it is known when it moves.
    fn write_all(
        &self,
        out: &mut impl Write,
        bytes: &[u8],
        turn: Option<&OutputTurn>,
    ) -> (usize, io::Result<()>) {
        let piece = turn.map_or(usize::MAX, |_| PIPE_BUF);
        let mut written = 0;
        while written < bytes.len() {
            if written > 0
                && let Some(turn) = turn
            {
                while !turn.wait_writable(BLOCKED_LOOK) {}
                turn.resume();
                lock(&self.queue).moved = Instant::now();
            }
            let end = bytes.len().min(written.saturating_add(piece));
            match out.write(&bytes[written..end]) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody who shares the output has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match &self.out {
                    Some(out) => drop(wait_writable(&**out, None)),
                    None => thread::sleep(NON_BLOCKING_PAUSE),
                },
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    fn close(&self, error: WriteError) {
        let mut queue = lock(&self.queue);
        let lines = std::mem::take(&mut queue.lines);
        queue.closed.get_or_insert(error.clone());
        drop(queue);
        answer(lines.into(), 0, &error);
        self.changed.notify_one();
    }
}

/// Nothing panics while it holds one of the locks here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the lines within the first `written` bytes that they went out, the others
/// that they did not.
fn answer(lines: Vec<Line>, written: usize, error: &WriteError) {
    let mut end = 0;
    for line in lines {
        end += line.text.len();
        let result = if end <= written {
            Ok(())
        } else {
            Err(error.clone())
        };
        line.answer(result);
    }
}

fn concat(lines: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PIPE_BUF);
    for line in lines {
        bytes.extend_from_slice(line.text.as_bytes());
    }
    bytes
}

/// Whether a file descriptor was opened for writing. What stands in for a stdout that was
/// closed was not, see `stdout.c`.
fn is_for_writing(out: &File) -> io::Result<bool> {
    let flags = OFlag::from_bits_retain(fcntl(out, FcntlArg::F_GETFL)?);
    Ok(flags & OFlag::O_ACCMODE != OFlag::O_RDONLY)
}

fn is_null(out: &File) -> io::Result<bool> {
    let null = std::fs::metadata("/dev/null").map(|null| null.rdev());
    let out = out.metadata()?;
    Ok(out.file_type().is_char_device() && null.is_ok_and(|null| null == out.rdev()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Records each write; fails when its budget of bytes is used up.
    struct Output {
        writes: mpsc::Sender<Vec<u8>>,
        budget: usize,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.budget == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.budget);
            self.budget -= taken;
            self.writes.send(bytes[..taken].to_vec()).unwrap();
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue with these lines, before any thread looks at it.
    fn queued(lines: &[String]) -> (LineWriter, Vec<Written>) {
        let writer = LineWriter(Arc::new(Shared::new(None)));
        let written = lines
            .iter()
            .map(|line| writer.write(line.clone()))
            .collect();
        (writer, written)
    }

    fn line(bytes: usize) -> String {
        format!("{}\n", "x".repeat(bytes - 1))
    }

    fn fate(written: Written) -> Result<(), WriteError> {
        let (sender, receiver) = mpsc::channel();
        written.then(move |result| sender.send(result).unwrap());
        receiver.recv().unwrap()
    }

    #[test]
    fn lines_go_out_in_chunks_that_a_pipe_takes_whole() {
        let lines = [
            line(4000),
            line(96),
            line(1),
            line(5000),
            line(10),
            line(10),
        ];
        let (writer, written) = queued(&lines);
        let (writes, wrote) = mpsc::channel();
        let shared = Arc::clone(&writer.0);
        let thread = thread::spawn(move || {
            let budget = usize::MAX;
            shared.run(Output { writes, budget }, None);
        });
        for each in written {
            fate(each).unwrap();
        }
        writer.abandon();
        thread.join().unwrap();
        let sizes: Vec<usize> = wrote.iter().map(|bytes| bytes.len()).collect();
        assert_eq!(sizes, [4096, 1, 5000, 20]);
    }

    #[test]
    fn only_lines_that_went_out_whole_are_written() {
        let (writer, written) = queued(&[line(10), line(10), line(10), line(5000)]);
        let (writes, _wrote) = mpsc::channel();
        writer.0.run(Output { writes, budget: 25 }, None);
        let fates: Vec<bool> = written.into_iter().map(|each| fate(each).is_ok()).collect();
        assert_eq!(fates, [true, true, false, false]);
        let later = writer.write(line(10));
        assert!(matches!(fate(later), Err(WriteError::Output(_))));
    }

    #[test]
    fn abandoned_lines_are_given_back() {
        let (writer, written) = queued(&[line(10), line(10)]);
        writer.abandon();
        for each in written {
            assert!(matches!(fate(each), Err(WriteError::Abandoned)));
        }
    }
}
