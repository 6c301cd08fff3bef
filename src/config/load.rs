//! Loading: which sources are read, and every key with its default and its range.
//! Durations and numbers outside a range are refused here, so that no other part of
//! the program has to ask whether a lease is zero.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Config, ConfigError, CorsConfig, DB, HttpConfig, JobqueueConfig, LogFormat, LogLevel,
    LoggingConfig, RedisConfig, RetryConfig, Secret, ServerConfig, address, settings::Settings,
    yaml,
};

/// What every variable that overrides a key begins with.
const OVERRIDE_PREFIX: &str = "APP__";
/// The variable that overrides the address of Redis alone.
const ADDR_VARIABLE: &str = "REDIS_JOBQUEUE_ADDR";

const ADDR: &str = "cache_server.redis.jobqueue.addr";
const USERNAME: &str = "cache_server.redis.jobqueue.username";
const PASSWORD: &str = "cache_server.redis.jobqueue.password";
const PASSWORD_FILE: &str = "cache_server.redis.jobqueue.password_file";
const DB_KEY: &str = "cache_server.redis.jobqueue.db";
const TLS: &str = "cache_server.redis.jobqueue.tls";
const MIN_RETRY_BACKOFF: &str = "cache_server.redis.jobqueue.min_retry_backoff";
const MAX_RETRY_BACKOFF: &str = "cache_server.redis.jobqueue.max_retry_backoff";
const LEASE: &str = "jobqueue.lease";
const HEARTBEAT: &str = "jobqueue.heartbeat";
const RECLAIM_INTERVAL: &str = "jobqueue.reclaim_interval";
const RETRY_INITIAL: &str = "jobqueue.retry.initial";
const RETRY_MAX: &str = "jobqueue.retry.max";

/// Accepted because existing files have them; they mean nothing to one multiplexed
/// connection that retries until Redis is back.
const WITHOUT_EFFECT: [&str; 7] = [
    "logging.output",
    "logging.output_dir",
    "logging.sql_log_enabled",
    "logging.mail_log_enabled",
    "cache_server.redis.jobqueue.max_retries",
    "cache_server.redis.jobqueue.pool_size",
    "cache_server.redis.jobqueue.pool_timeout",
];

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
const SECOND: Duration = ms(1_000);
const MINUTE: Duration = ms(60_000);
const DAY: Duration = ms(24 * 60 * 60_000);
/// How long a client may take over the head of a request, an answer, and between two requests.
const READ_TIMEOUT: Duration = ms(5_000);
const WRITE_TIMEOUT: Duration = ms(30_000);
const IDLE_TIMEOUT: Duration = ms(120_000);

impl Config {
    /// Reads the settings of the environment that `APP_ENV` names (develop when unset)
    /// from the directory that `CONFIG_DIR` names (`config` when unset), and the
    /// process's variables over them. An empty variable counts as unset.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in words for the person who starts the program.
    pub fn load() -> Result<Self, ConfigError> {
        let variables = own_variables(std::env::vars_os())?;
        let env = variables.get("APP_ENV").map_or("develop", String::as_str);
        let dir = variables.get("CONFIG_DIR").map_or("config", String::as_str);
        Self::from_sources(env, Path::new(dir), &variables)
    }

    /// Reads the settings of the environment `env` from the files in `dir`, and
    /// `variables` over them. It looks at nothing else, whatever the process's own
    /// variables say.
    ///
    /// # Errors
    ///
    /// As for [`Config::load`].
    pub fn from_sources(
        env: &str,
        dir: &Path,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Settings::default();
        for path in files(env, dir)? {
            settings.add_file(&path, yaml::read(&path, env, dir)?);
        }
        for (name, text) in variables {
            if let Some(key) = name.strip_prefix(OVERRIDE_PREFIX) {
                settings.add_variable(name, key.to_lowercase().replace("__", "."), text);
            }
        }
        if let Some(addr) = variables.get(ADDR_VARIABLE) {
            settings.add_variable(ADDR_VARIABLE, ADDR.to_owned(), addr);
        }

        let config = Self {
            server: server(&mut settings)?,
            jobqueue: jobqueue(&mut settings)?,
            redis: redis(&mut settings)?,
            cors: cors(&mut settings)?,
            logging: logging(&mut settings)?,
        };
        settings.refuse_unknown_keys()?;
        Ok(config)
    }
}

