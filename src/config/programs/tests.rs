//! What loading accepts and refuses, and the words it uses. The files of the
//! repository are loaded too; the process's own variables are never looked at.

mod files;
mod forms;
mod names;
mod ranges;
mod secrets;
mod table;
mod values;
mod yaml;

use std::{collections::BTreeMap, fs, time::Duration};

use super::Config;

/// Loads develop from files with these contents and these variables; errors become their
/// message, with `DIR` for the directory.
fn load(main: &str, cacheserver: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("develop")).unwrap();
    fs::write(dir.path().join("develop.yaml"), main).unwrap();
    fs::write(dir.path().join("develop/cacheserver.yaml"), cacheserver).unwrap();
    Config::from_sources("develop", dir.path(), &map(variables)).map_err(|error| {
        let message = error.to_string();
        message.replace(dir.path().to_str().unwrap(), "DIR")
    })
}

fn map(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

fn with(variables: &[(&str, &str)]) -> Result<Config, String> {
    load("", "", variables)
}

/// A file with one key of the section that Redis' settings are in.
fn redis_yaml(key_and_value: &str) -> String {
    format!("cache_server:\n  redis:\n    jobqueue:\n      {key_and_value}\n")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
