//! What stops a program before it starts: one message that names the source, the
//! key, what was found, what is expected and what to do. No message shows a secret.

use std::{io, path::PathBuf};

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `APP_ENV` names no environment.
    #[error("APP_ENV: found {found:?}, expected develop, staging or production")]
    UnknownEnvironment {
        /// The value of `APP_ENV`.
        found: String,
    },

    /// A variable holds bytes that are not text.
    #[error("{variable}: found bytes that are not UTF-8, expected text; set it again or unset it")]
    NotUnicode {
        /// The name of the variable.
        variable: String,
    },

    /// A file that every environment needs is not there.
    #[error(
        "{}: file not found, expected the settings of APP_ENV={environment}; create it, \
         or let CONFIG_DIR name the directory that holds the files (now {})",
        path.display(), dir.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The environment it belongs to.
        environment: String,
        /// The directory that was searched.
        dir: PathBuf,
    },

    /// A file is there but cannot be read; the source says why.
    #[error("{}: cannot be read; check its permissions and that it is UTF-8 text", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// A file is not YAML.
    #[error("{}: not valid YAML: {reason}; check indentation, colons and quotes there", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        reason: String,
    },

    /// One setting is unknown, of the wrong type, out of range, or at odds with another.
    #[error("{origin}: {key}: found {found}, expected {expected}")]
    Setting {
        /// The file or variable.
        origin: String,
        /// The full key, such as `jobqueue.lease`.
        key: String,
        /// What is there; for secrets only its kind.
        found: String,
        /// What would be accepted, and what to do where that is not obvious.
        expected: String,
    },
}