/// The variables that are meant for this program, without the empty ones.
fn own_variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut own = BTreeMap::new();
    for (name, value) in all {
        let Ok(variable) = name.into_string() else {
            continue;
        };
        let is_own = matches!(variable.as_str(), "APP_ENV" | "CONFIG_DIR" | ADDR_VARIABLE)
            || variable.starts_with(OVERRIDE_PREFIX);
        if !is_own || value.is_empty() {
            continue;
        }
        match value.into_string() {
            Ok(value) => own.insert(variable, value),
            Err(_) => return Err(ConfigError::NotUnicode { variable }),
        };
    }
    Ok(own)
}

/// The files of an environment, in the order in which they are read.
fn files(env: &str, dir: &Path) -> Result<[PathBuf; 2], ConfigError> {
    match env {
        "develop" | "staging" | "production" => Ok([
            dir.join(format!("{env}.yaml")),
            dir.join(env).join("cacheserver.yaml"),
        ]),
        _ => Err(ConfigError::UnknownEnvironment {
            found: env.to_owned(),
        }),
    }
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
        allowed_methods: s.list("cors.allowed_methods", &token("methods"), is_token)?,
        allowed_headers: s.list("cors.allowed_headers", &token("header names"), is_token)?,
        expose_headers: s.list("cors.expose_headers", &token("header names"), is_token)?,
    })
}

/// `*`, or scheme, host and port as a browser sends them.
fn is_origin(text: &str) -> bool {
    text == "*"
        || url::Url::parse(text)
            .is_ok_and(|url| url.host().is_some() && url.origin().ascii_serialization() == text)
}

/// A method or the name of a header (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let is_tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn logging(s: &mut Settings) -> Result<LoggingConfig, ConfigError> {
    let levels = [
        ("trace", LogLevel::Trace),
        ("debug", LogLevel::Debug),
        ("info", LogLevel::Info),
        ("warn", LogLevel::Warn),
        ("error", LogLevel::Error),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    Ok(LoggingConfig {
        level: s.choice("logging.level", LogLevel::Info, &levels)?,
        format: s.choice("logging.format", LogFormat::Text, &formats)?,
    })
}

