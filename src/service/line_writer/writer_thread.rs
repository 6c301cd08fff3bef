//! The thread that takes lines from the queue and writes them.
//!
//! Lines that are ready go out together, in chunks of whole lines with at most PIPE_BUF bytes. A
//! longer line goes alone. If the output can block, the thread takes lines out of the queue only
//! when the output accepts bytes and it is this process' turn. A blocked output blocks this
//! thread and nothing else.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::line_queue::{LineQueue, concat, resolve};
use super::written::WriteError;
use crate::service::output_turn::{OutputTurn, PIPE_BUF};

/// How long the thread waits for a blocked output before it looks whether lines are still in the
/// queue.
const BLOCKED_LOOK: Duration = Duration::from_secs(1);
/// The pause before the next write to an output that is non-blocking and full.
const NON_BLOCKING_PAUSE: Duration = Duration::from_millis(1);
/// After so many bytes other processes have their turn.
const MAX_TURN_BYTES: usize = 64 * 1024;

pub(super) struct WriterThread<W> {
    queue: Arc<LineQueue>,
    out: W,
    /// `None` when the output never blocks, or when no other process writes to it.
    turn: Option<OutputTurn>,
}

impl<W: Write> WriterThread<W> {
    pub(super) fn new(queue: Arc<LineQueue>, out: W, turn: Option<OutputTurn>) -> Self {
        Self { queue, out, turn }
    }

    /// Writes lines until the queue is closed or the output fails.
    pub(super) fn run(mut self) {
        while self.queue.wait_for_lines() {
            if self.write_lines().is_err() {
                return;
            }
        }
    }

    /// Writes lines, for one turn if there are turns. Writes nothing if the output stays blocked.
    fn write_lines(&mut self) -> Result<(), WriteError> {
        let Some(turn) = &mut self.turn else {
            return self.write_chunk(PIPE_BUF).map(drop);
        };
        if !turn.wait_writable(BLOCKED_LOOK) || !turn.begin() {
            return Ok(());
        }
        let limit = turn.chunk_bytes();
        let result = self.write_turn(limit);
        if let Some(turn) = &self.turn {
            turn.end();
        }
        result
    }

    /// Writes chunks while lines wait, the output accepts them, and the turn is not too long.
    fn write_turn(&mut self, limit: usize) -> Result<(), WriteError> {
        let mut bytes = 0;
        while bytes < MAX_TURN_BYTES
            && (bytes == 0 || self.turn.as_ref().is_none_or(OutputTurn::writable))
        {
            match self.write_chunk(limit)? {
                0 => break,
                count => bytes += count,
            }
        }
        Ok(())
    }

    /// Writes one chunk, resolves its lines, and returns its length.
    ///
    /// # Errors
    /// When the output fails, which closes the queue.
    fn write_chunk(&mut self, limit: usize) -> Result<usize, WriteError> {
        let chunk = self.queue.take_chunk(limit);
        let bytes = concat(&chunk);
        let mut written = 0;
        if let Err(error) = self.write_all(&bytes, &mut written) {
            let error = WriteError::Output(Arc::new(error));
            // The queue is closed first: whoever learns of the error finds it closed.
            self.queue.close(&error);
            resolve(chunk, written, &error);
            return Err(error);
        }
        resolve(chunk, written, &WriteError::Abandoned);
        Ok(written)
    }

    /// Writes `bytes`, and counts in `written` how many of them went out.
    ///
    /// To an output that can block, the bytes go in pieces that it accepts without blocking, so
    /// that the queue knows whether the output moves.
    fn write_all(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        let piece = self.turn.as_ref().map_or(usize::MAX, |_| PIPE_BUF);
        while *written < bytes.len() {
            if *written > 0
                && let Some(turn) = &self.turn
            {
                while !turn.wait_writable(BLOCKED_LOOK) {}
                turn.resume();
                self.queue.note_moved();
            }
            let end = bytes.len().min(written.saturating_add(piece));
            match self.out.write(&bytes[*written..end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process that shares the output has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match &self.turn {
                    Some(turn) => drop(turn.wait_writable(BLOCKED_LOOK)),
                    None => thread::sleep(NON_BLOCKING_PAUSE),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::written::Written;
    use super::*;

    /// Records each write. Writing fails once `budget` bytes are used up.
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

    /// A queue with these lines, which no thread has looked at.
    fn queued(lines: &[String]) -> (Arc<LineQueue>, Vec<Written>) {
        let queue = Arc::new(LineQueue::new());
        let written = lines.iter().map(|line| queue.push(line.clone())).collect();
        (queue, written)
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
        let (queue, written) = queued(&lines);
        let (writes, wrote) = mpsc::channel();
        let budget = usize::MAX;
        let writer = WriterThread::new(Arc::clone(&queue), Output { writes, budget }, None);
        let thread = thread::spawn(move || writer.run());
        for each in written {
            fate(each).unwrap();
        }
        queue.close(&WriteError::Abandoned);
        thread.join().unwrap();
        let sizes: Vec<usize> = wrote.iter().map(|bytes| bytes.len()).collect();
        assert_eq!(sizes, [4096, 1, 5000, 20]);
    }

    #[test]
    fn only_lines_that_went_out_whole_are_written() {
        let (queue, written) = queued(&[line(10), line(10), line(10), line(5000)]);
        let (writes, _wrote) = mpsc::channel();
        WriterThread::new(Arc::clone(&queue), Output { writes, budget: 25 }, None).run();
        let fates: Vec<bool> = written.into_iter().map(|each| fate(each).is_ok()).collect();
        assert_eq!(fates, [true, true, false, false]);
        let later = queue.push(line(10));
        assert!(matches!(fate(later), Err(WriteError::Output(_))));
    }

    #[test]
    fn lines_of_a_closed_queue_are_given_back() {
        let (queue, written) = queued(&[line(10), line(10)]);
        queue.close(&WriteError::Abandoned);
        for each in written {
            assert!(matches!(fate(each), Err(WriteError::Abandoned)));
        }
    }
}
