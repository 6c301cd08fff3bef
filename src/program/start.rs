//! What all programs do around their work: the arguments, the runtime, and the exit status.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use tokio::runtime::Builder;

use crate::config::{self, plain};
use crate::{telemetry, threads};

/// The exit status for wrong arguments. sysexits.h has 64 (EX_USAGE), but clap's 2 is what users of
/// the command line expect.
const USAGE_STATUS: u8 = 2;
/// The end of `--help` of `server` and `jobqueue`.
pub(super) const HELP: &str = "\
Settings are no arguments. They are read from the files {env}.yaml, or {env}/config.yaml, and
{env}/cacheserver.yaml, and from variables, which win over the files:
  APP_ENV              the environment: develop (default), staging or production
  CONFIG_DIR           the directory of the files (default: ./config or /etc/dm-jobqueue,
                       whichever has them; without files the defaults hold)
  REDIS_JOBQUEUE_ADDR  the address of Redis: host:port or a URL
  APP__SECTION__KEY    any setting: jobqueue.queue is APP__JOBQUEUE__QUEUE
  RUST_LOG             what is logged to stderr, such as debug, or info,dm_jobqueue=debug
  LOG_FORMAT           text (default) or json
  NO_COLOR             when set, no colours on a terminal
  TZ                   the time zone of what jobs print, such as Asia/Tokyo

Signals:
  SIGTERM, SIGINT, SIGQUIT, SIGHUP  stop in order; a second one stops at once (status 1)
  SIGHUP is left alone under nohup.

Exit status:
  0   stopped in order
  1   stopped before everything was done: a second signal, or jobqueue.shutdown_timeout
  2   wrong arguments
  70  a defect: start it again and report it
  74  stdout takes no more lines
  78  not started: what is wrong, and what to do, is on stderr";

/// Reads the arguments, does `work` on the runtime that `builder` makes, and returns the exit status.
/// `--help` and `--version` are answered before anything else is done.
pub(super) fn main<Arguments, Work>(
    mut builder: Builder,
    work: impl FnOnce(Arguments) -> Work,
) -> ExitCode
where
    Arguments: Parser,
    Work: Future<Output = Result<ExitCode, Box<dyn Error>>>,
{
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return print_and_exit(&Arguments::command(), error),
    };
    telemetry::log_panics();
    let runtime = threads::check_limits().and_then(|()| threads::runtime(&mut builder));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return telemetry::refuse_to_start(&error),
    };
    let exit = runtime.block_on(work(arguments));
    let exit = exit.unwrap_or_else(|error| telemetry::refuse_to_start(&*error));
    // This does not wait for a slow attempt to connect, or for the slow lookup of a host name.
    runtime.shutdown_background();
    telemetry::flush();
    exit
}

/// Prints what clap says, and returns the exit status. For clap, `--help` and `--version` are errors
/// too.
fn print_and_exit(command: &clap::Command, mut error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // This fails when stdout is closed: then nobody wants to read it.
        error.print().ok();
        return ExitCode::SUCCESS;
    }
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.clone(),
        _ => String::new(),
    };
    let is_typo = error.get(ContextKind::SuggestedArg).is_some();
    let setting = unknown.strip_prefix("--").filter(|_| !is_typo);
    let setting = setting.and_then(|name| config::setting_of(command.get_name(), name));
    // An unknown argument may be a secret in the wrong place. Other errors name an argument of ours.
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    let is_plain = plain::is_plain(unknown.trim_start_matches('-'));
    if is_unknown && !is_typo && setting.is_none() && !is_plain {
        let hidden = ContextValue::String("(not shown)".to_owned());
        error.insert(ContextKind::InvalidArg, hidden);
    }
    let hint = setting.map(|key| hint(&unknown, &key, std::env::args_os()));
    telemetry::last_words(&format!("{error}{}", hint.unwrap_or_default()));
    ExitCode::from(USAGE_STATUS)
}

/// What to write instead of `--queue mail`, if that was meant as the setting `key`.
fn hint(argument: &str, key: &str, arguments: impl IntoIterator<Item = OsString>) -> String {
    let value = value_of(argument, arguments).filter(|value| plain::is_plain(value));
    let value = value.filter(|_| !config::is_secret(key));
    format!(
        "\nSettings are no arguments but variables: if {argument} is to be {key}, set {}={}\n",
        config::override_of(key),
        value.as_deref().unwrap_or("…"),
    )
}

/// The value of an argument: `mail` of `--queue mail` or `--queue=mail`.
fn value_of(argument: &str, arguments: impl IntoIterator<Item = OsString>) -> Option<String> {
    let mut rest = arguments
        .into_iter()
        .map(|each| each.to_string_lossy().into_owned());
    let given = rest.find_map(|each| match each.strip_prefix(argument)? {
        "" => Some(None),
        value => Some(value.strip_prefix('=').map(str::to_owned)),
    });
    given
        .flatten()
        .or_else(|| rest.next())
        .filter(|value| !value.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::hint;

    #[test]
    fn the_hint_for_a_setting_has_its_variable_and_a_plain_value() {
        let said = |key: &str, arguments: &str| {
            let arguments = arguments.split(' ').map(OsString::from);
            let name = arguments.clone().nth(1).unwrap();
            let name = name.to_str().unwrap().split('=').next().unwrap().to_owned();
            let hint = hint(&name, key, arguments);
            hint.trim_end().rsplit_once("set ").unwrap().1.to_owned()
        };
        let queue = |arguments: &str| said("jobqueue.queue", arguments);
        assert_eq!(queue("jobqueue --queue mail"), "APP__JOBQUEUE__QUEUE=mail");
        assert_eq!(queue("jobqueue --queue=mail"), "APP__JOBQUEUE__QUEUE=mail");
        assert_eq!(queue("jobqueue --queue"), "APP__JOBQUEUE__QUEUE=…");
        assert_eq!(queue("jobqueue --queue --help"), "APP__JOBQUEUE__QUEUE=…");
        assert_eq!(queue("jobqueue --queue s3cret"), "APP__JOBQUEUE__QUEUE=…");
        let password = "cache_server.redis.jobqueue.password";
        assert!(said(password, "jobqueue --password mail").ends_with("PASSWORD=…"));
    }
}
