//! The address of Redis as the user writes it: what is accepted, what it carries
//! besides the place, and how to show it. It connects to nothing; URLs are read with
//! the parser that the Redis client uses, so that both agree on what is one.

use url::Url;

/// What is accepted, for error messages.
pub(super) const EXPECTED: &str = "host:port ([address]:port for IPv6), \
    redis://[user:password@]host[:port][/db], rediss://... for TLS, \
    or unix:///path/to/socket[?db=0&user=name&pass=password], without further parts";

/// The settings that an address gives as well, so that a second one can be refused.
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

/// Reads an address; `None` when it is none of the accepted forms.
pub(super) fn read(addr: &str) -> Option<Carried> {
    if !addr.contains("://") {
        return is_host_and_port(addr).then(Carried::default);
    }
    let url = Url::parse(addr).ok()?;
    // Fragments have a meaning for the client (no certificate checks) that is not offered.
    if url.fragment().is_some() {
        return None;
    }
    match url.scheme() {
        "redis" | "rediss" => read_tcp(&url),
        "unix" => read_unix(&url),
        _ => None,
    }
}

fn read_tcp(url: &Url) -> Option<Carried> {
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    let db = url.path().trim_matches('/');
    if !has_host || url.port() == Some(0) || url.query().is_some() {
        return None;
    }
    if !db.is_empty() && !is_db(db) {
        return None;
    }
    Some(Carried {
        is_url: true,
        tls: url.scheme() == "rediss",
        username: !url.username().is_empty(),
        password: url.password().is_some(),
        db: !db.is_empty(),
    })
}

fn read_unix(url: &Url) -> Option<Carried> {
    // Two slashes instead of three make the first directory a host.
    if url.has_host() && url.host_str() != Some("") || url.path().len() < 2 {
        return None;
    }
    let mut carried = Carried {
        is_url: true,
        ..Carried::default()
    };
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "db" if is_db(&value) => carried.db = true,
            "user" => carried.username = true,
            "pass" => carried.password = true,
            _ => return None,
        }
    }
    Some(carried)
}

fn is_db(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|db| super::DB.contains(&db))
}

fn is_host_and_port(addr: &str) -> bool {
    let Some((host, port)) = addr.rsplit_once(':') else {
        return false;
    };
    let host = match host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(host),
    };
    host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Whether `host` can be a name or an IPv4 address; resolving it is for later.
pub(super) fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// The address with nothing in it that could be a credential, for people to read.
///
/// What cannot be parsed is not shown at all: nobody can tell where a password in it ends.
pub(super) fn without_credentials(addr: &str) -> String {
    const HIDDEN: &str = "an address that cannot be parsed (not shown: it may hold a password)";

    if !addr.contains("://") {
        return match addr.contains('@') {
            true => HIDDEN.to_owned(),
            false => addr.to_owned(),
        };
    }
    let Ok(url) = Url::parse(addr) else {
        return HIDDEN.to_owned();
    };
    let port = url.port().map(|port| format!(":{port}"));
    format!(
        "{}://{}{}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        port.unwrap_or_default(),
        url.path()
    )
}

#[cfg(test)]
mod tests {
    use super::{is_host_name, read, without_credentials};

    #[test]
    fn accepted_addresses() {
        for addr in [
            "localhost:6379",
            "redis-1.example.com:1",
            "my_redis:65535",
            "10.0.0.1:6379",
            "[::1]:6379",
            "redis://localhost",
            "redis://localhost:6379/",
            "redis://user:p%40ss@localhost:6379/3",
            "rediss://[::1]:6380/0",
            "unix:///run/redis.sock",
            "unix:///run/redis.sock?db=2&user=u&pass=p",
        ] {
            assert!(read(addr).is_some(), "{addr} was refused");
        }
    }

    #[test]
    fn refused_addresses() {
        for addr in [
            "",
            "localhost",
            ":6379",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            "local host:6379",
            "user:pw@localhost:6379",
            "::1:6379",
            "[nonsense]:6379",
            "http://localhost:6379",
            "redis://",
            "redis:///0",
            "redis://localhost:0",
            "redis://localhost:70000",
            "redis://localhost/-1",
            "redis://localhost/zero",
            "redis://localhost/99999999999",
            "redis://localhost?timeout=5s",
            "rediss://localhost/#insecure",
            "unix://",
            "unix:///",
            "unix://run/redis.sock",
            "unix:///run/redis.sock?db=x",
            "unix:///run/redis.sock?password=x",
        ] {
            assert!(read(addr).is_none(), "{addr} was accepted");
        }
    }

    #[test]
    fn an_address_tells_what_it_carries() {
        let Some(all) = read("rediss://user:pw@localhost/1") else {
            panic!("refused");
        };
        assert!(all.is_url && all.tls && all.username && all.password && all.db);
        let Some(none) = read("redis://localhost") else {
            panic!("refused");
        };
        assert!(none.is_url && !none.tls && !none.username && !none.password && !none.db);
        let Some(unix) = read("unix:///run/redis.sock?pass=pw") else {
            panic!("refused");
        };
        assert!(unix.is_url && !unix.tls && !unix.username && unix.password && !unix.db);
    }

    #[test]
    fn credentials_are_never_shown() {
        for addr in [
            "redis://user:s3cret@localhost:6379/2",
            "redis://:s3cret@localhost",
            "redis://:s3cret",
            "redis://:a/s3cret@localhost",
            "redis://:a?s3cret@localhost",
            "redis://:a#s3cret@localhost",
            "redis://:a@s3cret@localhost",
            "redis:// :s3cret@local host",
            "unix:///run/redis.sock?pass=s3cret",
            "unix:///run/redis.sock#s3cret",
            "user:s3cret@localhost:6379",
        ] {
            let shown = without_credentials(addr);
            assert!(!shown.contains("s3cret"), "{addr} is shown as {shown}");
        }
    }

    #[test]
    fn the_place_is_shown() {
        let shown = without_credentials("rediss://user:s3cret@localhost:6380/2");
        assert_eq!(shown, "rediss://localhost:6380/2");
        let shown = without_credentials("unix:///run/redis.sock?pass=s3cret");
        assert_eq!(shown, "unix:///run/redis.sock");
        assert_eq!(without_credentials("localhost:6379"), "localhost:6379");
    }

    #[test]
    fn a_host_name_has_no_port() {
        assert!(is_host_name("0.0.0.0"));
        assert!(!is_host_name("0.0.0.0:8080"));
        assert!(!is_host_name(""));
    }
}
