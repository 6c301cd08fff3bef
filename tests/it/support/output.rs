//! The output of a child process, line by line, and waiting for a line.

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::ioctl_fionread;
use tokio::sync::watch;

/// How many bytes one read takes. It is not more than a small pipe holds, because a larger read
/// would make the pipe seem larger.
const CHUNK: usize = 4096;

/// How long [`Output::lines`] waits for lines that the process has already written.
const CATCH_UP: Duration = Duration::from_secs(2);

/// A line of output.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// When the end of the line was read.
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

/// The output of a pipe. A thread of its own reads it, so that a busy test delays neither the
/// process nor the times of the lines.
pub(super) struct Output {
    lines: watch::Receiver<Captured>,
    gate: Arc<Gate>,
    pipe: Option<Arc<Pipe>>,
}

/// The pipe, and how many bytes have been taken out of it. The holder of the lock knows how many
/// bytes the process has written: the bytes that were taken and the bytes that are still in the
/// pipe.
struct Pipe {
    reader: PipeReader,
    taken: Mutex<u64>,
}

/// The place where the reader waits while the test wants nobody to read the pipe.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

#[derive(Default)]
struct Captured {
    lines: Vec<Line>,
    /// How many bytes have become lines, or the beginning of a line.
    bytes: u64,
    ended: bool,
}

impl Output {
    /// Reads a pipe to its end. Without a pipe the output is empty.
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

    /// Stops and resumes the reader. After a stop the reader still reads the bytes of the read that
    /// it has already begun.
    pub(super) fn set_read(&self, read: bool) {
        *self.gate.closed.lock().unwrap() = !read;
        self.gate.changed.notify_all();
    }

    /// All lines that the process has written until now. A line may still be on its way to the
    /// reader when Redis has already settled its job, so this waits until the reader has caught up.
    pub(super) fn lines(&self) -> Vec<Line> {
        if let Some(pipe) = &self.pipe {
            let (written, asked) = (pipe.written(), Instant::now());
            while !self.has(written) && asked.elapsed() < CATCH_UP {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.lines.borrow().lines.clone()
    }

    /// Whether this many bytes have become lines. It is also true when they will never become
    /// lines, because the output has ended or nobody reads it.
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

    /// The first line from `start` on that `wanted` accepts, or the reason why there is none.
    pub(super) async fn find(
        &self,
        start: usize,
        wanted: &mut impl FnMut(&str) -> bool,
        deadline: Duration,
    ) -> Result<Line, String> {
        let mut found = None;
        let mut seen = start;
        self.wait(deadline, |lines| {
            // Each line is looked at once, however many lines there are.
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
        // The sender is gone when the pipe has ended. The captured lines say that too.
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

    /// Reads the next bytes, and returns 0 at the end. A pipe that cannot be read has ended,
    /// whatever the reason is.
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
