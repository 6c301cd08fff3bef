//! The sockets behind the name of a host. One host can mean two addresses: `localhost` is 127.0.0.1
//! and ::1, and `::` is every address of both families.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use nix::errno::Errno;
use socket2::SockRef;
use tokio::net::{TcpSocket, lookup_host};

/// How many connections may wait to be accepted. The system caps it. With the 128 of the standard
/// library, clients of a burst wait for a second.
const BACKLOG: u32 = 4096;

/// How many free ports are tried until one is free on both addresses of `localhost`.
const FREE_PORT_TRIES: u32 = 10;

/// Opens sockets that listen on the addresses of `host`: at least one, and all on the same port.
pub(super) async fn open(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    // The name is not looked up: the system's table of hosts often has only one address for it.
    if host.eq_ignore_ascii_case("localhost") {
        return on_localhost(port, listen_on);
    }
    if host.parse() == Ok(Ipv6Addr::UNSPECIFIED) {
        return on_every_address(port, listen_on);
    }
    // The standard library tries the addresses of a name in the same way.
    let mut result = Err(io::Error::other("the host has no address"));
    for address in lookup_host((host, port)).await? {
        result = listen_on(address).map(|listener| vec![listener]);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Listens on both addresses, or on the one that the system has.
///
/// A port that is taken on one of them is an error. Otherwise clients that look up the name would
/// reach this program at one address and another program at the other.
fn on_localhost(
    port: u16,
    open: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<Vec<TcpListener>> {
    let mut tries = 0;
    loop {
        tries += 1;
        let first = open((Ipv4Addr::LOCALHOST, port).into());
        let same_port = match &first {
            Ok(listener) => listener.local_addr()?.port(),
            Err(_) => port,
        };
        let second = open((Ipv6Addr::LOCALHOST, same_port).into());
        match (first, second) {
            (Ok(first), Ok(second)) => return Ok(vec![first, second]),
            (Ok(_), Err(why)) if is_taken(&why) && port == 0 && tries < FREE_PORT_TRIES => {}
            (Ok(only), Err(why)) | (Err(why), Ok(only)) if is_without_family(&why) => {
                return Ok(vec![only]);
            }
            (Err(why), _) | (Ok(_), Err(why)) => return Err(why),
        }
    }
}

/// Listens on every address of IPv6 and IPv4, with one socket.
fn on_every_address(
    port: u16,
    open: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<Vec<TcpListener>> {
    let listener = match open((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(why) if is_without_family(&why) => {
            tracing::info!("there is no IPv6, only the addresses of IPv4 are served: {why}");
            open((Ipv4Addr::UNSPECIFIED, port).into())
        }
        result => result,
    };
    Ok(vec![listener?])
}

fn is_taken(why: &io::Error) -> bool {
    why.kind() == io::ErrorKind::AddrInUse
}

/// Whether the system lacks IPv4 or IPv6: its kernel does not know it, or it is switched off.
fn is_without_family(why: &io::Error) -> bool {
    why.kind() == io::ErrorKind::AddrNotAvailable
        || why.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Without this a restart fails while the system still keeps connections of the last run.
    socket.set_reuseaddr(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Without this a setting of the system (bindv6only) decides whether IPv4 is included.
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens sockets like a system that answers `errno` for one family.
    fn without(family: fn(&SocketAddr) -> bool, errno: Errno) -> impl Fn(SocketAddr) -> Opened {
        move |address| match family(&address) {
            true => Err(errno.into()),
            false => listen_on(address),
        }
    }

    type Opened = io::Result<TcpListener>;

    /// Whether this system has IPv6. A container often has none.
    fn has_ipv6() -> bool {
        TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
    }

    fn addresses(sockets: &[TcpListener]) -> Vec<SocketAddr> {
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap());
        addresses.collect()
    }

    #[tokio::test]
    async fn every_address_means_both_families_or_the_one_that_exists() {
        let sockets = open("::", 0).await.unwrap();
        assert_eq!(sockets.len(), 1);
        assert_eq!(SockRef::from(&sockets[0]).only_v6().ok(), Some(false));
        for errno in [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL] {
            let sockets = on_every_address(0, without(SocketAddr::is_ipv6, errno)).unwrap();
            assert_eq!(addresses(&sockets)[0].ip(), Ipv4Addr::UNSPECIFIED);
        }
        let why = on_every_address(0, without(SocketAddr::is_ipv6, Errno::EACCES)).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn localhost_is_both_of_its_addresses_or_the_one_that_exists() {
        let sockets = open("LocalHost", 0).await.unwrap();
        let both = addresses(&sockets);
        assert_eq!(both[0].ip(), Ipv4Addr::LOCALHOST);
        let second: SocketAddr = (Ipv6Addr::LOCALHOST, both[0].port()).into();
        assert_eq!(both.get(1), has_ipv6().then_some(&second));
        for errno in [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL] {
            let sockets = on_localhost(0, without(SocketAddr::is_ipv6, errno)).unwrap();
            assert_eq!(addresses(&sockets)[0].ip(), Ipv4Addr::LOCALHOST);
            assert_eq!(sockets.len(), 1);
            if has_ipv6() {
                let sockets = on_localhost(0, without(SocketAddr::is_ipv4, errno)).unwrap();
                assert_eq!(addresses(&sockets)[0].ip(), Ipv6Addr::LOCALHOST);
            }
        }
        on_localhost(0, without(|_| true, Errno::EAFNOSUPPORT)).unwrap_err();
        on_localhost(0, without(SocketAddr::is_ipv6, Errno::EACCES)).unwrap_err();
    }

    #[test]
    fn a_free_port_of_localhost_is_free_on_both_addresses() {
        if !has_ipv6() {
            return;
        }
        let tries = std::cell::Cell::new(0);
        let often_taken = |until: u32| {
            let tries = &tries;
            tries.set(0);
            move |address: SocketAddr| {
                if address.is_ipv6() {
                    tries.set(tries.get() + 1);
                    if tries.get() < until {
                        return Err(Errno::EADDRINUSE.into());
                    }
                }
                // This needs no runtime.
                TcpListener::bind(address)
            }
        };
        let both = addresses(&on_localhost(0, often_taken(3)).unwrap());
        assert_eq!((tries.get(), both[0].port()), (3, both[1].port()));
        let why = on_localhost(0, often_taken(u32::MAX)).unwrap_err();
        assert_eq!((tries.get(), is_taken(&why)), (FREE_PORT_TRIES, true));
    }
}
