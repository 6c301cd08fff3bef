//! Reads one YAML file into the tree that the `config` crate makes of it, and says in
//! this project's words what is wrong with a file that cannot be read.

use std::{fs, io, path::Path};

use config::{FileFormat, Map, Source, Value};

use super::ConfigError;

/// Reads the file `path`, which the environment `env` needs from the directory `dir`.
pub(super) fn read(path: &Path, env: &str, dir: &Path) -> Result<Map<String, Value>, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing {
            path: path.to_owned(),
            environment: env.to_owned(),
            dir: dir.to_owned(),
        },
        _ => ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        },
    })?;
    // From text and not by its path: the crate would look for other file names as well,
    // and would name the file relative to the working directory.
    config::File::from_str(&text, FileFormat::Yaml)
        .collect()
        .map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: reason(&error),
        })
}

/// What is wrong with the text, without quoting a value from it.
fn reason(error: &config::ConfigError) -> String {
    let config::ConfigError::FileParse { cause, .. } = error else {
        return "it has no settings".to_owned();
    };
    if cause.is::<Box<config::ConfigError>>() {
        return "the top level is no section".to_owned();
    }
    // Only the scanner says where it is, and only its words never quote a value.
    let reason = cause.to_string();
    match reason.contains(" line ") {
        true => reason,
        false => "a key or number that has no place in settings".to_owned(),
    }
}
