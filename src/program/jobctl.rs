//! The operator's program: looks at the queue and steers it.

use std::error::Error;
use std::panic;
use std::process::ExitCode;

use clap::CommandFactory;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use super::start;
use crate::config::Config;
use crate::jobctl::{self, Arguments, Place, Way};
use crate::service::jobqueue::inspector::Inspector;
use crate::shutdown::Signals;
use crate::telemetry;

/// The exit status of a defect: EX_SOFTWARE of sysexits.h.
const DEFECT: u8 = 70;

/// The program `jobctl`: reads the arguments and the settings, and does one command. `--help` tells of
/// the commands and the exit status.
///
/// # Panics
/// Inside of a Tokio runtime, since it makes one of its own. So `main` has no `#[tokio::main]`.
pub fn jobctl() -> ExitCode {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1);
    start::main(builder, run)
}

async fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(shell) = arguments.completions() {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "jobctl", &mut script);
        return Ok(jobctl::print(&script));
    }
    let mut signals = Signals::new()?;
    let config = Config::load()?;
    let queue = arguments
        .queue()
        .unwrap_or(&config.jobqueue.worker.queue)
        .to_owned();
    let (inspector, connector) = Inspector::new(&config.redis, &queue)?;
    let interrupt = CancellationToken::new();
    tokio::spawn({
        let connector = connector.clone();
        async move { connector.probe(CancellationToken::new()).await }
    });
    tokio::spawn({
        let interrupt = interrupt.clone();
        async move {
            signals.recv().await;
            interrupt.cancel();
        }
    });
    let way = Way::new(connector, config.redis.dial_timeout, interrupt);
    let redis = config.redis.display_addr();
    say_panics();
    // A task, so that a panic is an end like others.
    let command = tokio::spawn(jobctl::run(
        arguments,
        inspector,
        way,
        Place { queue, redis },
    ));
    Ok(command.await.unwrap_or(ExitCode::from(DEFECT)))
}

/// Says a panic on stderr. There is no log here.
fn say_panics() {
    panic::set_hook(Box::new(|panic| {
        telemetry::last_words(&format!("error: a defect, please report it: {panic}\n"));
    }));
}
