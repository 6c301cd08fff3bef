//! The settings of the two programs, and where they come from. A program that embeds a worker needs
//! none of this.
//!
//! A later source replaces single keys of an earlier one. The sources are, in this order:
//!
//! 1. the defaults in the code;
//! 2. `{APP_ENV}.yaml` or `{APP_ENV}/config.yaml`, and then `{APP_ENV}/cacheserver.yaml`, from the
//!    directory `CONFIG_DIR` or from where `files` finds them;
//! 3. variables such as `APP__JOBQUEUE__LEASE`;
//! 4. the variable `REDIS_JOBQUEUE_ADDR`.
//!
//! `load` reads the sources. `yaml` reads a file, `names` and `misspelt` check the names of keys and
//! variables, and `reader` merges the sources and makes values of what they have.

mod error;
mod files;
mod keys;
mod load;
mod misspelt;
mod names;
mod reader;
mod sections;
mod slips;
mod start_line;
mod variables;
mod yaml;

#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub(crate) use keys::{is_secret, setting_of};
pub use sections::Config;
pub(crate) use sections::{
    CorsConfig, HttpConfig, JobqueueConfig, LogFormat, LogLevel, LoggingConfig, ServerConfig,
};
pub(crate) use variables::override_of;
