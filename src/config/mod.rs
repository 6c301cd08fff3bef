//! Settings: what they are, where they come from, and the errors in them.
//!
//! A later source replaces single keys of an earlier one. The sources are, in this order:
//!
//! 1. the defaults in `keys`;
//! 2. `{APP_ENV}.yaml` or `{APP_ENV}/config.yaml`, and then `{APP_ENV}/cacheserver.yaml`, from the
//!    directory `CONFIG_DIR` or from where `files` finds them;
//! 3. variables such as `APP__JOBQUEUE__LEASE`;
//! 4. the variable `REDIS_JOBQUEUE_ADDR`.
//!
//! `load` reads the sources. `yaml` reads a file, `names` and `misspelt` check the names of keys
//! and variables, `settings` and `typed` read values, and `plain` decides what a message may show.
//!
//! The rest of the crate reads only what cannot be a setting: the variables of the log (`telemetry`)
//! and of the time zone (`time_zone`), and the password file, at each connection.

mod address;
mod error;
mod files;
mod keys;
mod load;
mod misspelt;
mod names;
pub(crate) mod plain;
mod redis_config;
mod settings;
mod slips;
mod start_line;
mod typed;
mod types;
mod variables;
mod yaml;

#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub(crate) use keys::{is_secret, setting_of};
pub use redis_config::{RedisConfig, Secret};
pub use types::{
    Config, CorsConfig, HttpConfig, JobqueueConfig, LogFormat, LogLevel, LoggingConfig,
    RetryConfig, ServerConfig, Sources,
};
pub(crate) use variables::override_of;
