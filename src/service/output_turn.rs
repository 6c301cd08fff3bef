//! An output that can block and that several processes share: a pipe, a socket, a terminal.
//! Whether it takes more, and whose turn it is to write.
//!
//! A pipe takes up to PIPE_BUF bytes in one piece, and longer lines of two processes would
//! mix. So each worker locks the output while it writes. It is a POSIX record lock: that one
//! belongs to a process and to the pipe itself, so it works although all workers inherited
//! the same open file, and the kernel frees it when its holder dies.
//!
//! A holder may be halted in the middle of a line. The others pass it after a second, and
//! take turns among themselves by the next place: whoever writes holds one place, those below
//! it are held by processes that were passed, and those above it are free. A place is a range
//! of bytes of the lock; how many of them its holder has locked is a count of its turns, by
//! which one that goes on is told from one that is halted.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, flock, off_t, pid_t};

use crate::descriptor::wait_writable;

/// What POSIX lets a pipe take in one piece, as it is on Linux.
pub(super) const PIPE_BUF: usize = 4096;
/// A holder that has the lock for this long, while the output would take more all the
/// time, is halted.
const HALTED_AFTER: Duration = Duration::from_secs(1);
/// The bytes of one place.
const PLACE: off_t = 1 << 20;
/// The pause between two looks at a lock that another process has.
const MIN_PAUSE: Duration = Duration::from_micros(100);
const MAX_PAUSE: Duration = Duration::from_millis(5);

/// See the file's head.
#[derive(Debug)]
pub(super) struct OutputTurn {
    out: Arc<File>,
    /// Each write shows at once, and the output may take less than it seems to.
    terminal: bool,
    /// This output has no locks: then there are no turns.
    lockless: bool,
    /// A halted process, and the place that it holds. This process does not wait for it.
    passed: Option<Holder>,
    turns: off_t,
}

/// Who has which place, and in which of its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder {
    start: off_t,
    length: off_t,
    process: pid_t,
}

/// In place of a holder that was gone at the second look.
const FREED: Holder = Holder {
    start: 0,
    length: 0,
    process: 0,
};

impl OutputTurn {
    /// None for an output that always takes what is written, such as a file.
    ///
    /// # Errors
    /// When the system does not tell what kind of output it is.
    pub(super) fn of(out: &Arc<File>) -> io::Result<Option<Self>> {
        let kind = out.metadata()?.file_type();
        let terminal = out.is_terminal();
        let blocks = kind.is_fifo() || kind.is_socket() || terminal;
        Ok(blocks.then(|| Self {
            out: Arc::clone(out),
            terminal,
            lockless: false,
            passed: None,
            turns: 0,
        }))
    }

    /// How many bytes of whole lines are written at once. A line that is longer goes alone.
    pub(super) fn chunk_bytes(&self) -> usize {
        if self.terminal { 0 } else { PIPE_BUF }
    }

    /// Whether the output takes more bytes now.
    pub(super) fn writable(&self) -> bool {
        wait_writable(&*self.out, Some(Duration::ZERO))
    }

    /// Waits until the output takes more bytes; false when it did not for `limit`.
    pub(super) fn wait_writable(&self, limit: Duration) -> bool {
        wait_writable(&*self.out, Some(limit))
    }

    /// Waits for this process' turn. False when the output takes nothing: it is no turn
    /// then, and no lock is held.
    pub(super) fn begin(&mut self) -> bool {
        let mut pause = MIN_PAUSE;
        let mut waited_for: Option<(Holder, Instant)> = None;
        while self.writable() {
            let Err(holder) = self.try_lock() else {
                // Somebody else may have filled it up to the moment of the lock.
                let writable = self.writable();
                if !writable {
                    self.end();
                }
                return writable;
            };
            match waited_for {
                Some((known, since)) if known == holder => {
                    if since.elapsed() >= HALTED_AFTER {
                        self.passed = Some(holder);
                    }
                }
                _ => waited_for = Some((holder, Instant::now())),
            }
            thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
        false
    }

    /// Leaves the output to the others.
    pub(super) fn end(&self) {
        if !self.lockless {
            // Nothing refuses it, and nobody could do anything about it.
            self.set(libc::F_UNLCK, 0, 0).ok();
        }
    }

    /// Before a line goes on that took more than one write: this process may have been
    /// halted and passed. Lets those finish that write now.
    pub(super) fn resume(&self) {
        let asked = Instant::now();
        while !self.lockless
            && self.holder(self.place() + PLACE, 0).is_some()
            && asked.elapsed() < HALTED_AFTER
        {
            thread::sleep(MIN_PAUSE);
        }
    }

    /// Where the place of this process starts.
    fn place(&self) -> off_t {
        self.passed.map_or(0, |passed| passed.start + PLACE)
    }

    /// Takes the turn, or tells who has it.
    fn try_lock(&mut self) -> Result<(), Holder> {
        if self.lockless {
            return Ok(());
        }
        self.forget_passed();
        let place = self.place();
        self.turns = self.turns % (PLACE - 1) + 1;
        match self.set(libc::F_WRLCK, place, self.turns) {
            Ok(()) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                return Err(self.holder(place, PLACE).unwrap_or(FREED));
            }
            Err(_) => {
                self.lockless = true;
                return Ok(());
            }
        }
        // Others may have passed somebody whom this process has not passed, or the other
        // way round. Each locks first and looks afterwards, so one of them sees the other.
        let above = self.holder(place + PLACE, 0);
        if above.is_some() || self.forget_passed() {
            self.end();
            return Err(above.unwrap_or(FREED));
        }
        Ok(())
    }

    /// A process that was passed and goes on is as good as any other. True when it was so.
    fn forget_passed(&mut self) -> bool {
        let goes_on = self
            .passed
            .is_some_and(|passed| self.holder(passed.start, PLACE) != Some(passed));
        if goes_on {
            self.passed = None;
        }
        goes_on
    }

    /// Locks or frees `length` bytes from `start` on; 0 means all of them.
    fn set(&self, kind: i32, start: off_t, length: off_t) -> nix::Result<()> {
        let lock = record(kind, start, length);
        fcntl(self.out.as_fd(), FcntlArg::F_SETLK(&lock)).map(drop)
    }

    fn holder(&self, start: off_t, length: off_t) -> Option<Holder> {
        let mut lock = record(libc::F_WRLCK, start, length);
        fcntl(self.out.as_fd(), FcntlArg::F_GETLK(&mut lock)).ok()?;
        (i32::from(lock.l_type) != libc::F_UNLCK).then_some(Holder {
            start: lock.l_start,
            length: lock.l_len,
            process: lock.l_pid,
        })
    }
}

fn record(kind: i32, start: off_t, length: off_t) -> flock {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the constants of the system are made for these fields"
    )]
    flock {
        l_type: kind as _,
        l_whence: libc::SEEK_SET as _,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}
