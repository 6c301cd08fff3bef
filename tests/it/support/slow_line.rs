//! A line that carries a fixed number of bytes a second. The fault proxy cannot do that. Like a
//! real line it has small buffers, so a sender that sends too much has to wait. Its connections
//! share the rate packet by packet.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// A line of 1 Mbit/s, in bytes a second.
pub(crate) const MBIT: u64 = 125_000;

/// The largest piece that goes over the line at once.
const PACKET: usize = 1460;
/// The largest piece while the rate has no limit, where small pieces would only cost time.
const LARGE_PACKET: usize = 16 * 1024;
/// How many packets of a connection are on their way in each direction.
const IN_FLIGHT: usize = 8;
/// The buffer that the kernel is asked to keep for each socket. Linux doubles it.
const SOCKET_BUFFER: u32 = 16 * 1024;
/// A timer that is late by up to this time does not reduce the line's rate.
const BURST: Duration = Duration::from_millis(5);

/// How much the line carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    Unlimited,
    /// Bytes a second of both directions together.
    Together(u64),
    /// Bytes a second of each direction.
    Each(u64),
}

/// A line to one address.
pub(crate) struct SlowLine {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

struct State {
    rate: Rate,
    delay: Duration,
    /// The time when the line has carried all earlier packets, for each direction.
    free_at: [Instant; 2],
}

impl SlowLine {
    /// A line that has no limit until the test sets a rate.
    pub(crate) async fn to(upstream: impl ToString) -> Self {
        let upstream: SocketAddr = upstream.to_string().parse().unwrap();
        let listener = listen();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            rate: Rate::Unlimited,
            delay: Duration::ZERO,
            free_at: [Instant::now(); 2],
        }));
        let accepting = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(carry(client, upstream, Arc::clone(&state)));
                }
            }
        });
        Self {
            addr,
            state,
            accepting,
        }
    }

    /// The address that clients connect to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the rate. The new rate applies to packets that are already on their way.
    pub(crate) fn set_rate(&self, rate: Rate) {
        let mut state = self.state.lock().unwrap();
        state.rate = rate;
        state.free_at = [Instant::now(); 2];
    }

    /// Sets how long each packet is on its way, in addition to the time that the rate costs.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }
}

impl Drop for SlowLine {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    /// The time when the line will have carried a packet that it gets now.
    fn book(&mut self, direction: usize, bytes: usize) -> Instant {
        let now = Instant::now();
        let (lane, rate) = match self.rate {
            Rate::Unlimited => return now,
            Rate::Together(rate) => (0, rate),
            Rate::Each(rate) => (direction, rate),
        };
        let bytes = u64::try_from(bytes).unwrap();
        let takes = Duration::from_nanos(bytes * 1_000_000_000 / rate);
        let free_at = &mut self.free_at[lane];
        *free_at = (*free_at).max(now - BURST) + takes;
        *free_at
    }

    fn packet(&self) -> usize {
        match self.rate {
            Rate::Unlimited => LARGE_PACKET,
            _ => PACKET,
        }
    }
}

fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    // Connections inherit this size.
    socket.set_recv_buffer_size(SOCKET_BUFFER).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket.listen(1024).unwrap()
}

async fn carry(client: TcpStream, upstream: SocketAddr, state: Arc<Mutex<State>>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SOCKET_BUFFER).unwrap();
    let Ok(upstream) = socket.connect(upstream).await else {
        return;
    };
    for stream in [&client, &upstream] {
        // This fails on a connection that has already ended. The code below notices such an end.
        stream.set_nodelay(true).ok();
    }
    let ((from_client, to_client), (from_upstream, to_upstream)) =
        (client.into_split(), upstream.into_split());
    tokio::join!(
        pump(0, from_client, to_upstream, &state),
        pump(1, from_upstream, to_client, &state),
    );
}

/// Carries one direction of a connection to its end.
async fn pump(
    direction: usize,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &Mutex<State>,
) {
    let (sender, mut in_flight) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let receive = async move {
        loop {
            let mut packet = vec![0; state.lock().unwrap().packet()];
            let Ok(count @ 1..) = from.read(&mut packet).await else {
                return;
            };
            packet.truncate(count);
            let carried = state.lock().unwrap().book(direction, count);
            sleep_until(carried).await;
            let arrives = carried + state.lock().unwrap().delay;
            if sender.send((arrives, packet)).await.is_err() {
                return;
            }
        }
    };
    let deliver = async move {
        while let Some((arrives, packet)) = in_flight.recv().await {
            sleep_until(arrives).await;
            if to.write_all(&packet).await.is_err() {
                return;
            }
        }
        // This direction has ended. The other direction may still carry bytes.
        to.shutdown().await.ok();
    };
    tokio::join!(receive, deliver);
}
