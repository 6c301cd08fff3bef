//! Logging: where log lines go and how they look. Stdout belongs to the output of jobs, so everything
//! here goes to stderr. What is logged, and when, is decided in each module.
//!
//! Logging never blocks: the lines go through the queue of `log_queue`. `filter` decides which lines are
//! logged, and `json` is one of the two forms of a line.

mod error;
mod filter;
mod json;
mod log_queue;

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

pub(crate) use self::error::TelemetryError;

use self::filter::filter;
use self::json::JsonLines;
use self::log_queue::{Enqueue, LogQueue, Stderr};

/// The exit status of a program that does not start: EX_CONFIG of sysexits.h.
const REFUSED: u8 = 78;

static QUEUE: LogQueue = LogQueue::new();

/// How many panics at one place are logged in a minute.
const MAX_PANICS: u32 = 3;

/// Sends log lines to stderr from now on.
///
/// `RUST_LOG` selects the lines, and `LOG_FORMAT` their form. If a variable is unset or empty,
/// `settings` decide. Lines have colours only on a terminal that shows them, and not when `NO_COLOR`
/// is set. Panics become log lines as well.
///
/// Code that logs never waits for stderr, so call [`flush`] before the process ends.
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

/// Sets the name that this process has in its group. From now on JSON lines have it.
pub(crate) fn name_consumer(name: &str) {
    // A process has one worker, so this is called once.
    json::CONSUMER.set(name.to_owned()).ok();
}

/// Makes a log line of each panic. The default hook would wait for stderr.
pub(crate) fn log_panics() {
    let panics = Throttle::new(MAX_PANICS, |place: Option<&String>, suppressed| {
        error!(location = place, suppressed, "more panicked");
    });
    panic::set_hook(Box::new(move |panic| log_panic(panic, &panics)));
}

/// Waits until all log lines are out: at most a second, and 200 ms when stderr accepts nothing.
pub fn flush() {
    QUEUE.flush();
}

/// Writes to stderr why a program does not start, with all causes, and returns the exit status, 78.
/// Waits for stderr no longer than [`flush`] does.
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

/// Writes a last message to stderr before the process ends. Waits for stderr no longer than [`flush`]
/// does.
pub(crate) fn last_words(message: &str) {
    // The message is not a log line, since logging may be what could not be set up.
    match Stderr::open().and_then(|out| QUEUE.start(out, Dispatch::none())) {
        Ok(()) => {
            QUEUE.push(message.as_bytes());
            QUEUE.flush();
        }
        // Without a thread this may block. If it fails, the message cannot be shown at all.
        Err(_) => drop(io::stderr().write_all(message.as_bytes())),
    }
}

/// Logs a panic, but only a few of each place: a job that panics at each attempt, or many such jobs,
/// must not fill the log.
fn log_panic(panic: &PanicHookInfo<'_>, panics: &Throttle<String>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let message = shortened(message);
    if let Some(refusal) = threads::refused_runtime(&message) {
        last_words(&format!("error: {refusal}\n"));
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

/// The value of a variable, or an empty text when it is unset. Bytes that are not text become �.
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

/// Whether lines on a terminal should have colours (no-color.org).
fn wants_colours(no_color: &str, term: &str) -> bool {
    no_color.is_empty() && !matches!(term, "" | "dumb")
}

/// A subscriber that writes lines of this form to `out`.
fn dispatch<W>(filter: EnvFilter, format: LogFormat, out: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(out)
        // Otherwise the library reports a line that stderr does not accept on stderr, and panics
        // when that fails as well. The panic would hit the code that logs.
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
