//! The keys that the programs know.

use std::{collections::BTreeSet, convert::Infallible};

use super::sections::Config;
use crate::config::redis_config::SECTION as REDIS;
use crate::config::section::{Setting, Visitor, join};
use crate::config::value::Value;

/// Keys without an effect, which existing files have: log lines always go to stderr, and one
/// multiplexed connection retries until Redis is back.
pub(super) const WITHOUT_EFFECT: [&str; 7] = [
    "logging.output",
    "logging.output_dir",
    "logging.sql_log_enabled",
    "logging.mail_log_enabled",
    "cache_server.redis.jobqueue.max_retries",
    "cache_server.redis.jobqueue.pool_size",
    "cache_server.redis.jobqueue.pool_timeout",
];

/// Lists the keys of all settings.
struct Keys(BTreeSet<String>);

impl Visitor for Keys {
    type Error = Infallible;

    fn visit<T: Value>(&mut self, setting: &Setting<'_, T>) -> Result<T, Infallible> {
        self.0.insert(setting.key.clone());
        Ok(setting.value.clone())
    }
}

/// Every key that the programs know.
pub(super) fn known() -> BTreeSet<String> {
    let mut keys = Keys(WITHOUT_EFFECT.map(str::to_owned).into());
    let Ok(_) = Config::default().visit(&mut keys);
    keys.0
}

/// The key that the argument `name` of `program` may be meant as: `retry-max` means
/// `jobqueue.retry.max`.
pub(crate) fn setting_of(program: &str, name: &str) -> Option<String> {
    let name = name.to_lowercase().replace(['-', '.'], "_");
    let sections = [program, "jobqueue", "server", REDIS, "logging", "cors"];
    let known = known();
    sections.iter().find_map(|section| {
        let is_it = |key: &&String| {
            let own = key
                .strip_prefix(section)
                .and_then(|rest| rest.strip_prefix('.'));
            key.replace('.', "_") == name || own.is_some_and(|own| own.replace('.', "_") == name)
        };
        known.iter().find(is_it).cloned()
    })
}

/// Whether the value of a key may be, or may hold, a secret.
pub(crate) fn is_secret(key: &str) -> bool {
    let secrets = ["addr", "username", "password", "password_file"];
    secrets.iter().any(|name| join(REDIS, name) == key)
}
