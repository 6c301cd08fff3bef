//! Listening: on the host and port that the settings name, or on another port when that may
//! be. One host can be two addresses: `localhost` is that of IPv4 and that of IPv6.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use nix::errno::Errno;
use socket2::SockRef;
use tokio::net::{TcpSocket, lookup_host};

/// How many connections may wait to be accepted. The system caps it; the 128 of the
/// standard library make clients of a burst wait for a second.
const BACKLOG: u32 = 4096;

/// How many ports are tried until one is free on both addresses of `localhost`.
const FREE_PORT_TRIES: u32 = 10;

/// The sockets that a program listens on: at least one, and all of one port.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// An address at which it can be reached; of `localhost` that of IPv4, if there is one.
    ///
    /// # Errors
    ///
    /// When the system does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0[0].local_addr()
    }

    pub(super) fn into_sockets(self) -> Vec<TcpListener> {
        self.0
    }
}

/// Listens on `host` and `port`, where port 0 means any free one.
///
/// `::` is every address of the system, those of IPv4 too, also where there is no IPv6.
/// `localhost` is both addresses by which a host calls itself. Of any other name it is the first
/// address that works.
///
/// `section` names the settings in the error message, such as `server` for
/// `server.host` and `server.port`.
///
/// # Errors
///
/// When `host` is unknown or the port cannot be used. The message is for the operator: it
/// says where, why, and which setting to change.
pub async fn bind(host: &str, port: u16, section: &str) -> io::Result<Listeners> {
    let advice = |why: io::Error| {
        let reason = match why.kind() {
            io::ErrorKind::AddrInUse => {
                format!("address in use; free it or set {section}.port")
            }
            io::ErrorKind::PermissionDenied => {
                format!("{why}; set {section}.port to a port that this user may use")
            }
            _ => format!("{why}; set {section}.host to an address of this host"),
        };
        let place = Place { host, port };
        io::Error::new(why.kind(), format!("cannot listen on {place}: {reason}"))
    };
    listen(host, port).await.map(Listeners).map_err(advice)
}

/// Like [`bind`], but takes any free port when the wanted one is taken, be it on one address
/// of several.
///
/// # Errors
///
/// Those of [`bind`], except that a port in use is none.
pub async fn bind_or_any(host: &str, port: u16, section: &str) -> io::Result<Listeners> {
    match bind(host, port, section).await {
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => {
            let listeners = bind(host, 0, section).await?;
            let taken = listeners.local_addr()?.port();
            tracing::info!(wanted = port, taken, "port in use, listening on another");
            Ok(listeners)
        }
        result => result,
    }
}

/// A host and a port as they are written in an address.
struct Place<'a> {
    host: &'a str,
    port: u16,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

async fn listen(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    // Whatever the system's table of hosts says: it often knows one of the two addresses.
    if host.eq_ignore_ascii_case("localhost") {
        return on_localhost(port, listen_on);
    }
    if host.parse() == Ok(Ipv6Addr::UNSPECIFIED) {
        return on_every_address(port, listen_on);
    }
    // As in the standard library.
    let mut result = Err(io::Error::other("the host has no address"));
    for address in lookup_host((host, port)).await? {
        result = listen_on(address).map(|listener| vec![listener]);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// On both addresses, or on the one that the system has. A port that is taken on one of them
/// is taken: a client that looks up the name would meet now one program, now the other.
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

/// Whether the system lacks IPv4 or IPv6: the kernel has none, or it is switched off.
fn is_without_family(why: &io::Error) -> bool {
    why.kind() == io::ErrorKind::AddrNotAvailable
        || why.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Without it a restart would fail while connections of the last run linger.
    socket.set_reuseaddr(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Whether that includes IPv4 is the system's choice otherwise (bindv6only).
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_says_what_to_do() {
        let first = bind("127.0.0.1", 0, "server").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let why = bind("127.0.0.1", port, "server").await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            why.to_string(),
            format!(
                "cannot listen on 127.0.0.1:{port}: address in use; free it or set server.port"
            )
        );
    }

    #[tokio::test]
    async fn any_port_will_do_when_the_wanted_one_is_taken() {
        let first = bind_or_any("127.0.0.1", 0, "jobqueue").await.unwrap();
        let taken = first.local_addr().unwrap().port();
        let second = bind_or_any("127.0.0.1", taken, "jobqueue").await.unwrap();
        assert_ne!(second.local_addr().unwrap().port(), taken);
        drop(first);
        let third = bind_or_any("127.0.0.1", taken, "jobqueue").await.unwrap();
        assert_eq!(third.local_addr().unwrap().port(), taken);
    }

    /// Where there is no IPv6, or no IPv4.
    fn without(family: fn(&SocketAddr) -> bool, errno: Errno) -> impl Fn(SocketAddr) -> Opened {
        move |address| match family(&address) {
            true => Err(errno.into()),
            false => listen_on(address),
        }
    }

    type Opened = io::Result<TcpListener>;

    /// A container often has none.
    fn has_ipv6() -> bool {
        TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
    }

    fn addresses(sockets: &[TcpListener]) -> Vec<SocketAddr> {
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap());
        addresses.collect()
    }

    #[tokio::test]
    async fn every_address_means_both_families_or_the_one_that_there_is() {
        let sockets = bind("::", 0, "server").await.unwrap().into_sockets();
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
    async fn localhost_is_both_of_its_addresses_or_the_one_that_there_is() {
        let sockets = bind("LocalHost", 0, "server").await.unwrap().into_sockets();
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

    #[tokio::test]
    async fn a_port_that_is_taken_on_one_address_is_taken() {
        for taken in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
            if taken == "::1" && !has_ipv6() {
                continue;
            }
            let first = bind(taken, 0, "jobqueue").await.unwrap();
            let port = first.local_addr().unwrap().port();
            for host in ["localhost", "::"] {
                let why = bind(host, port, "jobqueue").await.unwrap_err();
                assert_eq!(why.kind(), io::ErrorKind::AddrInUse, "{taken} {host}");
                let other = bind_or_any(host, port, "jobqueue").await.unwrap();
                assert_ne!(other.local_addr().unwrap().port(), port);
            }
        }
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
                // Without a runtime.
                TcpListener::bind(address)
            }
        };
        let both = addresses(&on_localhost(0, often_taken(3)).unwrap());
        assert_eq!((tries.get(), both[0].port()), (3, both[1].port()));
        let why = on_localhost(0, often_taken(u32::MAX)).unwrap_err();
        assert_eq!((tries.get(), is_taken(&why)), (FREE_PORT_TRIES, true));
    }

    #[tokio::test]
    async fn an_address_of_ipv6_is_shown_in_brackets() {
        let why = bind("2001:db8::1", 80, "server").await.unwrap_err();
        let why = why.to_string();
        assert!(
            why.starts_with("cannot listen on [2001:db8::1]:80: "),
            "{why}"
        );
    }

    #[tokio::test]
    async fn a_foreign_host_is_an_error_that_names_the_setting() {
        for host in ["192.0.2.1", "no.such.host.invalid"] {
            let why = bind_or_any(host, 0, "jobqueue")
                .await
                .unwrap_err()
                .to_string();
            assert!(
                why.starts_with(&format!("cannot listen on {host}:0: ")),
                "{why}"
            );
            assert!(
                why.ends_with("; set jobqueue.host to an address of this host"),
                "{why}"
            );
        }
    }
}
