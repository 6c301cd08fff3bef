//! The keys of `cache_server.redis.jobqueue`, and which of them exclude each other.

use std::path::PathBuf;

use super::units::{MINUTE, SECOND, ms};
use crate::config::{
    address::{self, DB},
    error::ConfigError,
    plain,
    redis_config::{RedisConfig, Secret},
    settings::Settings,
    variables,
};

const ADDR: &str = variables::ADDR_KEY;
const USERNAME: &str = "cache_server.redis.jobqueue.username";
const PASSWORD: &str = "cache_server.redis.jobqueue.password";
const PASSWORD_FILE: &str = "cache_server.redis.jobqueue.password_file";
const DB_KEY: &str = "cache_server.redis.jobqueue.db";
const TLS: &str = "cache_server.redis.jobqueue.tls";
const MIN_RETRY_BACKOFF: &str = "cache_server.redis.jobqueue.min_retry_backoff";
const MAX_RETRY_BACKOFF: &str = "cache_server.redis.jobqueue.max_retry_backoff";

/// Keys without an effect, since one multiplexed connection retries until Redis is back. Existing
/// files have them.
const WITHOUT_EFFECT: [&str; 3] = [
    "cache_server.redis.jobqueue.max_retries",
    "cache_server.redis.jobqueue.pool_size",
    "cache_server.redis.jobqueue.pool_timeout",
];

pub(super) fn redis(s: &mut Settings) -> Result<RedisConfig, ConfigError> {
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
        password_file: password_file(s)?,
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
    match address::read(&addr) {
        Ok(_) => Ok(addr),
        Err(refused) => {
            let expected = format!("{}; {}", address::EXPECTED, refused.hint);
            Err(s.error(ADDR, refused.found, expected))
        }
    }
}

/// The file must be a path with a slash. Otherwise a password in its place would count as a path,
/// and be logged.
fn password_file(s: &mut Settings) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = s.secret(PASSWORD_FILE)? else {
        return Ok(None);
    };
    if !["/", "./", "../"]
        .iter()
        .any(|start| path.starts_with(start))
    {
        let expected = "a path that begins with / or ./, such as /run/secrets/redis";
        return Err(s.error(PASSWORD_FILE, plain::HIDDEN, expected));
    }
    Ok(Some(PathBuf::from(path)))
}

/// Refuses settings that are given in two places: it would be unclear which of them holds. `tls`
/// beside a URL without TLS is refused as well, since the connection would have no TLS.
fn refuse_given_twice(s: &Settings, redis: &RedisConfig) -> Result<(), ConfigError> {
    let carried = address::read(&redis.addr).unwrap_or_default();
    let has_file = redis.password_file.is_some();
    if has_file && redis.password.is_some() {
        let origin = s.origin(PASSWORD);
        let expected = format!("one password, but {origin} has {PASSWORD} too; remove one of them");
        return Err(s.error(PASSWORD_FILE, "a path", expected));
    }
    let twice = [
        (USERNAME, carried.username && redis.username.is_some()),
        (PASSWORD, carried.password && redis.password.is_some()),
        (PASSWORD_FILE, carried.password && has_file),
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
