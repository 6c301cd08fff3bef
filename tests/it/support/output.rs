//! What came out of a child process, line by line, and waiting for it.

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::ioctl_fionread;
use tokio::sync::watch;

/// How many bytes are read at once: no more than a small pipe holds, which else would seem
/// to hold much more.
const CHUNK: usize = 4096;

/// How long a look at the lines waits for those that the process has written already.
const CATCH_UP: Duration = Duration::from_secs(2);

/// A line of output.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// When its end was read.
    pub(crate) at: Instant,
    /// False for a last line that the process did not end.
    pub(crate) complete: bool,
}

impl Line {
    fn now(bytes: &[u8], complete: bool) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let at = Instant::now();
        Self { text, at, complete }
    }
}

/// What came out of a pipe, read on a thread of its own, so that a busy test delays
/// neither the process nor the times.
pub(super) struct Output {
    lines: watch::Receiver<Captured>,
    gate: Arc<Gate>,
    pipe: Option<Arc<Pipe>>,
}

/// The pipe, and how many bytes have been taken out of it. Whoever holds the lock knows how
/// many the process has written: those, and what the pipe still has.
struct Pipe {
    reader: PipeReader,
    taken: Mutex<u64>,
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
    /// How many bytes have been made lines, or the beginning of one.
    bytes: u64,
    ended: bool,
}

impl Output {
    /// Reads a pipe to its end; without a pipe there is nothing to come.
    pub(super) fn read(reader: Option<PipeReader>) -> Self {
        let (sender, lines) = watch::channel(Captured::default());
        let gate = Arc::new(Gate::default());
        let taken = Mutex::new(0);
        let pipe = reader.map(|reader| Arc::new(Pipe { reader, taken }));
        match pipe.clone() {
            Some(pipe) => {
                let gate = Arc::clone(&gate);
                std::thread::spawn(move || read_lines(&pipe, &gate, &sender));
            }
            None => sender.send_modify(|captured| captured.ended = true),
        }
        Self { lines, gate, pipe }
    }

    /// Reads no more, but for what the reader is about to get, until it is told to go on.
    pub(super) fn set_read(&self, read: bool) {
        *self.gate.closed.lock().unwrap() = !read;
        self.gate.changed.notify_all();
    }

    /// All lines that the process has written until now. A job that Redis no longer knows has
    /// printed its line, and the line may still be on its way to the reader: it is waited for.
    pub(super) fn lines(&self) -> Vec<Line> {
        if let Some(pipe) = &self.pipe {
            let (written, asked) = (pipe.written(), Instant::now());
            while !self.has(written) && asked.elapsed() < CATCH_UP {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.lines.borrow().lines.clone()
    }

    /// Whether so many bytes have been made lines, or will not be.
    fn has(&self, bytes: u64) -> bool {
        let captured = self.lines.borrow();
        captured.bytes >= bytes || captured.ended || *self.gate.closed.lock().unwrap()
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

impl Pipe {
    /// How many bytes the process has written.
    fn written(&self) -> u64 {
        let taken = self.taken.lock().unwrap();
        *taken + ioctl_fionread(&self.reader).unwrap()
    }

    /// The next bytes; none at the end. A pipe that cannot be read has ended, whatever the reason.
    fn next(&self, chunk: &mut [u8]) -> usize {
        let mut readable = [PollFd::new(self.reader.as_fd(), PollFlags::POLLIN)];
        while poll(&mut readable, PollTimeout::NONE) == Err(Errno::EINTR) {}
        let mut taken = self.taken.lock().unwrap();
        let count = (&self.reader).read(chunk).unwrap_or(0);
        *taken += count as u64;
        count
    }
}

fn read_lines(pipe: &Pipe, gate: &Gate, sender: &watch::Sender<Captured>) {
    let (mut chunk, mut line) = ([0; CHUNK], Vec::new());
    loop {
        let count = pipe.next(&mut chunk);
        if count == 0 {
            break;
        }
        for piece in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            let complete = line.pop_if(|last| *last == b'\n').is_some();
            sender.send_modify(|captured| {
                captured.bytes += piece.len() as u64;
                if complete {
                    captured.lines.push(Line::now(&line, true));
                }
            });
            if complete {
                line.clear();
                gate.pass();
            }
        }
    }
    sender.send_modify(|captured| {
        if !line.is_empty() {
            captured.lines.push(Line::now(&line, false));
        }
        captured.ended = true;
    });
}
