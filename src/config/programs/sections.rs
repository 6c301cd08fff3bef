//! All settings of both programs, by section.

use std::{net::Ipv6Addr, path::PathBuf, time::Duration};

use crate::config::address;
use crate::config::redis_config::{RedisConfig, SECTION as REDIS};
use crate::config::section::{Visitor, section};
use crate::config::value::{DAY, MINUTE, SECOND, Text, Value, ms};
use crate::config::worker::WorkerConfig;

/// All settings of both programs.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The API server.
    pub server: ServerConfig,
    /// The workers.
    pub jobqueue: JobqueueConfig,
    /// The Redis that both use.
    pub redis: RedisConfig,
    /// What pages of other sites may do with the API.
    pub cors: CorsConfig,
    /// How much is logged, and in which form.
    pub logging: LoggingConfig,
    /// Where the settings come from.
    pub sources: Sources,
}

impl Config {
    /// Settings whose values are what `visitor` makes of the values of these.
    pub(super) fn visit<V: Visitor>(&self, visitor: &mut V) -> Result<Self, V::Error> {
        Ok(Self {
            server: self.server.visit("server", visitor)?,
            jobqueue: self.jobqueue.visit("jobqueue", visitor)?,
            redis: self.redis.visit(REDIS, visitor)?,
            cors: self.cors.visit("cors", visitor)?,
            logging: self.logging.visit("logging", visitor)?,
            sources: self.sources.clone(),
        })
    }
}

/// An address to listen on. The default is every address, of IPv4 and IPv6.
const HOST: Text = Text {
    expected: "a host name or an IP address, without a port",
    accept: |host| {
        let host = without_brackets(host);
        let is_host = host.parse::<Ipv6Addr>().is_ok() || address::is_host_name(host);
        is_host.then(|| host.to_owned())
    },
};

section! {
    /// Settings of the API server (`server.*`).
    #[derive(Debug, Clone)]
    pub struct ServerConfig {
        /// The address to listen on.
        pub host: String = "::".to_owned(), like HOST;
        /// The port to listen on; 0 means any free port.
        pub port: u16 = 8080, in 0..=u16::MAX;
        /// How long a request may take at most, Redis included.
        pub request_timeout: Duration = SECOND, in ms(10)..=MINUTE;
        /// After a signal: how long connections are still accepted while `/ready` says 503.
        pub drain_delay: Duration = ms(0), in ms(0)..=MINUTE * 10;
        /// How long requests in progress may take to finish after a signal.
        pub shutdown_timeout: Duration = SECOND * 30, in ms(0)..=DAY;
    }
    with {
        /// How long clients may take.
        pub http: HttpConfig, in "";
    }
}

section! {
    /// Settings of a worker program (`jobqueue.*`).
    #[derive(Debug, Clone)]
    pub struct JobqueueConfig {
        /// The address of the worker's own HTTP (health and readiness).
        pub host: String = "::".to_owned(), like HOST;
        /// The port of the worker's own HTTP; 0 means any free port.
        pub port: u16 = 8082, in 0..=u16::MAX;
    }
    with {
        /// How long clients of that port may take.
        pub http: HttpConfig, in "";
        /// The worker.
        pub worker: WorkerConfig, in "";
    }
}

section! {
    /// How long a client of a program's port may take (`server.*` and `jobqueue.*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct HttpConfig {
        /// From the first byte of a request to the end of its head.
        pub read_timeout: Duration = SECOND * 5, in ms(100)..=DAY;
        /// From the first wait for the client, until it has read the whole answer.
        pub write_timeout: Duration = SECOND * 30, in ms(100)..=DAY;
        /// Between two requests on one connection.
        pub idle_timeout: Duration = MINUTE * 2, in ms(100)..=DAY;
    }
}

const ORIGINS: Text = Text {
    expected: "a list of origins such as http://localhost:3000, or *",
    accept: |text| is_origin(text).then(|| text.to_owned()),
};
/// Methods are in capitals, as in a request.
const METHODS: Text = Text {
    expected: "a list of methods, or *",
    accept: |text| is_token(text).then(|| text.to_uppercase()),
};
const HEADERS: Text = Text {
    expected: "a list of header names, or *",
    accept: |text| is_token(text).then(|| text.to_owned()),
};

section! {
    /// What pages of other sites may do with the API (`cors.*`). An empty list allows nothing.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CorsConfig {
        /// Origins such as `http://localhost:3000`, or `*`.
        pub allowed_origins: Vec<String> = Vec::new(), like ORIGINS;
        /// Methods that these pages may use.
        pub allowed_methods: Vec<String> = Vec::new(), like METHODS;
        /// Headers that these pages may send.
        pub allowed_headers: Vec<String> = Vec::new(), like HEADERS;
        /// Headers of an answer that these pages may read.
        pub expose_headers: Vec<String> = Vec::new(), like HEADERS;
    }
}

section! {
    /// Settings of the log (`logging.*`). The variables `RUST_LOG` and `LOG_FORMAT` override them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct LoggingConfig {
        /// The level of the program's own lines.
        pub level: LogLevel = LogLevel::Info;
        /// The form of a line.
        pub format: LogFormat = LogFormat::Text;
    }
}

/// The lowest level of lines that are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything, including each step of each job.
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

impl Choice for LogLevel {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("trace", Self::Trace),
        ("debug", Self::Debug),
        ("info", Self::Info),
        ("warn", Self::Warn),
        ("error", Self::Error),
    ];
    /// Go's loggers have these.
    const OTHER_NAMES: &'static [(&'static str, Self)] = &[
        ("warning", Self::Warn),
        ("critical", Self::Error),
        ("dpanic", Self::Error),
        ("panic", Self::Error),
        ("fatal", Self::Error),
    ];
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

impl Choice for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
    const OTHER_NAMES: &'static [(&'static str, Self)] = &[("console", Self::Text)];
}

/// A setting that is one of a few words, in any case.
pub(super) trait Choice: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
    /// Names that other programs have for them.
    const OTHER_NAMES: &'static [(&'static str, Self)];
}

impl<T: Choice> Value for T {
    type Limit = ();

    fn parse(text: &str, (): &()) -> Option<Self> {
        let mut all = T::NAMES.iter().chain(T::OTHER_NAMES);
        all.find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, value)| *value)
    }

    fn is_within(&self, (): &()) -> bool {
        true
    }

    fn range((): &()) -> String {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    }

    fn expected(_: &Self, limit: &()) -> String {
        Self::range(limit)
    }

    fn shown(&self, (): &()) -> String {
        let name = T::NAMES.iter().find(|(_, value)| value == self);
        name.map_or_else(String::new, |(name, _)| (*name).to_owned())
    }
}

/// The sources that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The environment that `APP_ENV` names.
    pub environment: String,
    /// The directory of the files; `None` when no files exist and the defaults hold.
    pub directory: Option<PathBuf>,
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// The names of sections and variables that belong to other programs. They were left alone.
    pub others: Vec<String>,
}

/// `::1` for `[::1]`, which is how URLs write an IPv6 address.
fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.contains(':')).unwrap_or(host)
}

/// Whether `text` is `*`, or scheme, host and port as a browser sends them.
fn is_origin(text: &str) -> bool {
    let is_one = |url: url::Url| {
        // `http://*.example` would be a host with that name, and no page has such an origin.
        url.host().is_some() && !text.contains('*') && url.origin().ascii_serialization() == text
    };
    text == "*" || url::Url::parse(text).is_ok_and(is_one)
}

/// Whether `text` can be a method or the name of a header (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let is_tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_tchar)
}
