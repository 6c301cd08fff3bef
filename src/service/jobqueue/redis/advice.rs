//! Which setting to look at when a connection cannot be opened.
//!
//! The advice names the settings and the places where the user and the password came from. It
//! shows neither the user nor the password.

use std::io;
use std::path::PathBuf;

use redis::{ErrorKind, RedisError};

use super::words::{io_cause, is_unknown_name};
use crate::config::{RedisConfig, plain};

const ADDR: &str = "cache_server.redis.jobqueue.addr (REDIS_JOBQUEUE_ADDR)";
const USERNAME: &str = "cache_server.redis.jobqueue.username";
const PASSWORD: &str = "cache_server.redis.jobqueue.password \
                        (APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD)";
const TLS: &str = "cache_server.redis.jobqueue.tls";
/// The beginnings of URLs that ask for TLS.
const TLS_SCHEMES: [&str; 2] = ["rediss:", "valkeys:"];
const HELLO: &str = "the queue needs a Redis 7.0 or later whose HELLO is not renamed";

/// What the advice depends on: how this process' settings name its Redis.
pub(super) struct Advice {
    password: Origin,
    is_url: bool,
    is_socket: bool,
    tls: bool,
}

/// Where the password comes from.
enum Origin {
    Nowhere,
    Setting,
    Url,
    File(PathBuf),
}

impl Advice {
    /// `in_url` says whether the address holds a password.
    pub(super) fn new(config: &RedisConfig, in_url: bool) -> Self {
        let password = match (&config.password_file, &config.password) {
            (Some(file), _) => Origin::File(file.clone()),
            (None, Some(_)) => Origin::Setting,
            (None, None) if in_url => Origin::Url,
            (None, None) => Origin::Nowhere,
        };
        Self {
            password,
            is_url: config.addr.contains("://"),
            is_socket: config.addr.starts_with("unix:"),
            tls: config.tls || TLS_SCHEMES.iter().any(|it| config.addr.starts_with(it)),
        }
    }

    /// What to do about a connection that ended with `error` before it could be used. When an
    /// earlier one `worked`, nothing is wrong with the address.
    pub(super) fn on(&self, error: &RedisError, worked: bool) -> Option<String> {
        let details = error.detail().unwrap_or_default();
        match (error.kind(), error.code()) {
            (_, Some("NOAUTH" | "WRONGPASS")) => Some(self.on_password()),
            (_, Some("ERR")) if details.contains("DB index") => Some(format!(
                "the database comes from {}",
                match self.is_url {
                    true => ADDR,
                    false => "cache_server.redis.jobqueue.db",
                }
            )),
            (_, Some("ERR")) if details.contains("unknown command") => Some(HELLO.to_owned()),
            (ErrorKind::RESP3NotSupported, _) | (_, Some("NOPROTO")) => Some(HELLO.to_owned()),
            (ErrorKind::Parse, _) => Some(format!("check {ADDR}{}", self.or_tls())),
            (ErrorKind::Io, _) if io_cause(error).is_some_and(is_unknown_name) => {
                Some(format!("check {ADDR}"))
            }
            (ErrorKind::Io, _) if !worked && self.is_socket => Some(format!("check {ADDR}")),
            (ErrorKind::Io, _) if !worked && !self.tls && io_cause(error).is_some_and(is_end) => {
                Some(format!(
                    "see {TLS} if the server expects TLS (rediss:// in a URL)"
                ))
            }
            _ => None,
        }
    }

    /// The advice to try TLS. A server that expects TLS answers in TLS, and ends a connection that
    /// does not begin with it.
    fn or_tls(&self) -> String {
        match self.tls || self.is_socket {
            true => String::new(),
            false => format!(", and {TLS} if the server expects TLS (rediss:// in a URL)"),
        }
    }

    fn on_password(&self) -> String {
        match &self.password {
            Origin::Nowhere => format!("set {PASSWORD}, and {USERNAME} for a user of its own"),
            Origin::Setting => format!("check {PASSWORD} and {USERNAME}"),
            Origin::Url => format!("check the user and the password in {ADDR}"),
            Origin::File(path) => format!(
                "check the password in {} (cache_server.redis.jobqueue.password_file) and \
                 {USERNAME}",
                plain::path(path)
            ),
        }
    }
}

/// Whether the other side has ended the connection.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let kind = error.kind();
    matches!(
        kind,
        Kind::ConnectionReset | Kind::BrokenPipe | Kind::UnexpectedEof
    )
}
