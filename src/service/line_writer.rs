//! One thread that writes lines to the output, and tells for each whether it went out.
//!
//! Lines that are ready go out together, cut at line ends into chunks of at most
//! PIPE_BUF bytes, which a pipe takes whole: lines of several processes on one pipe
//! do not mix. A longer line goes alone. A blocked pipe blocks this thread and
//! nothing else.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
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

/// Resolves when a line's fate is known.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<Result<(), WriteError>>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// There are lines, or they are not wanted any more.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Line>,
    /// Why no line is taken any more.
    closed: Option<WriteError>,
}

#[derive(Debug)]
struct Line {
    text: String,
    done: oneshot::Sender<Result<(), WriteError>>,
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
        let (done, written) = oneshot::channel();
        let mut queue = self.0.lock();
        match &queue.closed {
            // Nobody else has `written`, so the receiver is there.
            Some(error) => drop(done.send(Err(error.clone()))),
            None => {
                queue.lines.push_back(Line { text: line, done });
                drop(queue);
                self.0.changed.notify_one();
            }
        }
        Written(written)
    }

    /// Gives back every line that was not begun, and takes no more. What is being
    /// written is finished if the output takes it.
    pub fn abandon(&self) {
        self.0.close(WriteError::Abandoned);
    }
}

impl Future for Written {
    type Output = Result<(), WriteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            // The thread answers every line that it takes.
            .map(|answer| answer.unwrap_or(Err(WriteError::Abandoned)))
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
        let queue = self.lock();
        let mut queue = self
            .changed
            .wait_while(queue, |queue| {
                queue.lines.is_empty() && queue.closed.is_none()
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
        let mut queue = self.lock();
        let lines = std::mem::take(&mut queue.lines);
        queue.closed.get_or_insert(error.clone());
        drop(queue);
        answer(lines.into(), 0, &error);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        // A receiver that is gone has no use for it.
        drop(line.done.send(result));
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
        written.0.blocking_recv().unwrap()
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
