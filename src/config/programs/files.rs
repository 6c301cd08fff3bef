//! Where the files of an environment are: in the directory that `CONFIG_DIR` names, or in the first
//! directory of a list that has one of them. A directory that was named must have both files, and
//! so must a directory that has one. A missing file is always an error.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::error::ConfigError;
use crate::config::plain;

/// The directories that are searched for files without `CONFIG_DIR`.
pub(super) const SEARCHED: [&str; 2] = ["config", "/etc/dm-jobqueue"];

/// The files of the environment `env` in `dir`, in the order in which they are read.
pub(super) fn in_directory(env: &str, dir: &Path) -> Result<[PathBuf; 2], ConfigError> {
    check_directory(env, dir)?;
    let [main, alternative, cacheserver] = candidates(env, dir);
    let main = match (exists(&main)?, exists(&alternative)?) {
        (true, false) => main,
        (false, true) => alternative,
        (true, true) => {
            let paths = [main, alternative];
            return Err(ConfigError::Twice { paths });
        }
        (false, false) => return Err(missing(env, dir, main, Some(alternative))),
    };
    match exists(&cacheserver)? {
        true => Ok([main, cacheserver]),
        false => Err(missing(env, dir, cacheserver, None)),
    }
}

/// The first of the directories that has a file of the environment `env`. A directory that cannot be
/// opened counts as well: it exists for a reason, and reading it will say what is wrong.
pub(super) fn search<'a>(env: &str, searched: &[&'a Path]) -> Option<&'a Path> {
    let has_one = |dir: &&&Path| {
        candidates(env, dir)
            .iter()
            .any(|path| exists(path).unwrap_or(true))
    };
    searched.iter().find(has_one).copied()
}

/// The paths of the main file, of its alternative, and of the file for Redis.
fn candidates(env: &str, dir: &Path) -> [PathBuf; 3] {
    [
        dir.join(format!("{env}.yaml")),
        dir.join(env).join("config.yaml"),
        dir.join(env).join("cacheserver.yaml"),
    ]
}

/// Whether something exists at `path`, even if it is of no use, such as a link that leads nowhere.
fn exists(path: &Path) -> Result<bool, ConfigError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(source) => match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
            _ => Err(ConfigError::Unreadable {
                path: path.to_owned(),
                source,
            }),
        },
    }
}

fn check_directory(env: &str, dir: &Path) -> Result<(), ConfigError> {
    let refuse = |found, advice| {
        Err(ConfigError::Directory {
            found,
            environment: env.to_owned(),
            advice,
        })
    };
    let shown = plain::path(dir);
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => refuse(
            format!("{shown}, which is no directory"),
            "name the directory",
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refuse(
            format!("{shown}, which this user may not open"),
            "check the permissions of it and of the directories above it",
        ),
        Err(_) => refuse(
            format!("{shown}, where nothing is"),
            "create it, correct CONFIG_DIR or unset it",
        ),
    }
}

fn missing(env: &str, dir: &Path, path: PathBuf, alternative: Option<PathBuf>) -> ConfigError {
    ConfigError::Missing {
        path,
        alternative,
        environment: env.to_owned(),
        dir: dir.to_owned(),
    }
}
