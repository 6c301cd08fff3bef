//! Listening: on the port that the settings name, or on another when that may be.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use tokio::net::{TcpSocket, lookup_host};

/// How many connections may wait to be accepted. The system caps it; the 128 of the
/// standard library make clients of a burst wait for a second.
const BACKLOG: u32 = 4096;

/// Listens on `host` and `port`, where port 0 means any free one.
///
/// `section` names the settings in the error message, such as `server` for
/// `server.host` and `server.port`.
///
/// # Errors
///
/// When `host` is unknown or the port cannot be used. The message is for the operator: it
/// says where, why, and which setting to change.
pub async fn bind(host: &str, port: u16, section: &str) -> io::Result<TcpListener> {
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
        io::Error::new(
            why.kind(),
            format!("cannot listen on {host}:{port}: {reason}"),
        )
    };
    listen(host, port).await.map_err(advice)
}

/// Like [`bind`], but takes any free port when the wanted one is taken.
///
/// # Errors
///
/// Those of [`bind`], except that a port in use is none.
pub async fn bind_or_any(host: &str, port: u16, section: &str) -> io::Result<TcpListener> {
    match bind(host, port, section).await {
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => {
            let listener = bind(host, 0, section).await?;
            let taken = listener.local_addr()?.port();
            tracing::info!(wanted = port, taken, "port in use, listening on another");
            Ok(listener)
        }
        result => result,
    }
}

/// The first address of `host` that works, as in the standard library.
async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut result = Err(io::Error::other("the host has no address"));
    for address in lookup_host((host, port)).await? {
        result = listen_on(address);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Without it a restart would fail while connections of the last run linger.
    socket.set_reuseaddr(true)?;
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
