//! What stops a program because of its log: a variable that cannot be understood, or a stderr that
//! cannot be written to.

use std::io;

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `LOG_FORMAT` names no format.
    #[error("LOG_FORMAT: found {found}, expected text or json")]
    UnknownFormat {
        /// The value of `LOG_FORMAT`, as far as it may be shown.
        found: String,
    },

    /// `RUST_LOG` is not a filter, or it would silence everything by mistake.
    #[error("RUST_LOG: found {found}, expected {expected}")]
    BadFilter {
        /// The value of `RUST_LOG`, as far as it may be shown.
        found: String,
        /// What would be accepted.
        expected: String,
    },

    /// The system gives no thread or file descriptor.
    #[error("cannot write to stderr")]
    Stderr(#[from] io::Error),

    /// Logging was set up before.
    #[error("logging is already set up")]
    AlreadySetUp,
}
