//! Logging: where log lines go and how they look. Stdout belongs to the output of jobs,
//! so everything here goes to stderr. What is logged, and when, is up to each module.
//!
//! Logging never blocks: the lines go through a queue, see `queue`.

mod filter;
mod json;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::time::Instant;

use tracing::{Dispatch, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LoggingConfig, plain};
use crate::shortened::shortened;
use crate::threads;
use crate::throttle::Throttle;

use self::filter::filter;
use self::json::JsonLines;
use self::queue::{Enqueue, LogQueue, Stderr};

/// The exit status of a program that does not start: EX_CONFIG of sysexits.h.
const REFUSED: u8 = 78;

static QUEUE: LogQueue = LogQueue::new();

/// So many panics at one place are logged in a minute.
const PANICS: u32 = 3;

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `LOG_FORMAT` names no format.
    #[error("LOG_FORMAT: found {found}, expected text or json")]
    UnknownFormat {
        /// The value of `LOG_FORMAT`, as far as it may be shown.
        found: String,
    },

    /// `RUST_LOG` is no filter, or one that would silence everything by mistake.
    #[error("RUST_LOG: found {found}, expected {expected}")]
    BadFilter {
        /// The value of `RUST_LOG`, as far as it may be shown.
        found: String,
        /// What would do.
        expected: String,
    },

    /// The system gives no thread or file descriptor.
    #[error("cannot write to stderr")]
    Stderr(#[from] io::Error),

    /// Logging was set up before.
    #[error("logging is already set up")]
    AlreadySetUp,
}

/// Sends log lines to stderr from now on: those that `RUST_LOG` asks for, in the form that
/// `LOG_FORMAT` names; where they are unset or empty, as `settings` say. Coloured only on a
/// terminal that shows colours, and not when `NO_COLOR` is set. Panics become log lines as
/// well. Nobody who logs waits for stderr; [`flush`] before the process ends.
///
/// # Errors
///
/// When one of the variables cannot be understood, when called twice, and when the system
/// gives no thread or file descriptor.
pub fn init(settings: &LoggingConfig) -> Result<(), TelemetryError> {
    let filter = || filter(&variable("RUST_LOG"), settings.level);
    let format = format(&variable("LOG_FORMAT"), settings.format)?;
    let out = Stderr::open()?;
    let direct = out.clone();
    let reporter = dispatch(filter()?, format, move || direct.clone());
    QUEUE.start(out, reporter)?;
    dispatch(filter()?, format, || Enqueue(&QUEUE))
        .try_init()
        .map_err(|_| TelemetryError::AlreadySetUp)?;
    log_panics();
    Ok(())
}

/// Tells the name that this process has in its group. JSON lines carry it from now on.
pub fn name_consumer(name: &str) {
    // There is one worker a process.
    json::CONSUMER.set(name.to_owned()).ok();
}

/// Makes a log line of each panic. The default hook writes to stderr, and waits for it.
pub(crate) fn log_panics() {
    let panics = Throttle::new(PANICS, |place: Option<&String>, suppressed| {
        error!(location = place, suppressed, "more panicked");
    });
    panic::set_hook(Box::new(move |panic| log_panic(panic, &panics)));
}

/// Waits until all that was logged is out: a second at most, and 200 ms when stderr takes
/// nothing.
pub fn flush() {
    QUEUE.flush();
}

/// Says on stderr why a program does not start, causes included, and gives its exit
/// status, 78. Waits for stderr no longer
/// than [`flush`] does.
pub fn refuse_to_start(error: &dyn Error) -> ExitCode {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    last_words(&format!("error: {message}\n"));
    ExitCode::from(REFUSED)
}

/// Writes to stderr what is said right before the end, and waits for it no longer than
/// [`flush`] does.
pub(crate) fn last_words(message: &str) {
    // Not a log line: logging may be what could not be set up.
    match Stderr::open().and_then(|out| QUEUE.start(out, Dispatch::none())) {
        Ok(()) => {
            QUEUE.push(message.as_bytes());
            QUEUE.flush();
        }
        // Without a thread it may block; nobody is left to tell when it fails.
        Err(_) => drop(io::stderr().write_all(message.as_bytes())),
    }
}

/// A job that panics, and comes again and again or with many others, must not fill the log.
fn log_panic(panic: &PanicHookInfo<'_>, panics: &Throttle<String>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let message = shortened(message);
    if let Some(refusal) = threads::refused_runtime(&message) {
        last_words(&format!(
            "error: {refusal}
"
        ));
        std::process::exit(REFUSED.into());
    }
    let location = panic.location().map(ToString::to_string);
    let place = location.clone().unwrap_or_default();
    let Some(suppressed) = panics.admit(place, Instant::now()) else {
        return;
    };
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    error!(
        message = "panicked",
        thread,
        location,
        panic = message,
        suppressed,
        backtrace = backtrace.as_ref().map(tracing::field::display),
    );
}

/// The value of a variable; empty when unset. Bytes that are no text stay visible as �.
fn variable(name: &str) -> String {
    let value = std::env::var_os(name).unwrap_or_default();
    value.to_string_lossy().into_owned()
}

fn format(found: &str, default: LogFormat) -> Result<LogFormat, TelemetryError> {
    match found.trim().to_ascii_lowercase().as_str() {
        "" => Ok(default),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(TelemetryError::UnknownFormat {
            found: plain::shown(found),
        }),
    }
}

/// Whether a terminal is to be shown colours (no-color.org).
fn wants_colours(no_color: &str, term: &str) -> bool {
    no_color.is_empty() && !matches!(term, "" | "dumb")
}

/// A subscriber that writes as it is asked to.
fn dispatch<W>(filter: EnvFilter, format: LogFormat, out: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(out)
        // What says that stderr does not take a line says so on stderr, and panics when
        // that fails: it would take down whatever had something to log.
        .log_internal_errors(false)
        .with_ansi(
            io::stderr().is_terminal() && wants_colours(&variable("NO_COLOR"), &variable("TERM")),
        );
    match format {
        LogFormat::Text => Dispatch::new(builder.finish()),
        LogFormat::Json => Dispatch::new(
            builder
                .fmt_fields(JsonFields::new())
                .event_format(JsonLines::new())
                .finish(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{format, wants_colours};
    use crate::config::LogFormat::{Json, Text};

    #[test]
    fn the_settings_name_the_format_unless_the_variable_does() {
        for default in [Text, Json] {
            assert_eq!(format("", default).unwrap(), default);
            assert_eq!(format("text", default).unwrap(), Text);
            assert_eq!(format("JSON", default).unwrap(), Json);
        }
    }

    #[test]
    fn an_unknown_format_is_named() {
        let error = format("xml", Text).unwrap_err();
        assert_eq!(
            error.to_string(),
            "LOG_FORMAT: found \"xml\", expected text or json"
        );
    }

    #[test]
    fn colours_are_for_terminals_that_show_them() {
        assert!(wants_colours("", "xterm"));
        assert!(!wants_colours("1", "xterm"));
        assert!(!wants_colours("", "dumb"));
        assert!(!wants_colours("", ""));
    }
}
