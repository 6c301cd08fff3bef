//! The thread of the proxy in `proxy.rs`: it accepts connections, reads pieces of bytes, holds each
//! for the delay, and writes it. How long the delay is, and whether it is right, is the proxy's.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The thread spins for at most this long before a piece is due. The kernel wakes it about this
/// much too late.
const SPIN: Duration = Duration::from_micros(30);
/// The largest piece.
const PIECE: usize = 256 * 1024;
/// The most bytes that one direction of a connection holds.
const MAX_HELD: usize = 64 * 1024 * 1024;

/// What the proxy and its thread share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    /// The delay of one direction.
    pub(crate) delay_nanos: AtomicU64,
    /// How late each piece was passed on.
    pub(crate) late: Mutex<Vec<Duration>>,
}

/// All that the proxy's thread has.
pub(crate) struct Hub {
    listener: TcpListener,
    target: String,
    shared: Arc<Shared>,
    lines: Vec<Line>,
}

/// One direction of a connection.
struct Line {
    from: TcpStream,
    to: TcpStream,
    pieces: VecDeque<Piece>,
    held: usize,
    /// The socket that is written to takes no more for now.
    is_full: bool,
    /// The other end sends no more.
    is_over: bool,
}

struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    written: usize,
}

impl Hub {
    pub(crate) fn new(listener: TcpListener, target: String, shared: Arc<Shared>) -> Self {
        Self {
            listener,
            target,
            shared,
            lines: Vec::new(),
        }
    }

    /// Passes on the bytes until the proxy stops it.
    pub(crate) fn run(&mut self) {
        let mut buffer = vec![0; PIECE];
        while !self.shared.stop.load(Ordering::Relaxed) {
            let ready = self.wait();
            let delay = self.shared.delay_nanos.load(Ordering::Relaxed);
            let due = Instant::now() + Duration::from_nanos(delay);
            for (line, ready) in self.lines.iter_mut().zip(ready) {
                if ready {
                    line.read(due, &mut buffer);
                }
                line.write(&self.shared.late);
            }
            self.lines.retain(|line| !line.has_ended());
            self.accept();
        }
    }

    /// Waits until there is something to read, to write or to accept. Returns for each line whether
    /// there is something to read.
    fn wait(&mut self) -> Vec<bool> {
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        for line in &self.lines {
            let reads = !line.is_over && line.held < MAX_HELD;
            let flags = |wanted, flag| if wanted { flag } else { PollFlags::empty() };
            fds.push(PollFd::new(&line.from, flags(reads, PollFlags::IN)));
            fds.push(PollFd::new(&line.to, flags(line.is_full, PollFlags::OUT)));
        }
        let due = self.lines.iter().filter_map(Line::due).min();
        let timeout = due.map(|due| {
            let sleep = due.saturating_duration_since(Instant::now() + SPIN);
            Timespec::try_from(sleep).unwrap()
        });
        poll(&mut fds, timeout.as_ref()).unwrap();
        let events: Vec<[PollFlags; 2]> = fds[1..]
            .chunks_exact(2)
            .map(|pair| [pair[0].revents(), pair[1].revents()])
            .collect();
        let mut readable = Vec::with_capacity(events.len());
        for (line, [from, to]) in self.lines.iter_mut().zip(events) {
            line.is_full &= to.is_empty();
            readable.push(!from.is_empty());
        }
        readable
    }

    fn accept(&mut self) {
        while let Ok((client, _)) = self.listener.accept() {
            // While Redis is down, the client sees its connection close.
            let Ok(server) = TcpStream::connect(&self.target) else {
                continue;
            };
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
                stream.set_nonblocking(true).unwrap();
            }
            let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
            self.lines.push(Line::new(client, server));
            self.lines.push(Line::new(back.0, back.1));
        }
    }
}

impl Line {
    fn new(from: TcpStream, to: TcpStream) -> Self {
        Self {
            from,
            to,
            pieces: VecDeque::new(),
            held: 0,
            is_full: false,
            is_over: false,
        }
    }

    /// When the next piece can be written. `None` while there is no piece, or no room for it.
    fn due(&self) -> Option<Instant> {
        let piece = self.pieces.front().filter(|_| !self.is_full);
        piece.map(|piece| piece.due)
    }

    fn has_ended(&self) -> bool {
        self.is_over && self.pieces.is_empty()
    }

    fn read(&mut self, due: Instant, buffer: &mut [u8]) {
        match self.from.read(buffer) {
            Ok(0) => self.is_over = true,
            Ok(length) => {
                self.held += length;
                self.pieces.push_back(Piece {
                    due,
                    bytes: buffer[..length].to_vec(),
                    written: 0,
                });
            }
            Err(error) => self.is_over |= !is_temporary(&error),
        }
        self.close_at_the_end();
    }

    fn write(&mut self, late: &Mutex<Vec<Duration>>) {
        while let Some(piece) = self.pieces.front_mut() {
            let now = Instant::now();
            if self.is_full || now < piece.due {
                return;
            }
            match self.to.write(&piece.bytes[piece.written..]) {
                Ok(length) => {
                    if piece.written == 0 {
                        late.lock().unwrap().push(now - piece.due);
                    }
                    piece.written += length;
                    self.held -= length;
                    if piece.written == piece.bytes.len() {
                        self.pieces.pop_front();
                    }
                }
                Err(error) if is_temporary(&error) => self.is_full = true,
                Err(_) => {
                    self.pieces.clear();
                    self.is_over = true;
                }
            }
        }
        self.close_at_the_end();
    }

    /// Tells the reader that nothing more comes, and the writer that nothing more is read.
    fn close_at_the_end(&self) {
        if self.has_ended() {
            // The other end may have closed the connection already.
            drop(self.to.shutdown(Shutdown::Write));
            drop(self.from.shutdown(Shutdown::Read));
        }
    }
}

fn is_temporary(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
