//! An output that can block and that several processes share: a pipe, a socket or a terminal. This
//! knows whether the output accepts bytes, and whose turn it is to write.
//!
//! A pipe takes up to PIPE_BUF bytes in one piece; longer lines of two processes would mix. So each
//! worker locks the output while it writes, with a POSIX record lock. Such a lock belongs to a
//! process and to the pipe itself. So it works although all workers inherited the same open
//! file, and the kernel frees it when its holder dies.
//!
//! A holder may be halted (SIGSTOP, a debugger) in the middle of a line. After a second the others
//! pass it: they take turns with a lock on another range of bytes, the next place. Places are
//! numbered from 0:
//!
//! - The process that writes holds one place.
//! - The places below it are held by processes that were passed.
//! - The places above it are free.
//!
//! How many bytes of its place a holder has locked is the number of its turn. So the others see
//! whether a holder goes on, with new turns, or is halted.
//!
//! Example: A holds place 0 and is halted. After a second B passes A and writes with place 1, and C
//! waits for place 1. When A goes on, it sees that place 1 is held, and waits until B has ended
//! its turn. Then A finishes its line and frees place 0, and everybody uses place 0 again.

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

/// How many bytes a pipe takes in one piece. POSIX has the name, and Linux this value.
pub(super) const PIPE_BUF: usize = 4096;
/// A holder counts as halted when it has had the same turn for this long, and the output accepted
/// bytes all the time.
const HALTED_AFTER: Duration = Duration::from_secs(1);
/// How many bytes of the lock one place has.
const PLACE: off_t = 1 << 20;
/// The pause between two looks at a lock that another process has. It grows from the one to the
/// other.
const MIN_PAUSE: Duration = Duration::from_micros(100);
const MAX_PAUSE: Duration = Duration::from_millis(5);

/// This process' share in one output.
#[derive(Debug)]
pub(super) struct OutputTurn {
    out: Arc<File>,
    /// A terminal shows each write at once, and it may accept less than `poll` says.
    terminal: bool,
    /// This output has no locks, so processes do not take turns.
    lockless: bool,
    /// A halted process, and the place that it holds. This process does not wait for it.
    passed: Option<Holder>,
    /// The number of this process' last turn. It starts again at 1 before it fills a place.
    turns: off_t,
}

/// Which process has which place, and in which of its turns (the `length`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder {
    start: off_t,
    length: off_t,
    process: pid_t,
}

/// Stands for a holder that freed its place before it could be looked at.
const FREED: Holder = Holder {
    start: 0,
    length: 0,
    process: 0,
};

impl OutputTurn {
    /// `None` for an output that accepts everything at once, such as a file.
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

    /// How many bytes of whole lines may be written at once. A longer line goes alone.
    pub(super) fn chunk_bytes(&self) -> usize {
        if self.terminal { 0 } else { PIPE_BUF }
    }

    /// Whether the output accepts bytes now.
    pub(super) fn writable(&self) -> bool {
        wait_writable(&*self.out, Some(Duration::ZERO))
    }

    /// Waits until the output accepts bytes. False when it did not within `limit`.
    pub(super) fn wait_writable(&self, limit: Duration) -> bool {
        wait_writable(&*self.out, Some(limit))
    }

    /// Waits for this process' turn. False when the output accepts nothing: then it is not this
    /// process' turn, and it holds no lock.
    pub(super) fn begin(&mut self) -> bool {
        let mut pause = MIN_PAUSE;
        let mut waited_for: Option<(Holder, Instant)> = None;
        while self.writable() {
            let Err(holder) = self.try_lock() else {
                // Another process may have filled the output just before the lock.
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

    /// Ends the turn.
    pub(super) fn end(&self) {
        if !self.lockless {
            // Unlocking does not fail, and nothing could be done if it did.
            self.set(libc::F_UNLCK, 0, 0).ok();
        }
    }

    /// Must be called before the next write of a line that needs more than one. This process may have
    /// been halted and passed: then it waits until the process that passed it has ended its turn.
    pub(super) fn resume(&self) {
        let asked = Instant::now();
        while !self.lockless
            && self.holder(self.place() + PLACE, 0).is_some()
            && asked.elapsed() < HALTED_AFTER
        {
            thread::sleep(MIN_PAUSE);
        }
    }

    /// The first byte of this process' place.
    fn place(&self) -> off_t {
        self.passed.map_or(0, |passed| passed.start + PLACE)
    }

    /// Takes the turn, or returns the process that has it.
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
        // This process and another one may disagree about who was passed, and so lock different
        // places. Each locks first and looks afterwards, so at least one of them sees the other.
        let above = self.holder(place + PLACE, 0);
        if above.is_some() || self.forget_passed() {
            self.end();
            return Err(above.unwrap_or(FREED));
        }
        Ok(())
    }

    /// Waits again for a process that was passed, if it goes on. Returns whether it does.
    fn forget_passed(&mut self) -> bool {
        let goes_on = self
            .passed
            .is_some_and(|passed| self.holder(passed.start, PLACE) != Some(passed));
        if goes_on {
            self.passed = None;
        }
        goes_on
    }

    /// Locks or frees `length` bytes from `start` on. A length of 0 means all bytes from there on.
    fn set(&self, kind: i32, start: off_t, length: off_t) -> nix::Result<()> {
        let lock = record(kind, start, length);
        fcntl(self.out.as_fd(), FcntlArg::F_SETLK(&lock)).map(drop)
    }

    /// The process that has locked any of these bytes.
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
