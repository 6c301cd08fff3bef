//! Every key with its default and its range. Durations and numbers outside a range are refused here,
//! so no other part of the program has to ask whether a lease is zero.

mod redis;
mod units;

use std::{collections::BTreeSet, net::Ipv6Addr, time::Duration};

use self::units::{DAY, MINUTE, SECOND, ms};
use super::{
    address,
    error::ConfigError,
    settings::Settings,
    types::{
        Config, CorsConfig, HttpConfig, JobqueueConfig, LogFormat, LogLevel, LoggingConfig,
        RetryConfig, ServerConfig, Sources,
    },
};

const LEASE: &str = "jobqueue.lease";
const HEARTBEAT: &str = "jobqueue.heartbeat";
const RECLAIM_INTERVAL: &str = "jobqueue.reclaim_interval";
const RETRY_INITIAL: &str = "jobqueue.retry.initial";
const RETRY_MAX: &str = "jobqueue.retry.max";

/// How long a client may take for the head of a request, for an answer, and between two requests.
const READ_TIMEOUT: Duration = ms(5_000);
const WRITE_TIMEOUT: Duration = ms(30_000);
const IDLE_TIMEOUT: Duration = ms(120_000);

/// Every key that the programs know.
pub(super) fn known() -> BTreeSet<&'static str> {
    let mut settings = Settings::default();
    let defaults = read(&mut settings, Sources::default());
    defaults.expect("cannot fail because a test loads the defaults");
    settings.into_asked()
}

/// The key that the argument `name` of `program` may be meant as: `retry-max` means
/// `jobqueue.retry.max`.
pub(crate) fn setting_of(program: &str, name: &str) -> Option<&'static str> {
    let name = name.to_lowercase().replace(['-', '.'], "_");
    let sections = [
        program,
        "jobqueue",
        "server",
        "cache_server.redis.jobqueue",
        "logging",
        "cors",
    ];
    let known = known();
    sections.iter().find_map(|section| {
        let is_it = |key: &&&str| {
            let own = key
                .strip_prefix(section)
                .and_then(|rest| rest.strip_prefix('.'));
            key.replace('.', "_") == name || own.is_some_and(|own| own.replace('.', "_") == name)
        };
        known.iter().find(is_it).copied()
    })
}

/// Whether the value of a key may be, or may hold, a secret.
pub(crate) fn is_secret(key: &str) -> bool {
    let secrets = ["addr", "username", "password", "password_file"];
    key.strip_prefix("cache_server.redis.jobqueue.")
        .is_some_and(|key| secrets.contains(&key))
}

/// Keys without an effect, since log lines always go to stderr. Existing files have them.
const WITHOUT_EFFECT: [&str; 4] = [
    "logging.output",
    "logging.output_dir",
    "logging.sql_log_enabled",
    "logging.mail_log_enabled",
];

/// Reads all settings from the merged sources.
pub(super) fn read(settings: &mut Settings, sources: Sources) -> Result<Config, ConfigError> {
    Ok(Config {
        server: server(settings)?,
        jobqueue: jobqueue(settings)?,
        redis: redis::redis(settings)?,
        cors: cors(settings)?,
        logging: logging(settings)?,
        sources,
    })
}

fn server(s: &mut Settings) -> Result<ServerConfig, ConfigError> {
    Ok(ServerConfig {
        host: host(s, "server.host")?,
        port: s.integer("server.port", 8080, 0..=u16::MAX)?,
        http: HttpConfig {
            read_timeout: client_limit(s, "server.read_timeout", READ_TIMEOUT)?,
            write_timeout: client_limit(s, "server.write_timeout", WRITE_TIMEOUT)?,
            idle_timeout: client_limit(s, "server.idle_timeout", IDLE_TIMEOUT)?,
        },
        drain_delay: s.duration("server.drain_delay", ms(0), ms(0)..=MINUTE * 10)?,
        request_timeout: s.duration("server.request_timeout", SECOND, ms(10)..=MINUTE)?,
        shutdown_timeout: s.duration("server.shutdown_timeout", ms(30_000), ms(0)..=DAY)?,
    })
}

fn client_limit(
    s: &mut Settings,
    key: &'static str,
    default: Duration,
) -> Result<Duration, ConfigError> {
    s.duration(key, default, ms(100)..=DAY)
}

fn cors(s: &mut Settings) -> Result<CorsConfig, ConfigError> {
    let origin = "a list of origins such as http://localhost:3000, or *";
    let token = |what: &str| format!("a list of {what}, or *");
    Ok(CorsConfig {
        allowed_origins: s.list("cors.allowed_origins", origin, is_origin)?,
        allowed_methods: methods(s, &token("methods"))?,
        allowed_headers: s.list("cors.allowed_headers", &token("header names"), is_token)?,
        expose_headers: s.list("cors.expose_headers", &token("header names"), is_token)?,
    })
}

