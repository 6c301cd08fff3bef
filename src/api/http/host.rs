//! Which requests name the host they are meant for as HTTP asks for it (RFC 9112, 3.2).
//!
//! Two of them, or a wrong one, may mean one thing to a proxy and another to this server.

use std::net::Ipv6Addr;

use axum::http::{HeaderMap, Request, StatusCode, Version, header};

use crate::api::problem::Problem;

/// Refuses a request with more than one `Host`, with one that is no host, or, since
/// HTTP/1.1, with none.
///
/// # Errors
///
/// 400. The connection is closed with it: where the next request begins is in doubt.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    check_headers(request.version(), request.headers())
        .map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why).closing())
}

fn check_headers(version: Version, headers: &HeaderMap) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => Ok(()),
        (None, _) => Err("the Host header is missing"),
        (Some(_), Some(_)) => Err("more than one Host header"),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err("the Host header is not a valid host"),
    }
}

/// `uri-host [ ":" port ]`. The host may be empty: that of a target without one is.
fn is_host(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let (is_name, rest) = match host.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((address, rest)) => (is_address(address), rest),
            None => (false, ""),
        },
        None => {
            let (name, rest) = host.split_at(host.find(':').unwrap_or(host.len()));
            (is_reg_name(name), rest)
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    is_name && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// What may stand in brackets (RFC 3986, 3.2.2).
fn is_address(address: &str) -> bool {
    let Some(future) = address.strip_prefix(['v', 'V']) else {
        return address.parse::<Ipv6Addr>().is_ok();
    };
    future.split_once('.').is_some_and(|(version, address)| {
        let is_hex = version.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_plain = address.bytes().all(|byte| byte == b':' || is_plain(byte));
        is_hex && is_plain && !version.is_empty() && !address.is_empty()
    })
}

/// A name, or an IPv4 address, which looks like one.
fn is_reg_name(name: &str) -> bool {
    let mut parts = name.split('%');
    let start = parts.next().unwrap_or_default();
    start.bytes().all(is_plain)
        && parts.all(|part| {
            part.len() >= 2
                && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
                && part.bytes().skip(2).all(is_plain)
        })
}

/// An `unreserved` character or a `sub-delim`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check_hosts(version: Version, hosts: &[&str]) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            let host = HeaderValue::from_bytes(host.as_bytes()).unwrap();
            headers.append(header::HOST, host);
        }
        check_headers(version, &headers)
    }

    #[test]
    fn one_host_is_asked_for_since_http_1_1() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(check_hosts(version, &["x"]).is_ok());
            assert!(check_hosts(version, &["x", "x"]).is_err());
            assert!(check_hosts(version, &["x y"]).is_err());
        }
        assert!(check_hosts(Version::HTTP_10, &[]).is_ok());
        assert!(check_hosts(Version::HTTP_11, &[]).is_err());
    }

    #[test]
    fn what_is_a_host_is_taken() {
        for host in [
            "",
            ":80",
            "x",
            "localhost:8080",
            "localhost:",
            "Jobs.Example.COM.",
            "a_b-c~d!$&'()*+,;=",
            "%e3%81%82.example",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:",
            "[v7.a:b]:1",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "x y",
            "x,\ty",
            "user@x",
            "http://x",
            "x/",
            "x?",
            "x#",
            "x\\",
            "x:port",
            "x:80:80",
            "x:-1",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]]",
            "[]",
            "[x]",
            "[127.0.0.1]",
            "[v.a]",
            "[v1.]",
            "[fe80::1%25eth0]",
            "%",
            "%4",
            "%zz",
            "<x>",
            "\u{3042}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert!(!is_host(b"\xff"));
    }
}
