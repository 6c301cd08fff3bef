//! A small pipe that a test fills and reads when it likes. A program gets it as a stdout or stderr
//! that nobody reads.

use std::fs::File;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::output::{Line, Output};
use super::process::listening_addr;

/// The smallest size that Linux gives a pipe: one page.
const SMALLEST: i32 = 4096;

/// A pipe of the smallest size, with both of its ends.
pub(crate) struct SmallPipe {
    reader: PipeReader,
    writer: PipeWriter,
}

/// The lines of a pipe that is read from now on.
pub(crate) struct Reading(Output);

impl SmallPipe {
    pub(crate) fn new() -> Self {
        let (reader, writer) = pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(SMALLEST)).unwrap();
        Self { reader, writer }
    }

    /// The end that a program writes to.
    pub(crate) fn end(&self) -> Stdio {
        self.writer.try_clone().unwrap().into()
    }

    /// Fills the pipe with dots and a newline. A write to the pipe blocks from now on.
    pub(crate) fn fill(&self) {
        // This opens a second descriptor that the program does not share, because the program's own
        // descriptor must not become non-blocking.
        let mut own = open_again(self.writer.as_raw_fd());
        let mut page = vec![b'.'; 512];
        page[511] = b'\n';
        for piece in [page.as_slice(), b"\n"] {
            loop {
                match own.write(piece) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Reads until a program has said where it listens, and no further.
    pub(crate) async fn listening(&mut self) -> SocketAddr {
        let mut reader = self.reader.try_clone().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let (mut line, mut byte) = (Vec::new(), [0]);
            loop {
                reader.read_exact(&mut byte).unwrap();
                line.push(byte[0]);
                if byte == *b"\n" {
                    if let Some(addr) = listening_addr(String::from_utf8_lossy(&line).trim_end()) {
                        return addr;
                    }
                    line.clear();
                }
            }
        });
        let read = tokio::time::timeout(super::PATIENCE, read).await;
        read.expect("it does not listen").unwrap()
    }

    /// Reads the pipe from now on, to its end.
    pub(crate) fn read(self) -> Reading {
        Reading(Output::read(Some(self.reader)))
    }
}

impl Reading {
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.0.lines()
    }

    /// The first line that contains `part`.
    pub(crate) async fn wait_for(&self, part: &str, deadline: Duration) -> Line {
        let mut wanted = |line: &str| line.contains(part);
        let found = self.0.find(0, &mut wanted, deadline).await;
        found.unwrap_or_else(|why| panic!("no line with {part:?}: {why}"))
    }

    pub(crate) fn ended(&self) -> bool {
        self.0.ended()
    }
}

fn open_again(fd: RawFd) -> File {
    File::options()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(format!("/proc/self/fd/{fd}"))
        .unwrap()
}
