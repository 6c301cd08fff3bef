//! What came out of a child process, line by line, and waiting for it.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// A line of output.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// When its end was read.
    pub(crate) at: Instant,
    /// False for a last line that the process did not end.
    pub(crate) complete: bool,
}

/// What came out of a pipe, read on a thread of its own, so that a busy test delays
/// neither the process nor the times.
pub(super) struct Output {
    lines: watch::Receiver<Captured>,
    gate: Arc<Gate>,
}

/// Where the reader waits while nobody is to read the pipe.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

#[derive(Default)]
struct Captured {
    lines: Vec<Line>,
    ended: bool,
}

impl Output {
    /// Reads a pipe to its end; without a pipe there is nothing to come.
    pub(super) fn read(pipe: Option<impl Read + Send + 'static>) -> Self {
        let (sender, lines) = watch::channel(Captured::default());
        let gate = Arc::new(Gate::default());
        match pipe {
            Some(pipe) => {
                let gate = Arc::clone(&gate);
                std::thread::spawn(move || read_lines(pipe, &gate, &sender));
            }
            None => sender.send_modify(|captured| captured.ended = true),
        }
        Self { lines, gate }
    }

    /// Reads no more, but for what the reader is about to get, until it is told to go on.
    pub(super) fn set_read(&self, read: bool) {
        *self.gate.closed.lock().unwrap() = !read;
        self.gate.changed.notify_all();
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        self.lines.borrow().lines.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.lines.borrow().lines.len()
    }

    pub(super) fn ended(&self) -> bool {
        self.lines.borrow().ended
    }

    /// The first line from `start` on that `wanted` accepts, or why there is none.
    pub(super) async fn find(
        &self,
        start: usize,
        wanted: &mut impl FnMut(&str) -> bool,
        deadline: Duration,
    ) -> Result<Line, String> {
        let mut found = None;
        let mut seen = start;
        self.wait(deadline, |lines| {
            // Each line is looked at once, however many there are.
            let new = lines.get(seen..).unwrap_or_default();
            found = new.iter().find(|line| wanted(&line.text)).cloned();
            seen = seen.max(lines.len());
            found.is_some()
        })
        .await?;
        Ok(found.expect("cannot fail because the wait ended with it"))
    }

    /// Waits until `enough` accepts the lines so far.
    pub(super) async fn wait(
        &self,
        deadline: Duration,
        mut enough: impl FnMut(&[Line]) -> bool,
    ) -> Result<(), String> {
        let mut lines = self.lines.clone();
        let mut satisfied = false;
        let waited = lines.wait_for(|captured| {
            satisfied = enough(&captured.lines);
            satisfied || captured.ended
        });
        // The sender is gone once the pipe has ended, which the lines say as well.
        let in_time = tokio::time::timeout(deadline, waited).await.is_ok();
        match (satisfied, in_time) {
            (true, _) => Ok(()),
            (false, true) => Err("the output has ended".to_owned()),
            (false, false) => Err(format!("waited {deadline:?}")),
        }
    }

    pub(super) fn show(&self, name: &str) {
        let captured = self.lines.borrow();
        eprintln!("--- {name}, {} lines", captured.lines.len());
        for line in &captured.lines {
            eprintln!("{}", line.text);
        }
    }
}

impl Gate {
    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.changed.wait_while(closed, |closed| *closed).unwrap());
    }
}

fn read_lines(pipe: impl Read, gate: &Gate, sender: &watch::Sender<Captured>) {
    // No more than a small pipe holds, which else would seem to hold much more.
    let mut pipe = BufReader::with_capacity(4096, pipe);
    let mut bytes = Vec::new();
    // A pipe that cannot be read any more has ended, whatever the reason.
    while pipe
        .read_until(b'\n', &mut bytes)
        .is_ok_and(|count| count > 0)
    {
        let at = Instant::now();
        let complete = bytes.pop_if(|last| *last == b'\n').is_some();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let line = Line { text, at, complete };
        sender.send_modify(|captured| captured.lines.push(line));
        bytes.clear();
        gate.pass();
    }
    sender.send_modify(|captured| captured.ended = true);
}
