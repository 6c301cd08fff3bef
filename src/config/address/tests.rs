//! What is accepted as an address of Redis, what is refused and in which words, and that
//! nothing is accepted which the client refuses.

use proptest::prelude::*;

use super::{Carried, is_host_name, read, without_credentials};

/// Whether the Redis client accepts the address, after it is made a URL as connections do it.
fn client_accepts(addr: &str) -> bool {
    let url = match addr.contains("://") {
        true => addr.to_owned(),
        false => format!("redis://{addr}"),
    };
    redis::Client::open(url).is_ok()
}

const ACCEPTED: [&str; 19] = [
    "localhost:6379",
    "redis-1.example.com:1",
    "my_redis:65535",
    "10.0.0.1:6379",
    "[::1]:6379",
    "redis://localhost",
    "redis://localhost:6379/",
    "redis://user:p%40ss@localhost:6379/3",
    "redis://alice@localhost",
    "redis://:pw@localhost",
    "redis://:a@b@localhost",
    "rediss://[::1]:6380/0",
    "REDIS://localhost",
    "valkey://localhost:6379/1",
    "valkeys://user:pw@localhost",
    "unix:///run/redis.sock",
    "unix:///run/redis.sock?db=2&user=u&pass=p",
    "unix:///run/redis.sock?pass=%C3%A9",
    "unix:///run/a%20b",
];

const REFUSED: [&str; 62] = [
    "",
    "localhost",
    ":6379",
    "localhost:",
    "localhost:0",
    "localhost:+1",
    "localhost:65536",
    "local host:6379",
    "localhost:6379\n",
    "h\u{e9}:6379",
    "user:pw@localhost:6379",
    "::1:6379",
    "::1",
    "[nonsense]:6379",
    "[::1]",
    "0.0.0.0:6379",
    "[::]:6379",
    "[0:0::]:6379",
    "host:6380,password=pw,ssl=True",
    "host1:6379,host2:6379",
    "redis:host:6379",
    "tcp://localhost:6379",
    "http://localhost:6379",
    "redis+sentinel://localhost:26379/name",
    "redis+unix:///run/redis.sock",
    "valkey+unix:///run/redis.sock",
    "redis://",
    "redis:///0",
    "redis://localhost:0",
    "redis://localhost:70000",
    "redis://localhost/-1",
    "redis://localhost/+1",
    "redis://localhost/zero",
    "redis://localhost/99999999999",
    "redis://localhost/%31",
    "redis://localhost?timeout=5s",
    "redis://localhost?protocol=resp9",
    "rediss://localhost/#insecure",
    "redis://localhost#x",
    "redis://0.0.0.0",
    "redis://[::]:6379",
    "redis://:%ff@localhost",
    "redis://%ff@localhost",
    "redis://:%zz@localhost",
    "redis://:100%@localhost",
    "redis://a%20b",
    "redis://h\u{e9}",
    "redis://:pa\nss@localhost",
    "redis://host:6379,host2",
    "redis://host1,host2:6379",
    "redis://a/b@localhost",
    "redis://:a/b@localhost",
    "redis://a#b@localhost",
    "redis://a?b@localhost",
    "unix://",
    "unix:///",
    "unix://run/redis.sock",
    "unix:///run/redis.sock?db=x",
    "unix:///run/redis.sock?password=x",
    "unix:///run/redis.sock?pass=a&pass=b",
    "unix:///run/redis.sock?pass=%ff",
    "unix:///run/%00",
];

#[test]
fn accepted_addresses() {
    for addr in ACCEPTED {
        assert!(read(addr).is_ok(), "{addr} was refused");
        assert!(client_accepts(addr), "{addr} was refused by the client");
    }
}

#[test]
fn refused_addresses() {
    for addr in REFUSED {
        assert!(read(addr).is_err(), "{addr} was accepted");
    }
}

