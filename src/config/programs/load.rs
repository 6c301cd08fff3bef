//! Loading: which sources are read, in which order, and which variables are ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::Path,
};

use ::config::ValueKind;

use super::error::{self, ConfigError};
use super::names::Names;
use super::reader::{Layer, Reader};
use super::sections::{Config, Sources};
use super::variables::{self, ADDR, DIRECTORY, ENVIRONMENT};
use super::yaml::{self, Leaves};
use super::{files, keys, misspelt};
use crate::config::{plain, redis_config};

type Variables = BTreeMap<String, String>;

impl Config {
    /// Reads the settings of the environment that `APP_ENV` names (develop when unset), and the
    /// process' variables, which override them.
    ///
    /// The files are in the directory that `CONFIG_DIR` names. When it is unset, they are in `config`
    /// or in `/etc/dm-jobqueue`. When neither has a file of the environment, the defaults hold. An
    /// empty variable counts as unset.
    ///
    /// # Errors
    ///
    /// The first mistake, in words for the person who starts the program.
    pub fn load() -> Result<Self, ConfigError> {
        let variables = readable(std::env::vars_os())?;
        Self::search(&variables, &files::SEARCHED.map(Path::new))
    }

    /// Like [`Config::load`], but searches for files in `searched`.
    pub(super) fn search(variables: &Variables, searched: &[&Path]) -> Result<Self, ConfigError> {
        let value = |name| variables.get(name).map(|value| value.trim());
        let value = |name| value(name).filter(|value| !value.is_empty());
        let env = value(ENVIRONMENT).unwrap_or("develop");
        check_environment(env)?;
        let dir = match value(DIRECTORY) {
            Some(dir) => Some(Path::new(dir)),
            None => files::search(env, searched),
        };
        read(env, dir, variables)
    }

    /// Reads the settings of the environment `env` from the files in `dir`, and from `variables`, which
    /// override them. The process' own variables are not read.
    ///
    /// # Errors
    ///
    /// Like [`Config::load`].
    pub fn from_sources(
        env: &str,
        dir: &Path,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        check_environment(env)?;
        read(env, Some(dir), variables)
    }
}

fn check_environment(env: &str) -> Result<(), ConfigError> {
    match env {
        "develop" | "staging" | "production" => Ok(()),
        _ => Err(ConfigError::UnknownEnvironment {
            found: plain::shown(env),
        }),
    }
}

fn read(env: &str, dir: Option<&Path>, variables: &Variables) -> Result<Config, ConfigError> {
    let names = Names::new(keys::known());
    let mut others = BTreeSet::new();
    // Variables come first: if CONFIG_DIR is misspelt, the wrong files would be read.
    let overrides = overrides(&names, variables, &mut others)?;
    let files = match dir {
        Some(dir) => Vec::from(files::in_directory(env, dir)?),
        None => Vec::new(),
    };
    let mut layers = Vec::new();
    for path in &files {
        let mut leaves = yaml::read(path)?;
        let origin = path.display().to_string();
        others.extend(names.check(&origin, &leaves)?);
        leaves.retain(|key, _| names.all().any(|known| known == key));
        layers.push(Layer { origin, leaves });
    }
    layers.extend(overrides);
    let sources = Sources {
        environment: env.to_owned(),
        directory: dir.map(Path::to_owned),
        files,
        others: others.into_iter().collect(),
    };
    values(Reader::new(layers), sources)
}

/// Makes settings of the merged sources.
fn values(mut reader: Reader, sources: Sources) -> Result<Config, ConfigError> {
    let defaults = Config {
        sources,
        ..Config::default()
    };
    let config = defaults.visit(&mut reader)?;
    let origin = |key: &str| reader.origin(key);
    let worker = config.jobqueue.worker.check_relations(&origin);
    let redis = config.redis.check_relations(&origin);
    worker.and(redis).map_err(|invalid| {
        let origin = reader.origin(&invalid.key);
        error::setting(&origin, &invalid.key, invalid.found, invalid.expected)
    })?;
    Ok(config)
}

/// Our variables, each as a source of its own. The names of other programs' variables go to `others`.
fn overrides(
    names: &Names,
    variables: &Variables,
    others: &mut BTreeSet<String>,
) -> Result<Vec<Layer>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in variables.iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(meant) = misspelt::meant_by(names, name, value) {
            let variable = name.clone();
            return Err(ConfigError::MisspeltVariable { variable, meant });
        }
        let Some(key) = variables::key_of(name) else {
            continue;
        };
        let leaves = Leaves::from([(key, value.as_str().into())]);
        let origin = name.clone();
        match names.check(name, &leaves)?.is_empty() {
            true => found.push(Layer { origin, leaves }),
            false if plain::is_name(name) => drop(others.insert(origin)),
            false => {}
        }
    }
    // This variable is last, so it wins over `APP__CACHE_SERVER__REDIS__JOBQUEUE__ADDR`.
    if let Some(addr) = variables.get(ADDR) {
        let origin = ADDR.to_owned();
        let leaves = Leaves::from([(redis_config::ADDR.to_owned(), addr.as_str().into())]);
        found.push(Layer { origin, leaves });
    }
    Ok(found)
}

/// The variables that are text and not empty. A variable of ours must be text.
fn readable(all: impl Iterator<Item = (OsString, OsString)>) -> Result<Variables, ConfigError> {
    let names = Names::new(keys::known());
    let mut readable = Variables::new();
    for (name, value) in all {
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) if value.is_empty() => {}
            Ok(value) => drop(readable.insert(name, value)),
            Err(value) if is_ours(&names, &name, &value) => {
                return Err(ConfigError::NotUnicode { variable: name });
            }
            Err(_) => {}
        }
    }
    Ok(readable)
}

/// Whether a variable is ours, or nearly ours.
fn is_ours(names: &Names, name: &str, value: &OsString) -> bool {
    let has_own_name = [ADDR, ENVIRONMENT, DIRECTORY].contains(&name);
    let is_override = |key| {
        let others = names.check(name, &Leaves::from([(key, ValueKind::Nil)]));
        !others.is_ok_and(|others| !others.is_empty())
    };
    has_own_name
        || variables::key_of(name).is_some_and(is_override)
        || misspelt::meant_by(names, name, &value.to_string_lossy()).is_some()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::readable;

    fn pair(name: &str, value: &[u8]) -> (OsString, OsString) {
        (name.into(), OsString::from_vec(value.to_vec()))
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let all = [
            pair("APP_ENV", b""),
            pair("APP__SERVER__PORT", b"0"),
            pair("APP_JOBQUEUE__LEASE", b""),
        ];
        let readable = readable(all.into_iter()).unwrap();
        let names: Vec<_> = readable.keys().map(String::as_str).collect();
        assert_eq!(names, ["APP__SERVER__PORT"]);
    }

    #[test]
    fn only_our_variables_must_be_text() {
        for name in ["LS_COLORS", "APP__DATABASE__DSN", "APP_NAME"] {
            assert!(
                readable([pair(name, b"\xff")].into_iter()).is_ok(),
                "{name}"
            );
        }
        for name in [
            "APP__SERVER__HOST",
            "APP_SERVER__HOST",
            "APP_ENV",
            "CONFIG_DIR",
            "REDIS_JOBQUEUE_ADDR",
        ] {
            let error = readable([pair(name, b"s3cret\xff")].into_iter()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "{name}: found bytes that are not UTF-8, expected text; set it again or \
                     unset it"
                )
            );
        }
    }
}