fn jobqueue(s: &mut Settings) -> Result<JobqueueConfig, ConfigError> {
    let lease = s.duration(LEASE, ms(15_000), ms(100)..=DAY)?;
    let heartbeat = s.duration(HEARTBEAT, lease / 3, ms(10)..=DAY)?;
    // Two heartbeats fit into a lease, so that a single late one costs no job its lease.
    if heartbeat * 2 >= lease {
        return Err(s.conflict((HEARTBEAT, heartbeat), "less than half of", (LEASE, lease)));
    }
    let default = SECOND.min(heartbeat / 2);
    let reclaim_interval = s.duration(RECLAIM_INTERVAL, default, ms(1)..=DAY)?;
    if reclaim_interval * 2 > heartbeat {
        let interval = (RECLAIM_INTERVAL, reclaim_interval);
        return Err(s.conflict(interval, "at most half of", (HEARTBEAT, heartbeat)));
    }
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

fn redis(s: &mut Settings) -> Result<RedisConfig, ConfigError> {
    for key in WITHOUT_EFFECT {
        s.ignore(key);
    }
    let min_retry_backoff = s.duration(MIN_RETRY_BACKOFF, ms(100), ms(1)..=SECOND * 10)?;
    let max_retry_backoff = s.duration(MAX_RETRY_BACKOFF, ms(512), ms(1)..=SECOND * 10)?;
    if max_retry_backoff < min_retry_backoff {
        let max = (MAX_RETRY_BACKOFF, max_retry_backoff);
        return Err(s.conflict(max, "at least", (MIN_RETRY_BACKOFF, min_retry_backoff)));
    }
    let timeout = |s: &mut Settings, key, default| s.duration(key, default, ms(10)..=MINUTE);
    let redis = RedisConfig {
        addr: addr(s)?,
        username: s.secret(USERNAME)?,
        password: s.secret(PASSWORD)?.map(Secret::new),
        password_file: s.secret(PASSWORD_FILE)?.map(PathBuf::from),
        db: s.integer(DB_KEY, 0, DB)?,
        tls: s.flag(TLS, false)?,
        min_retry_backoff,
        max_retry_backoff,
        dial_timeout: timeout(s, "cache_server.redis.jobqueue.dial_timeout", SECOND)?,
        read_timeout: timeout(s, "cache_server.redis.jobqueue.read_timeout", ms(1_000))?,
        write_timeout: timeout(s, "cache_server.redis.jobqueue.write_timeout", ms(500))?,
    };
    refuse_given_twice(s, &redis)?;
    Ok(redis)
}

fn addr(s: &mut Settings) -> Result<String, ConfigError> {
    let addr = s.text(ADDR, "localhost:6379", address::EXPECTED, |_| true)?;
    if address::read(&addr).is_none() {
        let found = match addr.contains("://") || addr.contains('@') {
            true => address::without_credentials(&addr),
            false => format!("{addr:?}"),
        };
        return Err(s.error(ADDR, found, address::EXPECTED));
    }
    Ok(addr)
}

/// An address that says something else than its neighbours would leave it to chance who
/// is believed, or connect without TLS where TLS was asked for.
fn refuse_given_twice(s: &Settings, redis: &RedisConfig) -> Result<(), ConfigError> {
    let carried = address::read(&redis.addr).unwrap_or_default();
    let twice = [
        (USERNAME, carried.username && redis.username.is_some()),
        (PASSWORD, carried.password && redis.password.is_some()),
        (DB_KEY, carried.db && redis.db != 0),
    ];
    for (key, is_twice) in twice {
        if is_twice {
            let expected = format!(
                "it in one place only, but {} has it in its URL too; remove one of them",
                s.origin(ADDR)
            );
            return Err(s.error(key, "a value", expected));
        }
    }
    if redis.tls && carried.is_url && !carried.tls {
        let expected = format!(
            "false beside {} ({}), which does not use TLS; make it rediss:// or remove {TLS}",
            redis.display_addr(),
            s.origin(ADDR),
        );
        return Err(s.error(TLS, "true", expected));
    }
    Ok(())
}

fn host(s: &mut Settings, key: &'static str) -> Result<String, ConfigError> {
    let expected = "a host name or an IP address, without a port";
    s.text(key, "0.0.0.0", expected, |host| {
        host.parse::<std::net::Ipv6Addr>().is_ok() || address::is_host_name(host)
    })
}

fn is_queue_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::own_variables;

    fn pair(name: &str, value: &[u8]) -> (OsString, OsString) {
        (name.into(), OsString::from_vec(value.to_vec()))
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let all = [
            pair("APP_ENV", b""),
            pair("APP__SERVER__PORT", b"0"),
            pair("HOME", b"/"),
        ];
        let own = own_variables(all.into_iter()).unwrap();
        let names: Vec<_> = own.keys().map(String::as_str).collect();
        assert_eq!(names, ["APP__SERVER__PORT"]);
    }

    #[test]
    fn only_variables_of_its_own_have_to_be_text() {
        assert!(own_variables([pair("LS_COLORS", b"\xff")].into_iter()).is_ok());
        let error = own_variables([pair("APP__SERVER__HOST", b"\xff")].into_iter()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "APP__SERVER__HOST: found bytes that are not UTF-8, expected text; set it again or \
             unset it"
        );
    }
}