proptest! {
    /// Pieces that addresses are made of, put together at random.
    #[test]
    fn the_client_refuses_nothing_that_is_accepted(
        scheme in "(|redis|rediss|valkey|valkeys|unix|tcp)(://|:|)",
        user in "(|[a-z%@/?#:0-9]{0,6}|%[0-9a-f]{2})(@|:@|:%[0-9a-g]{2}@|)",
        host in "(localhost|0.0.0.0|\\[::\\]|\\[::1\\]|[a-z0-9._%/-]{0,5}|/[a-z%0-9]{0,4})",
        port in "(|:[0-9]{0,5})",
        rest in "(|/[0-9+-]{0,4}|\\?(db|user|pass|protocol)=[0-9a-z%]{0,4}|#[a-z]{0,8})",
    ) {
        let addr = format!("{scheme}{user}{host}{port}{rest}");
        prop_assert!(read(&addr).is_err() || client_accepts(&addr), "{addr}");
    }

    #[test]
    fn any_text_is_read_without_a_panic(addr in "\\PC{0,40}", tail in any::<String>()) {
        let addr = format!("{addr}{tail}");
        prop_assert!(read(&addr).is_err() || client_accepts(&addr), "{addr}");
        without_credentials(&addr);
    }
}

#[test]
fn an_address_tells_what_it_carries() {
    let carried = |addr| read(addr).unwrap();
    assert_eq!(
        carried("rediss://user:pw@localhost/1"),
        Carried {
            is_url: true,
            tls: true,
            username: true,
            password: true,
            db: true
        }
    );
    let url = Carried {
        is_url: true,
        ..Carried::default()
    };
    assert_eq!(carried("redis://localhost"), url);
    let alice = carried("redis://alice@localhost");
    assert!(alice.username && !alice.password);
    assert!(carried("valkeys://localhost").tls && !carried("valkey://localhost").tls);
    let unix = carried("unix:///run/redis.sock?pass=pw");
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
        "redis://s3cret/a@localhost",
        "redis://s3cret?a@localhost",
        "redis://s3cret#a@localhost",
        "redis://s3cret/a@localhost:0/x",
        "redis:// :s3cret@local host",
        "unix:///run/redis.sock?pass=s3cret",
        "unix:///run/redis.sock#s3cret",
        "user:s3cret@localhost:6379",
        "localhost:6380,password=s3cret,ssl=True",
        "password=s3cret",
        "s3cret",
        "s3cret://localhost",
        "http://localhost/s3cret",
        "user:s3cret",
    ] {
        let shown = without_credentials(addr);
        assert!(!shown.contains("s3cret"), "{addr} is shown as {shown}");
        if let Err(refused) = read(addr) {
            let words = format!("{refused:?}");
            assert!(!words.contains("s3cret"), "{addr} is refused with {words}");
        }
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
fn the_hint_says_what_to_write_instead() {
    for (addr, found, hint) in [
        (
            "host:6380,password=s3cret,ssl=True,abortConnect=False",
            "host:6380 among settings",
            "write rediss://host:6380, and the password in the variable \
             APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD",
        ),
        (
            "host:6379,user=a,password=b",
            "host:6379",
            "write redis://host:6379",
        ),
        ("Server=host;Password=b", "name=value", "redis://host:port"),
        ("localhost", "\"localhost\"", "add the port"),
        (":6379", "a port alone", "name the host"),
        ("0.0.0.0:6379", "0.0.0.0:6379", "only for listening"),
        ("redis://[::]", "redis://[::]", "only for listening"),
        (
            "redis://:%ff@host",
            "redis://host with a percent code",
            "%25",
        ),
        ("redis://host:6379,host2", "not shown", "one address"),
        ("redis://:a/b@host", "not shown", "%2F"),
        ("tcp://host:1", "a URL with tcp://", "redis://"),
        ("redis+sentinel://host:1", "redis+sentinel://", "Sentinel"),
        ("redis://host:0", "redis://host:0", "from 1 to 65535"),
        ("redis://host/x", "redis://host", "database"),
        ("::1", "an IPv6 address", "brackets"),
    ] {
        let refused = read(addr).unwrap_err();
        assert!(refused.found.contains(found), "{addr}: {refused:?}");
        assert!(refused.hint.contains(hint), "{addr}: {refused:?}");
    }
}

#[test]
fn a_host_name_has_no_port() {
    assert!(is_host_name("0.0.0.0"));
    assert!(!is_host_name("0.0.0.0:8080"));
    assert!(!is_host_name(""));
}
