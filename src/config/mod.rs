//! Settings: what they are, their defaults and ranges, and the errors in them.
//!
//! [`WorkerConfig`] and [`RedisConfig`] are for every program that uses the queue. It makes them in
//! code, from their defaults. `programs` has what only the programs of this crate have: the settings
//! of their ports and of their log, and the reading of all settings from files and variables.
//!
//! `section` declares settings, `value` knows their types, `address` understands Redis' address, and
//! `plain` decides what a message may show.
//!
//! The rest of the crate reads only what cannot be a setting: the variables of the log (`telemetry`)
//! and of the time zone (`time_zone`), and the password file, at each connection.

mod address;
pub(crate) mod plain;
#[cfg(feature = "programs")]
mod programs;
mod redis_config;
mod secret;
mod section;
mod value;
mod worker;

#[cfg(feature = "programs")]
pub use programs::{Config, ConfigError};
#[cfg(feature = "programs")]
pub(crate) use programs::{
    CorsConfig, HttpConfig, JobqueueConfig, LogFormat, LogLevel, LoggingConfig, ServerConfig,
};
#[cfg(feature = "programs")]
pub(crate) use programs::{is_secret, override_of, setting_of};
pub use redis_config::RedisConfig;
pub use secret::Secret;
pub use section::InvalidSetting;
pub(crate) use worker::check_queue;
pub use worker::{RetryConfig, WorkerConfig};
