//! One thread that writes lines to the output, and tells for each whether it went out.
//!
//! Lines that are ready go out together, cut at line ends into chunks of at most
//! PIPE_BUF bytes, which a pipe takes whole: lines of several processes on one pipe
//! do not mix. A longer line goes alone. A blocked pipe blocks this thread and
//! nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// What POSIX lets a pipe take in one piece, as it is on Linux.
const PIPE_BUF: usize = 4096;
/// How long to wait before writing again to an output that is non-blocking and full.
const NON_BLOCKING_PAUSE: Duration = Duration::from_millis(1);

/// Hands lines to the thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LineWriter(Arc<Shared>);

/// Why a line did not go out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The output does not take it, nor any other.
    #[error("cannot write to the output: {0}")]
    Output(Arc<io::Error>),
    /// It was given back before it was begun, because of [`LineWriter::abandon`].
    #[error("the line was not written because of the shutdown")]
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
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Line>,
    /// The thread sleeps: only then does it have to be woken.
    waits: bool,
    /// Why no line is taken any more.
    closed: Option<WriteError>,
}

#[derive(Debug)]
struct Line {
    text: String,
    fate: Arc<Mutex<Fate>>,
}

impl LineWriter {
    /// A writer to this process' stdout.
    ///
    /// # Errors
    /// When stdout is closed or the system gives no thread.
    pub fn stdout() -> io::Result<Self> {
        // Without the line buffer of `std::io::Stdout`, which would not tell how much
        // of a chunk went out before an error.
        Self::spawn(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// A writer to `out`, which should have no buffer of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            changed: Condvar::new(),
        });
        let thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("line-writer".to_owned())
            .spawn(move || thread.run(out))?;
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
        queue.lines.push_back(Line { text: line, fate });
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
    fn run(&self, mut out: impl Write) {
        while let Some(chunk) = self.next_chunk() {
            let (written, result) = write_all(&mut out, &concat(&chunk));
            if let Err(error) = result {
                let error = WriteError::Output(Arc::new(error));
                // First, so that whoever learns of the error finds the writer closed.
                self.close(error.clone());
                answer(chunk, written, &error);
                return;
            }
            answer(chunk, written, &WriteError::Abandoned);
        }
    }

    /// Waits for lines, and takes as many as fit into one chunk.
    fn next_chunk(&self) -> Option<Vec<Line>> {
        let mut queue = self
            .changed
            .wait_while(lock(&self.queue), |queue| {
                queue.waits = queue.lines.is_empty() && queue.closed.is_none();
                queue.waits
            })
            .unwrap_or_else(PoisonError::into_inner);
        let mut chunk = vec![queue.lines.pop_front()?];
        let mut bytes = chunk[0].text.len();
        while let Some(line) = queue.lines.front()
            && bytes + line.text.len() <= PIPE_BUF
        {
            bytes += line.text.len();
            chunk.extend(queue.lines.pop_front());
        }
        Some(chunk)
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

/// How many bytes went out, and what went wrong if that is not all.
fn write_all(out: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(NON_BLOCKING_PAUSE);
            }
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
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
        let shared = Shared {
            queue: Mutex::new(Queue::default()),
            changed: Condvar::new(),
        };
        let writer = LineWriter(Arc::new(shared));
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
            shared.run(Output {
                writes,
                budget: usize::MAX,
            })
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
        writer.0.run(Output { writes, budget: 25 });
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
