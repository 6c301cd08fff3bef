//! The names of our variables, and the keys that they override.

/// The beginning of each variable that overrides a key.
pub(super) const OVERRIDE_PREFIX: &str = "APP__";
/// The variable that overrides the address of Redis alone.
pub(super) const ADDR: &str = "REDIS_JOBQUEUE_ADDR";
/// The variable that names the environment.
pub(super) const ENVIRONMENT: &str = "APP_ENV";
/// The variable that names the directory of the files.
pub(super) const DIRECTORY: &str = "CONFIG_DIR";

/// The variable that overrides a key.
pub(crate) fn override_of(key: &str) -> String {
    format!("{OVERRIDE_PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The key that a variable overrides, which need not be a known one.
pub(super) fn key_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(OVERRIDE_PREFIX)?;
    Some(rest.to_lowercase().replace("__", "."))
}
