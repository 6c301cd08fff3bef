//! How to reach Redis, and secrets that no output shows.

use std::{fmt, path::PathBuf, time::Duration};

use super::{address, plain};

/// How to reach Redis (`cache_server.redis.jobqueue.*`).
///
/// A user, a password or a database stands in `addr` or under its own key. Loading refuses settings
/// that have one of them in both places, and `tls` beside a URL that does not use TLS.
///
/// A user without a password (`redis://alice@host`, or `username` alone) means a login as that user
/// with an empty password, which Redis accepts for users with `nopass`. It never means the
/// `default` user. A password without a user belongs to the `default` user.
#[derive(Clone)]
pub struct RedisConfig {
    /// `host:port`, or a `redis://`, `rediss://`, `valkey://`, `valkeys://` or `unix://` URL.
    /// It may hold a password, so output shows [`RedisConfig::display_addr`] instead.
    pub addr: String,
    /// The ACL user. `None` means Redis' `default` user.
    pub username: Option<String>,
    /// The password; never logged.
    pub password: Option<Secret>,
    /// A file with the password, which is read again for each connection. It is never given together
    /// with `password` or with a password in `addr`.
    pub password_file: Option<PathBuf>,
    /// The database number; 0 leaves it to a URL in `addr`.
    pub db: i64,
    /// Whether to use TLS for a `host:port` address.
    pub tls: bool,
    /// The shortest wait between two attempts to reach Redis.
    pub min_retry_backoff: Duration,
    /// The longest wait between two attempts to reach Redis.
    pub max_retry_backoff: Duration,
    /// How long connecting may take.
    pub dial_timeout: Duration,
    /// How long a reply may take.
    pub read_timeout: Duration,
    /// How long sending may take. A command may take the sum of both.
    pub write_timeout: Duration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            addr: "localhost:6379".to_owned(),
            username: None,
            password: None,
            password_file: None,
            db: 0,
            tls: false,
            min_retry_backoff: ms(100),
            max_retry_backoff: ms(512),
            dial_timeout: ms(1_000),
            read_timeout: ms(1_000),
            write_timeout: ms(500),
        }
    }
}

impl RedisConfig {
    /// The address for log lines and error messages, without user, password and query.
    pub fn display_addr(&self) -> String {
        address::without_credentials(&self.addr)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("addr", &self.display_addr())
            // Users put a password in the wrong place now and then, so these may hold one as well.
            .field("username", &self.username.as_ref().map(|_| Hidden))
            .field("password", &self.password)
            .field(
                "password_file",
                &self.password_file.as_deref().map(plain::path),
            )
            .field("db", &self.db)
            .field("tls", &self.tls)
            .field("min_retry_backoff", &self.min_retry_backoff)
            .field("max_retry_backoff", &self.max_retry_backoff)
            .field("dial_timeout", &self.dial_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("write_timeout", &self.write_timeout)
            .finish()
    }
}

/// Stands for a value in debug output.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A value that must not appear in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes `value` out of sight.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hidden.fmt(f)
    }
}
