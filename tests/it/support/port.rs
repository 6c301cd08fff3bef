//! Ports that belong to one test while nothing listens on them.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A loopback port that no other program gets while this value exists.
///
/// On Linux, a socket that is bound with `SO_REUSEADDR` and never listens keeps the kernel from
/// giving the port to another program. The kernel does not use it as the own port of an outgoing
/// connection either. (A client that polls a dead port of the ephemeral range can otherwise connect
/// to itself.) redis-server sets `SO_REUSEADDR` as well, so it can still listen on the port. On
/// other systems two sockets cannot share the address, so another program may take the port.
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
