//! Serves a router on a port until the process is asked to stop.
//!
//! This uses hyper's connections directly. `axum::serve` and axum-server do not know which
//! connection waits for its client. Here that decides which connection is closed when there are
//! too many, and which connections a stop waits for.

use std::{io, time::Duration};

use axum::Router;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    acceptor::Acceptor, connection::ConnectionServer, connections::Connections, listen::Listeners,
};
use crate::config::{HttpConfig, JobqueueConfig, ServerConfig};

/// How many clients the API serves at once, unless the limit on open files is lower.
const MAX_CLIENTS: usize = 4096;

/// How many clients may ask for a worker's health at once.
const MAX_PROBES: usize = 64;

/// How many files the connections of clients leave to everything else. Redis needs them most: its
/// connections must be opened again even while clients attack. An idle worker has 23 files open.
const RESERVED_FILES: usize = 64;

/// How a port is served.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections may be open at once. The limit on open files can make it fewer. One
    /// more connection takes the place of the one that has waited for its client the longest.
    pub connections: usize,
    /// How long a client may take.
    pub http: HttpConfig,
    /// How long new connections are still accepted after the stop.
    pub drain_delay: Duration,
    /// How long the requests in progress may take after the drain delay.
    pub grace: Duration,
}

impl Limits {
    /// The limits of the API server's port.
    pub fn of_server(settings: &ServerConfig) -> Self {
        Self {
            connections: MAX_CLIENTS,
            http: settings.http,
            drain_delay: settings.drain_delay,
            grace: settings.shutdown_timeout,
        }
    }

    /// The limits of a worker's port, which is open for as long as the worker lives.
    pub fn of_worker(settings: &JobqueueConfig) -> Self {
        Self {
            connections: MAX_PROBES,
            http: settings.http,
            drain_delay: Duration::ZERO,
            grace: settings.worker.shutdown_timeout,
        }
    }
}

/// Serves `router` on `listeners` within `limits`, until `stop` is cancelled and the requests in
/// progress are answered.
///
/// What happens after `stop`:
///
/// 1. Each answer says that its connection is closed.
/// 2. When the drain delay is over, no connection is accepted any more. Connections without a
///    request in progress are closed. Half a second later, those that wait for their client are
///    closed as well.
/// 3. When the grace is over, the requests that have no answer yet are cut off.
///
/// The process' limit on open files is raised as far as the system allows.
///
/// # Errors
///
/// When a listener cannot be used. A connection that fails is no error.
///
/// # Cancel safety
///
/// Dropping the future closes all connections.
pub async fn serve(
    listeners: Listeners,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut acceptor = Acceptor::new(listeners)?;
    let mut connections = Connections::new(connection_limit(limits.connections));
    let closing = CancellationToken::new();
    let server = ConnectionServer::new(router, limits.http, stop.clone(), closing.clone());
    tokio::select! {
        () = acceptor.accept_all(&mut connections, &server) => {}
        () = drained(&stop, limits.drain_delay) => {}
    }
    drop(acceptor);
    closing.cancel();
    match connections.end_within(limits.grace).await {
        0 => {}
        cut_off => tracing::warn!(cut_off, "connections were cut off"),
    }
    Ok(())
}

/// Waits for the stop, and then for the drain delay: a load balancer sends connections until it has
/// noticed that this server is not ready.
async fn drained(stop: &CancellationToken, delay: Duration) {
    stop.cancelled().await;
    if !delay.is_zero() {
        tracing::info!(?delay, "still accepting connections");
        sleep(delay).await;
    }
}

/// How many connections there are files for: at least 1, at most `max_connections`.
fn connection_limit(max_connections: usize) -> usize {
    // The default is often 1,024, and slow clients alone could use that up.
    let files = rlimit::increase_nofile_limit(u64::MAX).or_else(|why| {
        tracing::warn!("cannot raise the limit on open files: {why}");
        rlimit::Resource::NOFILE.get_soft()
    });
    let files = files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let reserved = RESERVED_FILES.min(files / 2);
    max_connections.min(files - reserved).max(1)
}

#[cfg(test)]
mod tests;
