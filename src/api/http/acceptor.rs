//! Accepts the connections of a port, for as long as it is polled.
//!
//! It asks for room before it opens a connection. Failures to accept are logged a few times a
//! minute, and never end the loop.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{connection::ConnectionServer, connections::Connections, listen::Listeners};
use crate::throttle::Throttle;

/// How long the loop waits for a file when the process has as many open as it may.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The sockets that clients connect to.
#[derive(Debug)]
pub(super) struct Acceptor {
    listeners: Vec<TcpListener>,
    /// The listener that is asked first. It changes with each connection, so that many clients at
    /// one address do not keep out those at the other.
    next: usize,
}

impl Acceptor {
    /// # Errors
    ///
    /// When a listener cannot be used.
    pub(super) fn new(listeners: Listeners) -> io::Result<Self> {
        let listeners = listeners.into_sockets().into_iter().map(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        Ok(Self {
            listeners: listeners.collect::<io::Result<_>>()?,
            next: 0,
        })
    }

    /// Opens a connection for each client. Never returns. Cancel safe.
    pub(super) async fn accept_all(
        &mut self,
        connections: &mut Connections,
        server: &ConnectionServer,
    ) {
        let failures = Throttle::new(1, |kind: Option<&ErrorKind>, suppressed| {
            let kind = kind.copied().unwrap_or(ErrorKind::Other);
            tracing::warn!(suppressed, "cannot accept connections, as before: {kind}");
        });
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = connections.one_ended() => continue,
            };
            match accepted {
                Ok(stream) => {
                    connections.make_room().await;
                    connections.open(|turn| server.clone().serve(stream, turn));
                }
                Err(why) if is_of_the_client(&why) => {}
                Err(why) => {
                    log_accept_error(&failures, &why);
                    // The limit on open files may be lower than it was at the start, or the
                    // limit of the whole system may be reached.
                    connections.evict_stalest();
                    drop(timeout(ACCEPT_PAUSE, connections.one_ended()).await);
                }
            }
        }
    }

    /// Cancel safe.
    async fn accept(&mut self) -> io::Result<TcpStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let count = self.listeners.len();
        for n in 0..count {
            let index = (self.next + n) % count;
            if let Poll::Ready(accepted) = self.listeners[index].poll_accept(cx) {
                self.next = (index + 1) % count;
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    }
}

/// Whether the connection ended before it was accepted.
fn is_of_the_client(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

/// Logs an error such as "too many open files". It would repeat itself twenty times a second.
fn log_accept_error(failures: &Throttle<ErrorKind>, why: &io::Error) {
    if let Some(suppressed) = failures.admit(why.kind(), Instant::now()) {
        tracing::warn!(suppressed, "cannot accept a connection: {why}");
    }
}
