//! Checks that a request names the one host that it is meant for, as HTTP demands (RFC 9112, 3.2).
//!
//! A request with two hosts, or with a wrong one, can mean one thing to a proxy and another to this
//! server.

use std::net::Ipv6Addr;

use axum::http::{HeaderMap, Request, Version, header};

use crate::api::problem::{Problem, words::BadHost};

/// Refuses a request with more than one `Host` header, or with one that is not a host. Since
/// HTTP/1.1, a request without the header is refused as well.
///
/// # Errors
///
/// 400, after which the connection is closed: it is not certain where the next request begins.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    check_headers(request.version(), request.headers()).map_err(Problem::bad_host)
}

fn check_headers(version: Version, headers: &HeaderMap) -> Result<(), BadHost> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => Ok(()),
        (None, _) => Err(BadHost::Missing),
        (Some(_), Some(_)) => Err(BadHost::Several),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(BadHost::NotAHost),
    }
}

/// Whether `host` is `uri-host [ ":" port ]`. The host may be empty: it is empty when the request's
/// target has none.
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

/// Whether `address` may stand in brackets (RFC 3986, 3.2.2).
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

/// Whether `name` is a name (RFC 3986's `reg-name`), or an IPv4 address, which has the same
/// characters.
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

/// Whether `byte` is an `unreserved` character or a `sub-delim` (RFC 3986).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check_hosts(version: Version, hosts: &[&str]) -> Result<(), BadHost> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            let host = HeaderValue::from_bytes(host.as_bytes()).unwrap();
            headers.append(header::HOST, host);
        }
        check_headers(version, &headers)
    }

    #[test]
    fn a_host_is_required_since_http_1_1() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(check_hosts(version, &["x"]).is_ok());
            assert!(check_hosts(version, &["x", "x"]).is_err());
            assert!(check_hosts(version, &["x y"]).is_err());
        }
        assert!(check_hosts(Version::HTTP_10, &[]).is_ok());
        assert!(check_hosts(Version::HTTP_11, &[]).is_err());
    }

    #[test]
    fn a_valid_host_is_accepted() {
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
    fn an_invalid_host_is_refused() {
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
