//! Hosts and ports: what can be one.

use std::net::{IpAddr, Ipv6Addr};

/// A host and a port, and nothing else.
pub(super) struct Place<'a> {
    host: &'a str,
}

impl Place<'_> {
    /// Whether the host is an address that only a listener can have.
    pub(super) fn is_wildcard(&self) -> bool {
        ip_of(self.host).is_some_and(|ip| ip.is_unspecified())
    }
}

/// The place that `addr` is, when it is `host:port` and nothing else.
pub(super) fn place_of(addr: &str) -> Option<Place<'_>> {
    let (host, port) = addr.rsplit_once(':')?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
    (is_port && is_host(host)).then_some(Place { host })
}

/// Whether `host` is a name or an address. An IPv6 address has brackets.
pub(super) fn is_host(host: &str) -> bool {
    match host.starts_with('[') {
        true => ip_of(host).is_some(),
        false => is_host_name(host),
    }
}

pub(super) fn ip_of(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// Whether `host` can be a name or an IPv4 address. It is not looked up.
pub(crate) fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}
