//! Ports that stay one test's own while nothing listens on them.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A loopback port that nobody else gets while this lives.
///
/// On Linux a socket that is bound with `SO_REUSEADDR` and never listens keeps the
/// kernel from handing the port to anyone, as an outgoing connection's own port too
/// (a client that polls a dead port of the ephemeral range can connect to itself),
/// while redis-server, which sets `SO_REUSEADDR` as well, can still listen on it.
/// Elsewhere two sockets cannot share the address, so the port is only a likely one.
pub(crate) struct ReservedPort {
    pub(crate) number: u16,
    _hold: Option<TcpSocket>,
}

impl ReservedPort {
    pub(crate) fn take() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(any).unwrap();
        Self {
            number: socket.local_addr().unwrap().port(),
            _hold: cfg!(target_os = "linux").then_some(socket),
        }
    }
}
