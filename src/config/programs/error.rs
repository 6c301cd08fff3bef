//! What stops a program before it starts. Each message names the source, the key, what was found,
//! what is expected, and what to do. No message shows a secret: `plain` has made the words for what
//! was found.

use std::{io, path::PathBuf};

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `APP_ENV` names no environment.
    #[error("APP_ENV: found {found}, expected develop, staging or production")]
    UnknownEnvironment {
        /// The words for the value of `APP_ENV`.
        found: String,
    },

    /// A variable holds bytes that are not text.
    #[error("{variable}: found bytes that are not UTF-8, expected text; set it again or unset it")]
    NotUnicode {
        /// The name of the variable.
        variable: String,
    },

    /// A variable's name is nearly one of ours.
    #[error(
        "{variable}: found a name that is nearly {meant}, expected {meant}; rename the variable or unset it"
    )]
    MisspeltVariable {
        /// The name of the variable.
        variable: String,
        /// The variable that was meant.
        meant: String,
    },

    /// The directory of the files cannot be used.
    #[error(
        "CONFIG_DIR: found {found}, expected the directory that holds the settings of \
         APP_ENV={environment}; {advice}"
    )]
    Directory {
        /// The words for the directory and what is wrong with it.
        found: String,
        /// The environment whose files are wanted.
        environment: String,
        /// What to do.
        advice: &'static str,
    },

    /// A file that every environment needs does not exist.
    #[error(
        "{}: file not found, expected the settings of APP_ENV={environment}; create it{}, \
         or let CONFIG_DIR name the directory that holds the files (now {})",
        path.display(),
        alternative.as_ref().map(|path| format!(" or {}", path.display())).unwrap_or_default(),
        dir.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The other place where it may be.
        alternative: Option<PathBuf>,
        /// The environment it belongs to.
        environment: String,
        /// The directory that was searched.
        dir: PathBuf,
    },

    /// The same file exists under both of its names.
    #[error(
        "{} and {}: found both files, expected one of them; move the settings into one and \
         remove the other",
        paths[0].display(), paths[1].display()
    )]
    Twice {
        /// Both files.
        paths: [PathBuf; 2],
    },

    /// A file exists but cannot be read. The source says why.
    #[error("{}: cannot be read; check its permissions and those of its directories", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// Something else than a file with settings is at the path.
    #[error("{}: {reason}", path.display())]
    Unfit {
        /// The path.
        path: PathBuf,
        /// What was found, and what is expected.
        reason: String,
    },

    /// A file is not YAML.
    #[error("{}: not valid YAML: {reason}; check indentation, colons and quotes there", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser found wrong, with line and column, and without a word of the file.
        reason: String,
    },

    /// One setting is unknown, of the wrong type, out of range, or at odds with another.
    #[error("{origin}: {key}: found {found}, expected {expected}")]
    Setting {
        /// The file or variable.
        origin: String,
        /// The full key, such as `jobqueue.lease`.
        key: String,
        /// The words for the value.
        found: String,
        /// What would be accepted, and what to do if that is not obvious.
        expected: String,
    },
}

/// The error for one setting.
pub(super) fn setting(
    origin: &str,
    key: &str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> ConfigError {
    ConfigError::Setting {
        origin: origin.to_owned(),
        key: key.to_owned(),
        found: found.into(),
        expected: expected.into(),
    }
}
