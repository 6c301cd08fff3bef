//! Listening on the host and port that the settings name, or on another port when that is allowed.
//! `sockets` opens the sockets; here are the words for the operator when that fails.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
};

use super::sockets;

/// The sockets that a program listens on: at least one, and all with the same port.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// An address at which clients reach the program. For `localhost` it is the IPv4 address, if the
    /// system has IPv4.
    ///
    /// # Errors
    ///
    /// When the system does not know the address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0[0].local_addr()
    }

    pub(super) fn into_sockets(self) -> Vec<TcpListener> {
        self.0
    }
}

/// Listens on `host` and `port`. Port 0 means any free port.
///
/// - `::` means every address of the system, IPv4 and IPv6, or IPv4 alone where there is no IPv6.
/// - `localhost` means 127.0.0.1 and ::1, or the one of them that the system has.
/// - Any other name means the first of its addresses that works.
///
/// `section` is the section of the settings that the error message names: `server` for
/// `server.host` and `server.port`.
///
/// # Errors
///
/// When `host` is unknown or the port cannot be used. The message tells the operator the place, the
/// reason, and the setting to change.
pub async fn bind(host: &str, port: u16, section: &str) -> io::Result<Listeners> {
    let advise = |why: io::Error| {
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
    let opened = sockets::open(host, port).await;
    opened.map(Listeners).map_err(advise)
}

/// Like [`bind`], but takes any free port when `port` is taken on at least one of the addresses.
///
/// # Errors
///
/// Like [`bind`], except for a port that is taken.
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

/// A host and a port as an address has them: `[::1]:80`.
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

    #[tokio::test]
    async fn a_port_that_is_taken_on_one_address_is_taken() {
        for taken in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
            let first = match bind(taken, 0, "jobqueue").await {
                Ok(first) => first,
                // A container often has no IPv6.
                Err(_) if taken == "::1" => continue,
                Err(why) => panic!("{why}"),
            };
            let port = first.local_addr().unwrap().port();
            for host in ["localhost", "::"] {
                let why = bind(host, port, "jobqueue").await.unwrap_err();
                assert_eq!(why.kind(), io::ErrorKind::AddrInUse, "{taken} {host}");
                let other = bind_or_any(host, port, "jobqueue").await.unwrap();
                assert_ne!(other.local_addr().unwrap().port(), port);
            }
        }
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
