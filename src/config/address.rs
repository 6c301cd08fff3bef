//! The address of Redis as the user writes it: what is accepted, which settings it carries, and how
//! to show it. Nothing here connects.
//!
//! URLs are read with the parser of the Redis client, so that both agree on what a URL is. Whatever
//! the client would refuse is refused here, in this project's words.

mod mistakes;
mod place;

use percent_encoding::percent_decode_str;
use url::Url;

#[cfg(any(feature = "programs", test))]
pub(super) use place::is_host_name;

use self::{
    mistakes::Refused,
    place::{ip_of, place_of},
};

/// What is accepted, for error messages.
pub(super) const EXPECTED: &str = "host:port ([address]:port for IPv6), \
    redis://[user:password@]host[:port][/db], rediss://... for TLS, \
    or unix:///path/to/socket[?db=0&user=name&pass=password], without further parts";

/// The settings that an address carries, so that the same setting in a second place can be refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// A URL says by its scheme whether to use TLS.
    pub(super) is_url: bool,
    /// The address uses TLS.
    pub(super) tls: bool,
    /// The address names a user.
    pub(super) username: bool,
    /// The address holds a password.
    pub(super) password: bool,
    /// The address names a database.
    pub(super) db: bool,
}

/// Reads an address.
pub(super) fn read(addr: &str) -> Result<Carried, Refused> {
    // The parser of URLs removes line ends and tabs, also from passwords.
    if addr.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Refused::hidden("write it without blanks and line ends"));
    }
    if !addr.contains("://") {
        return match place_of(addr) {
            Some(place) if place.is_wildcard() => Err(Refused::wildcard(addr)),
            Some(_) => Ok(Carried::default()),
            None => Err(mistakes::of_host_and_port(addr)),
        };
    }
    let Ok(url) = Url::parse(addr) else {
        return Err(mistakes::of_url(addr));
    };
    match url.scheme() {
        "redis" | "valkey" | "rediss" | "valkeys" => read_tcp(addr, &url),
        "unix" => read_unix(&url),
        _ => Err(mistakes::of_scheme(&url)),
    }
}

fn read_tcp(addr: &str, url: &Url) -> Result<Carried, Refused> {
    let Some(shown) = mistakes::place(url) else {
        return Err(mistakes::of_url(addr));
    };
    // For the client a fragment can mean that certificates are not checked. This is not offered.
    if url.fragment().is_some() || url.query().is_some() {
        let hint = "leave out what follows ? or #, or write it as %3F or %23 in a password";
        return Err(Refused::new(shown, hint));
    }
    let is_wildcard = url
        .host_str()
        .and_then(ip_of)
        .is_some_and(|ip| ip.is_unspecified());
    if is_wildcard {
        return Err(Refused::wildcard(&shown));
    }
    if url.port() == Some(0) {
        return Err(Refused::new(shown, "name a port from 1 to 65535"));
    }
    let db = url.path().trim_matches('/');
    if !db.is_empty() && !is_db(db) {
        let hint = "name the database by a number from 0 to 2147483647";
        return Err(Refused::new(format!("{shown} and another path"), hint));
    }
    for part in [Some(url.username()), url.password()].into_iter().flatten() {
        if !decodes(part) {
            return Err(mistakes::of_percent(&shown));
        }
    }
    Ok(Carried {
        is_url: true,
        tls: matches!(url.scheme(), "rediss" | "valkeys"),
        username: !url.username().is_empty(),
        password: url.password().is_some(),
        db: !db.is_empty(),
    })
}

fn read_unix(url: &Url) -> Result<Carried, Refused> {
    // Two slashes instead of three make the first directory a host.
    let has_host = url.has_host() && url.host_str() != Some("");
    let has_path =
        url.path().len() > 1 && url.to_file_path().is_ok() && !url.path().contains("%00");
    if has_host || !has_path || url.fragment().is_some() {
        return Err(Refused::hidden(
            "write unix:/// with three slashes and the whole path",
        ));
    }
    let mut carried = Carried {
        is_url: true,
        ..Carried::default()
    };
    for pair in url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !decodes(value) {
            return Err(mistakes::of_percent("a unix:// URL"));
        }
        let seen = match name {
            "db" if is_db(value) => &mut carried.db,
            "user" => &mut carried.username,
            "pass" => &mut carried.password,
            _ => {
                return Err(Refused::hidden(
                    "write db, user and pass behind ?, and nothing else",
                ));
            }
        };
        if std::mem::replace(seen, true) {
            return Err(Refused::hidden("write each of db, user and pass once"));
        }
    }
    Ok(carried)
}

/// Redis has the number of a database as an `int`.
fn is_db(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<i32>().is_ok()
}

/// Whether two hexadecimal digits follow each %, and the decoded bytes are text.
fn decodes(text: &str) -> bool {
    let is_code = |rest: &str| {
        let code = rest.as_bytes().get(..2);
        code.is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(is_code) && percent_decode_str(text).decode_utf8().is_ok()
}

/// The address without anything that could be a credential, for people to read.
///
/// An address that is not accepted is not shown at all: it is unknown where a password in it ends.
pub(super) fn without_credentials(addr: &str) -> String {
    if read(addr).is_err() {
        return "an address that is not shown since it may hold a password".to_owned();
    }
    let Ok(url) = Url::parse(addr) else {
        return addr.to_owned();
    };
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    match url.host_str() {
        // The scheme of host:port is the host.
        _ if !addr.contains("://") => addr.to_owned(),
        host => format!(
            "{}://{}{port}{}",
            url.scheme(),
            host.unwrap_or_default(),
            url.path()
        ),
    }
}

#[cfg(test)]
mod tests;
