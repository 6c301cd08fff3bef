//! What both programs do around their work: the arguments, the runtime, and the exit status.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use crate::{telemetry, threads};

/// EX_USAGE of sysexits.h is 64, but who knows a program's arguments expects what clap gives.
const USAGE_STATUS: u8 = 2;
/// What both programs have settings of their own for.
const SERVER_KEYS: [&str; 8] = [
    "host",
    "port",
    "request_timeout",
    "shutdown_timeout",
    "drain_delay",
    "read_timeout",
    "write_timeout",
    "idle_timeout",
];

/// The end of `--help`, the same for both programs.
pub const HELP: &str = "\
Settings are no arguments. They are read from the files {env}.yaml and {env}/cacheserver.yaml,
and from variables, which win over the files:
  APP_ENV              the environment: develop (default), staging or production
  CONFIG_DIR           the directory of the files (default: config)
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

/// Reads the arguments, does `work` on a runtime of its own, and gives the exit status.
/// `--help` and `--version` are answered before anything else is done.
pub fn main<Arguments, Work>(work: impl FnOnce() -> Work) -> ExitCode
where
    Arguments: Parser,
    Work: Future<Output = Result<ExitCode, Box<dyn Error>>>,
{
    if let Err(error) = Arguments::try_parse() {
        return answer(&Arguments::command(), error);
    }
    telemetry::log_panics();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = threads::check_limits().and_then(|()| threads::runtime(&mut builder));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return telemetry::refuse_to_start(&error),
    };
    let exit = runtime.block_on(work());
    let exit = exit.unwrap_or_else(|error| telemetry::refuse_to_start(&*error));
    // Without waiting for an attempt to connect, or the lookup of a host name, that takes
    // its time.
    runtime.shutdown_background();
    telemetry::flush();
    exit
}

/// `--help` and `--version` come as an error too.
fn answer(command: &clap::Command, mut error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Whoever closed stdout does not want to read it.
        error.print().ok();
        return ExitCode::SUCCESS;
    }
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.clone(),
        _ => String::new(),
    };
    // What is no plain word may be a secret.
    if !is_plain(&unknown) {
        let hidden = ContextValue::String("(not shown)".to_owned());
        error.insert(ContextKind::InvalidArg, hidden);
    }
    let value = value_of(&unknown, std::env::args_os());
    let is_typo = error.get(ContextKind::SuggestedArg).is_some();
    let hint = setting(command.get_name(), &unknown, &value).filter(|_| !is_typo);
    telemetry::last_words(&format!("{error}{}", hint.unwrap_or_default()));
    ExitCode::from(USAGE_STATUS)
}

/// The value that was given for an argument, if it may be shown.
fn value_of(argument: &str, arguments: impl IntoIterator<Item = OsString>) -> String {
    let mut rest = arguments
        .into_iter()
        .map(|each| each.to_string_lossy().into_owned());
    let given = rest.find_map(|each| match each.strip_prefix(argument)? {
        "" => Some(None),
        value => Some(value.strip_prefix('=').map(str::to_owned)),
    });
    let value = given.flatten().or_else(|| rest.next());
    let hides = ["pass", "secret", "token", "key", "user"]
        .iter()
        .any(|part| argument.contains(part));
    let value = value.filter(|value| is_plain(value) && !value.starts_with('-') && !hides);
    value.unwrap_or_else(|| "…".to_owned())
}

/// What to write in place of `--queue mail`, should that be meant as a setting.
fn setting(program: &str, argument: &str, value: &str) -> Option<String> {
    let name = argument.strip_prefix("--").filter(|name| is_plain(name))?;
    let name = name.replace('-', "_").to_lowercase();
    let section = match SERVER_KEYS.contains(&&*name) {
        true => program,
        false => "jobqueue",
    };
    Some(format!(
        "\nSettings are no arguments but variables: if {argument} is to be {section}.{name}, set \
         APP__{}__{}={value}\n",
        section.to_uppercase(),
        name.to_uppercase(),
    ))
}

fn is_plain(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    word.len() <= 32 && word.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{setting, value_of};

    #[test]
    fn an_argument_that_is_a_setting_is_told_its_variable() {
        for (program, argument, variable) in [
            ("jobqueue", "--queue", "APP__JOBQUEUE__QUEUE=x\n"),
            ("jobqueue", "--port", "APP__JOBQUEUE__PORT=x\n"),
            (
                "jobqueue",
                "--job-timeout",
                "APP__JOBQUEUE__JOB_TIMEOUT=x\n",
            ),
            ("server", "--port", "APP__SERVER__PORT=x\n"),
            ("server", "--queue", "APP__JOBQUEUE__QUEUE=x\n"),
        ] {
            let hint = setting(program, argument, "x").unwrap();
            assert!(hint.ends_with(variable), "{hint}");
        }
        assert_eq!(setting("jobqueue", "mail", "x"), None);
        assert_eq!(setting("jobqueue", "--a=b", "x"), None);
    }

    #[test]
    fn a_value_that_may_be_a_secret_is_not_shown() {
        let value = |arguments: &str| {
            let arguments = arguments.split(' ').map(OsString::from);
            let name = arguments.clone().nth(1).unwrap();
            let name = name.to_str().unwrap().split('=').next().unwrap().to_owned();
            value_of(&name, arguments)
        };
        assert_eq!(value("jobqueue --queue mail"), "mail");
        assert_eq!(value("jobqueue --queue=mail"), "mail");
        assert_eq!(value("jobqueue --queue"), "…");
        assert_eq!(value("jobqueue --queue --help"), "…");
        assert_eq!(value("jobqueue --redis redis://:s3cret@host"), "…");
        assert_eq!(value("jobqueue --password=s3cret"), "…");
    }
}
