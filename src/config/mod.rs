//! Settings: what they are, where they come from, and what is wrong with them.
//!
//! The sources, a later one replacing single keys of an earlier one: the defaults in `keys`,
//! `{APP_ENV}.yaml` or `{APP_ENV}/config.yaml`, `{APP_ENV}/cacheserver.yaml`, variables such
//! as `APP__JOBQUEUE__LEASE`, and `REDIS_JOBQUEUE_ADDR`. The files are in `CONFIG_DIR`, or
//! where `files` finds them. Elsewhere the crate reads only what cannot be a setting: the
//! variables of the logging (`telemetry`) and of the time zone (`time_zone`), and, again and
//! again, the password file.

mod address;
mod error;
mod files;
mod keys;
mod load;
mod names;
pub(crate) mod plain;
mod settings;
mod sources;
mod variables;
mod yaml;

use std::{fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

pub use error::ConfigError;
pub(crate) use keys::{is_secret, setting_of};
pub use sources::Sources;
pub(crate) use variables::override_of;

/// The database numbers that Redis can be told.
const DB: RangeInclusive<i64> = 0..=i32::MAX as i64;

/// Everything the two programs can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The API server.
    pub server: ServerConfig,
    /// The workers.
    pub jobqueue: JobqueueConfig,
    /// The Redis that both use.
    pub redis: RedisConfig,
    /// Which pages of other sites may use the API.
    pub cors: CorsConfig,
    /// How much is logged, and in which form.
    pub logging: LoggingConfig,
    /// Where all of it comes from.
    pub sources: Sources,
}

/// How long a client of a program's port may take (`server.*` and `jobqueue.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpConfig {
    /// From the first byte of a request to the end of its head (`read_timeout`).
    pub read_timeout: Duration,
    /// Until an answer is taken as a whole (`write_timeout`).
    pub write_timeout: Duration,
    /// Between two requests of a connection (`idle_timeout`).
    pub idle_timeout: Duration,
}

/// Settings of the API server (`server.*`).
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to listen on.
    pub host: String,
    /// The port to listen on; 0 means any free port.
    pub port: u16,
    /// How long clients may take.
    pub http: HttpConfig,
    /// How long a request may take at most, Redis included.
    pub request_timeout: Duration,
    /// After a signal: how long connections are still accepted while `/ready` says 503.
    pub drain_delay: Duration,
    /// How long requests in progress may take to finish after a signal.
    pub shutdown_timeout: Duration,
}

/// Settings of a worker process (`jobqueue.*`).
#[derive(Debug, Clone)]
pub struct JobqueueConfig {
    /// The address of the worker's own HTTP (health and readiness).
    pub host: String,
    /// The port of the worker's own HTTP; 0 means any free port.
    pub port: u16,
    /// How long clients of that port may take.
    pub http: HttpConfig,
    /// The queue's name, `[a-z0-9_-]{1,64}`.
    pub queue: String,
    /// How many jobs run at once in this process.
    pub concurrency: usize,
    /// A delivered job that was not renewed for this long is reclaimed.
    pub lease: Duration,
    /// How often held jobs are renewed; less than half the lease.
    pub heartbeat: Duration,
    /// How often a worker looks for jobs to reclaim; at most half a heartbeat.
    pub reclaim_interval: Duration,
    /// Deliveries without an outcome before a job is quarantined.
    pub max_deliveries: u32,
    /// How long one run of a job may take.
    pub job_timeout: Duration,
    /// How long running jobs may take to finish after a signal.
    pub shutdown_timeout: Duration,
    /// How long a job of a type that no worker knows is tried again without being charged
    /// an attempt.
    pub unknown_type_grace: Duration,
    /// The delays between the attempts of a failing job.
    pub retry: RetryConfig,
    /// How many dead letters are kept; the oldest beyond it are dropped.
    pub dead_letter_max_len: u64,
}

/// Exponential backoff between attempts (`jobqueue.retry.*`).
#[derive(Debug, Clone, Copy)]
pub struct RetryConfig {
    /// The delay before the second attempt.
    pub initial: Duration,
    /// What each further delay is multiplied with; at least 1.
    pub factor: f64,
    /// The longest delay, before jitter.
    pub max: Duration,
    /// The share, 0 to 1, by which a delay varies either way.
    pub jitter: f64,
}

/// How to reach Redis (`cache_server.redis.jobqueue.*`).
///
/// A user, password or database comes from `addr` or from its own key, never from both:
/// loading refuses that, and it refuses `tls` beside a URL that does not use it.
///
/// A user without a password (`redis://alice@host`, or `username` alone) means a login as that
/// user with an empty password, which Redis accepts of users with `nopass`; it never means the
/// `default` user. A password without a user belongs to the `default` user.
#[derive(Clone)]
pub struct RedisConfig {
    /// `host:port`, or a `redis://`, `rediss://`, `valkey://`, `valkeys://` or `unix://` URL.
    /// It can hold a password: show [`RedisConfig::display_addr`] instead.
    pub addr: String,
    /// The ACL user; absent means Redis' `default` user.
    pub username: Option<String>,
    /// The password; never logged.
    pub password: Option<Secret>,
    /// A file that holds the password, read again at each connection; never beside
    /// `password` or a password in `addr`.
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
    /// How long sending may take; a command's limit is the sum of both.
    pub write_timeout: Duration,
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
            // A password may have been put into the place of each of them.
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

/// Pages of which other sites a browser lets use the API (`cors.*`). Empty lists allow
/// nobody anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorsConfig {
    /// Origins such as `http://localhost:3000`, or `*`.
    pub allowed_origins: Vec<String>,
    /// Methods that they may use.
    pub allowed_methods: Vec<String>,
    /// Headers that they may send.
    pub allowed_headers: Vec<String>,
    /// Headers of an answer that they may read.
    pub expose_headers: Vec<String>,
}

/// What `logging.*` says. `RUST_LOG` and `LOG_FORMAT` win over it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoggingConfig {
    /// The level of the program's own lines.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// From which level on lines are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything, each step of each job included.
    Trace,
    /// The trail of each job.
    Debug,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What needs a look.
    Warn,
    /// What went wrong for good.
    Error,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
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

#[cfg(test)]
mod tests;
