//! What is wrong with an address that is not accepted, and what to write instead.
//!
//! An address may hold a password where only its author expects it. So a message shows no more of it
//! than a host and a port, and only when they are surely that.

use url::Url;

use super::place::{is_host, place_of};
use crate::config::plain;

/// Why an address is refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The words for what was found.
    pub(crate) found: String,
    /// What to write instead.
    pub(crate) hint: String,
}

impl Refused {
    pub(super) fn new(found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            hint: hint.into(),
        }
    }

    pub(super) fn hidden(hint: impl Into<String>) -> Self {
        Self::new(plain::HIDDEN, hint)
    }

    pub(super) fn wildcard(shown: &str) -> Self {
        let hint = "name the host that Redis runs on: this address is only for listening";
        Self::new(shown, hint)
    }
}

const USER_VARIABLE: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME";
const PASSWORD_VARIABLE: &str = "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD";

/// Schemes of other programs and libraries, and what to write instead.
const SCHEMES: [(&str, &str); 16] = [
    ("tcp", "write redis:// instead, or host:port alone"),
    ("tls", "write rediss:// instead"),
    ("ssl", "write rediss:// instead"),
    ("http", "write redis:// instead, with the port of Redis"),
    ("https", "write rediss:// instead, with the port of Redis"),
    ("redis+tls", "write rediss:// instead"),
    ("redis+ssl", "write rediss:// instead"),
    ("redis+unix", "write unix:// instead"),
    ("redis+socket", "write unix:// instead"),
    ("redis-socket", "write unix:// instead"),
    ("valkey+unix", "write unix:// instead"),
    (
        "redis+sentinel",
        "write the address of one server: Sentinel is not supported",
    ),
    (
        "redis-sentinel",
        "write the address of one server: Sentinel is not supported",
    ),
    (
        "sentinel",
        "write the address of one server: Sentinel is not supported",
    ),
    (
        "redis+cluster",
        "write the address of one server: Cluster is not supported",
    ),
    (
        "redis-cluster",
        "write the address of one server: Cluster is not supported",
    ),
];

/// The scheme, host and port of a URL, when they are surely that. If a password has an unescaped / or
/// ?, the parser takes its beginning for the host, and an @ follows later.
pub(super) fn place(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| is_host(host))?;
    let rest = [Some(url.path()), url.query(), url.fragment()];
    if rest.into_iter().flatten().any(|part| part.contains('@')) {
        return None;
    }
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    Some(format!("{}://{host}{port}", url.scheme()))
}

/// What is wrong with the URL `addr`, whose host is not surely a host.
pub(super) fn of_url(addr: &str) -> Refused {
    let authority = addr.split_once("://").map_or("", |(_, rest)| rest);
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    let hosts = hosts.split(['/', '?', '#']).next().unwrap_or_default();
    if hosts.contains(',') {
        return Refused::hidden("write one address, not several");
    }
    if addr.contains('@') {
        return Refused::hidden(format!(
            "write special characters of user and password as percent codes (/ as %2F, # as %23, \
             ? as %3F), or the password in the variable {PASSWORD_VARIABLE}"
        ));
    }
    Refused::hidden("check host and port")
}

/// What is wrong with a URL of a scheme that is not accepted.
pub(super) fn of_scheme(url: &Url) -> Refused {
    let known = SCHEMES.iter().find(|(scheme, _)| *scheme == url.scheme());
    match known {
        Some((scheme, hint)) => Refused::new(format!("a URL with {scheme}://"), *hint),
        None => Refused::hidden("begin the URL with redis://, rediss:// or unix://"),
    }
}

pub(super) fn of_percent(shown: &str) -> Refused {
    Refused::new(
        format!("{shown} with a percent code that stands for no text"),
        "write % itself as %25 in user and password",
    )
}

/// What is wrong with an address without a scheme.
pub(super) fn of_host_and_port(addr: &str) -> Refused {
    if addr.contains('=') {
        return of_pairs(addr);
    }
    if addr.contains('@') {
        return Refused::hidden(format!(
            "begin the URL with redis://, or write the password in the variable {PASSWORD_VARIABLE}"
        ));
    }
    if addr.contains([',', ';']) {
        return Refused::hidden("write one address, not several");
    }
    if addr.parse::<std::net::Ipv6Addr>().is_ok() {
        return Refused::new(
            "an IPv6 address",
            "write it in brackets, with the port behind them",
        );
    }
    match addr.rsplit_once(':') {
        None => Refused::new(plain::shown(addr), "add the port, such as :6379"),
        Some(("", port)) if port.parse::<u16>().is_ok() => {
            Refused::new("a port alone", "name the host, such as localhost")
        }
        Some(_) => Refused::hidden("check host and port, which is a number from 1 to 65535"),
    }
}

/// What is wrong with `host:6380,password=…,ssl=True`, which StackExchange.Redis and cloud portals
/// write, and with other texts of names and values.
fn of_pairs(addr: &str) -> Refused {
    let parts = || addr.split([',', ';', ' ']).map(str::trim);
    let has = |name: &str| {
        let mut names = parts().filter_map(|part| part.split_once('='));
        names.any(|(found, _)| found.trim().eq_ignore_ascii_case(name))
    };
    let is_on = |(name, value): (&str, &str)| {
        name.trim().eq_ignore_ascii_case("ssl") && value.trim().eq_ignore_ascii_case("true")
    };
    let has_tls = parts().filter_map(|part| part.split_once('=')).any(is_on);
    let scheme = if has_tls { "rediss" } else { "redis" };
    let place = parts().find(|part| place_of(part).is_some());
    let found = match place {
        Some(place) => format!("{place} among settings of the form name=value"),
        None => "settings of the form name=value (not shown: they may hold a password)".to_owned(),
    };
    let mut hint = format!(
        "write {scheme}://{}, and the password in the variable {}",
        place.unwrap_or("host:port"),
        PASSWORD_VARIABLE
    );
    if has("user") || has("username") {
        hint.push_str(&format!(", the user in {USER_VARIABLE}"));
    }
    Refused::new(found, hint)
}