/// The allowed methods, in capitals as in a request.
fn methods(s: &mut Settings, expected: &str) -> Result<Vec<String>, ConfigError> {
    let methods = s.list("cors.allowed_methods", expected, is_token)?;
    Ok(methods.iter().map(|method| method.to_uppercase()).collect())
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

fn logging(s: &mut Settings) -> Result<LoggingConfig, ConfigError> {
    for key in WITHOUT_EFFECT {
        s.ignore(key);
    }
    let levels = [
        ("trace", LogLevel::Trace),
        ("debug", LogLevel::Debug),
        ("info", LogLevel::Info),
        ("warn", LogLevel::Warn),
        ("error", LogLevel::Error),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    // Go's loggers have these names.
    let other_levels = [
        ("warning", LogLevel::Warn),
        ("critical", LogLevel::Error),
        ("dpanic", LogLevel::Error),
        ("panic", LogLevel::Error),
        ("fatal", LogLevel::Error),
    ];
    let other_formats = [("console", LogFormat::Text)];
    Ok(LoggingConfig {
        level: s.choice("logging.level", LogLevel::Info, &levels, &other_levels)?,
        format: s.choice("logging.format", LogFormat::Text, &formats, &other_formats)?,
    })
}

fn jobqueue(s: &mut Settings) -> Result<JobqueueConfig, ConfigError> {
    let (lease, heartbeat, reclaim_interval) = lease_times(s)?;
    Ok(JobqueueConfig {
        host: host(s, "jobqueue.host")?,
        port: s.integer("jobqueue.port", 8082, 0..=u16::MAX)?,
        http: HttpConfig {
            read_timeout: client_limit(s, "jobqueue.read_timeout", READ_TIMEOUT)?,
            write_timeout: client_limit(s, "jobqueue.write_timeout", WRITE_TIMEOUT)?,
            idle_timeout: client_limit(s, "jobqueue.idle_timeout", IDLE_TIMEOUT)?,
        },
        queue: s.text(
            "jobqueue.queue",
            "default",
            "1 to 64 characters out of a-z, 0-9, _ and -",
            is_queue_name,
        )?,
        concurrency: s.integer("jobqueue.concurrency", 10, 1..=10_000)?,
        lease,
        heartbeat,
        reclaim_interval,
        max_deliveries: s.integer("jobqueue.max_deliveries", 5, 1..=1_000)?,
        job_timeout: s.duration("jobqueue.job_timeout", MINUTE * 30, ms(1)..=DAY * 30)?,
        shutdown_timeout: s.duration("jobqueue.shutdown_timeout", ms(30_000), ms(0)..=DAY)?,
        unknown_type_grace: s.duration(
            "jobqueue.unknown_type_grace",
            MINUTE * 60,
            ms(0)..=DAY * 30,
        )?,
        retry: retry(s)?,
        dead_letter_max_len: s.integer(
            "jobqueue.dead_letter_max_len",
            100_000,
            1..=1_000_000_000,
        )?,
    })
}

/// The lease, the heartbeat and the reclaim interval, of which each limits the next.
fn lease_times(s: &mut Settings) -> Result<(Duration, Duration, Duration), ConfigError> {
    let lease = s.duration(LEASE, ms(15_000), ms(100)..=DAY)?;
    let heartbeat = s.duration(HEARTBEAT, lease / 3, ms(10)..=DAY)?;
    // Two heartbeats fit into a lease, so no job loses its lease by a single late heartbeat.
    if heartbeat * 2 >= lease {
        return Err(s.conflict((HEARTBEAT, heartbeat), "less than half of", (LEASE, lease)));
    }
    let default = SECOND.min(heartbeat / 2);
    let reclaim_interval = s.duration(RECLAIM_INTERVAL, default, ms(1)..=DAY)?;
    if reclaim_interval * 2 > heartbeat {
        let interval = (RECLAIM_INTERVAL, reclaim_interval);
        return Err(s.conflict(interval, "at most half of", (HEARTBEAT, heartbeat)));
    }
    Ok((lease, heartbeat, reclaim_interval))
}

fn retry(s: &mut Settings) -> Result<RetryConfig, ConfigError> {
    let initial = s.duration(RETRY_INITIAL, SECOND, ms(1)..=DAY * 365)?;
    let max = s.duration(RETRY_MAX, MINUTE * 10, ms(1)..=DAY * 365)?;
    if max < initial {
        return Err(s.conflict((RETRY_MAX, max), "at least", (RETRY_INITIAL, initial)));
    }
    Ok(RetryConfig {
        initial,
        factor: s.number("jobqueue.retry.factor", 2.0, 1.0..=100.0)?,
        max,
        jitter: s.number("jobqueue.retry.jitter", 0.2, 0.0..=1.0)?,
    })
}

/// An address to listen on. The default is every address, of IPv4 and IPv6.
fn host(s: &mut Settings, key: &'static str) -> Result<String, ConfigError> {
    let expected = "a host name or an IP address, without a port";
    let host = s.text(key, "::", expected, |host| {
        without_brackets(host).parse::<Ipv6Addr>().is_ok() || address::is_host_name(host)
    })?;
    Ok(without_brackets(&host).to_owned())
}

/// `::1` for `[::1]`, which is how URLs write an IPv6 address.
fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.contains(':')).unwrap_or(host)
}

fn is_queue_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}
