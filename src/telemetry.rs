//! Logging: where log lines go and how they look. Stdout belongs to the output of jobs,
//! so everything here goes to stderr. What is logged, and when, is up to each module.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `LOG_FORMAT` names no format.
    #[error("LOG_FORMAT: found {found:?}, expected text or json")]
    UnknownFormat {
        /// The value of `LOG_FORMAT`.
        found: String,
    },

    /// `RUST_LOG` is no filter.
    #[error(
        "RUST_LOG: found {found:?}, expected a level or filters such as \"info,dm_jobqueue=debug\""
    )]
    BadFilter {
        /// The value of `RUST_LOG`.
        found: String,
        /// What the parser said.
        source: tracing_subscriber::filter::ParseError,
    },

    /// Logging was set up before.
    #[error("logging is already set up")]
    AlreadySetUp,
}

/// Sends log lines to stderr from now on: those that `RUST_LOG` asks for (`info` when
/// unset or empty), as the text or JSON that `LOG_FORMAT` asks for (text when unset or
/// empty), coloured only on a terminal.
///
/// # Errors
///
/// When one of the variables cannot be understood, and when called twice.
pub fn init() -> Result<(), TelemetryError> {
    let filter = filter(&variable("RUST_LOG"))?;
    let format = format(&variable("LOG_FORMAT"))?;

    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // What says that stderr does not take a line says so on stderr, and panics when
        // that fails: it would take down whatever had something to log.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    }
    .map_err(|_| TelemetryError::AlreadySetUp)
}

/// Says on stderr why a program does not start, causes included, and gives its exit
/// status: 78, which sysexits.h calls a configuration error.
pub fn refuse_to_start(error: &dyn Error) -> ExitCode {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    // Not a log line: logging may be what could not be set up. Nobody is left to tell
    // when stderr does not take it.
    drop(writeln!(std::io::stderr(), "error: {message}"));
    ExitCode::from(78)
}

#[derive(Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// The value of a variable; empty when unset. Bytes that are no text stay visible as �.
fn variable(name: &str) -> String {
    let value = std::env::var_os(name).unwrap_or_default();
    value.to_string_lossy().into_owned()
}

fn format(found: &str) -> Result<Format, TelemetryError> {
    match found {
        "" | "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(TelemetryError::UnknownFormat {
            found: found.to_owned(),
        }),
    }
}

fn filter(found: &str) -> Result<EnvFilter, TelemetryError> {
    let directives = match found {
        "" => "info",
        _ => found,
    };
    EnvFilter::try_new(directives).map_err(|source| TelemetryError::BadFilter {
        found: found.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::{Format, filter, format};

    #[test]
    fn text_is_the_format_unless_json_is_asked_for() {
        assert_eq!(format("").unwrap(), Format::Text);
        assert_eq!(format("text").unwrap(), Format::Text);
        assert_eq!(format("json").unwrap(), Format::Json);
    }

    #[test]
    fn an_unknown_format_is_named() {
        let error = format("xml").unwrap_err();
        assert_eq!(
            error.to_string(),
            "LOG_FORMAT: found \"xml\", expected text or json"
        );
    }

    #[test]
    fn info_is_the_level_unless_a_filter_is_given() {
        assert_eq!(filter("").unwrap().to_string(), "info");
        assert_eq!(filter("warn").unwrap().to_string(), "warn");
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = filter("dm_jobqueue=loud").unwrap_err();
        assert_eq!(
            error.to_string(),
            "RUST_LOG: found \"dm_jobqueue=loud\", expected a level or filters such as \
             \"info,dm_jobqueue=debug\""
        );
    }
}
