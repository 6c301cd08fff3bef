//! The worker program: takes jobs from the queue and runs them.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::start;
use crate::VERSION;
use crate::api::health::Readiness;
use crate::api::{self, listen, serve};
use crate::config::Config;
use crate::service::jobqueue::mux::Mux;
use crate::service::jobqueue::server::{Exit, Worker};
use crate::service::line_writer::LineWriter;
use crate::service::output_watch::OutputWatch;
use crate::shutdown::Signals;
use crate::telemetry;

/// Takes jobs from the queue in Redis and runs them. Start as many as the work needs.
#[derive(Parser)]
#[command(name = "jobqueue", version = VERSION, after_help = start::HELP)]
struct Arguments {}

/// The program `jobqueue`, with the handlers that `add_handlers` adds. They may write lines to stdout
/// through the [`LineWriter`], and in no other way.
///
/// It reads the arguments and the settings, serves `/health` and `/ready`, and runs a worker until a
/// signal asks it to stop. `--help` tells of the settings, the signals and the exit status.
///
/// # Panics
/// Inside of a Tokio runtime, since it makes one of its own. So `main` has no `#[tokio::main]`.
pub fn jobqueue(add_handlers: impl FnOnce(&mut Mux, &LineWriter)) -> ExitCode {
    let work = |_: Arguments| async { Ok(run(add_handlers).await?.into()) };
    start::main(runtime_builder(), work)
}

/// The builder of the main runtime. Handlers have a runtime of their own.
///
/// Redis has one thread, and one thread here keeps up with it. More of them would wake each other for
/// each reply, and take the processors from the handlers.
pub(super) fn runtime_builder() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1);
    builder
}

/// The program without its arguments.
pub(super) async fn run(
    add_handlers: impl FnOnce(&mut Mux, &LineWriter),
) -> Result<Exit, Box<dyn Error>> {
    let mut signals = Signals::new()?;
    let config = Config::load()?;
    telemetry::init(&config.logging)?;
    let out = LineWriter::stdout()?;
    config.log_start("jobqueue", VERSION);
    let settings = &config.jobqueue;

    let mut mux = Mux::new();
    add_handlers(&mut mux, &out);
    let worker = Worker::new(&settings.worker, &config.redis, mux)?;
    let handle = worker.handle();
    telemetry::name_consumer(handle.consumer());

    // Several workers run on one host with the same settings, so the port may be taken.
    let listener = tokio::select! {
        listener = listen::bind_or_any(&settings.host, settings.port, "jobqueue") => listener?,
        // Looking up the host's name may take long.
        _ = signals.recv() => return Ok(Exit::Clean),
    };
    info!(addr = %listener.local_addr()?, "listening");
    let watch = OutputWatch::new(out.clone(), settings.worker.job_timeout, handle.suspended());
    tokio::spawn(watch.clone().run());
    let readiness = Readiness::new({
        let handle = handle.clone();
        move || {
            let (handle, watch) = (handle.clone(), watch.clone());
            async move {
                watch.ready()?;
                handle.ready().await
            }
        }
    });
    let http_stop = CancellationToken::new();
    let http = tokio::spawn(serve::serve(
        listener,
        api::worker_router(&config.cors, readiness.until(handle.stopping().clone())),
        serve::Limits::of_worker(settings),
        http_stop.clone(),
    ));

    let cutoff = handle.cutoff().clone();
    tokio::spawn(async move {
        cutoff.cancelled().await;
        out.abandon();
    });
    let asked = async {
        let signal = signals.recv().await;
        info!(signal, "asked to stop");
    };
    let exit = worker.run(asked).await?;
    http_stop.cancel();
    // A health check that is being answered is not worth waiting for.
    http.abort();
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads;

    #[test]
    fn the_main_runtime_has_one_thread() {
        let runtime = threads::runtime(&mut runtime_builder()).unwrap();
        assert_eq!(runtime.metrics().num_workers(), 1);
    }
}
