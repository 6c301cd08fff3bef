//! The server program: registers jobs over HTTP.

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
use crate::service::jobqueue::client::Client;
use crate::shutdown::Signals;
use crate::telemetry;
use crate::usecase::api::dm_jobqueue::DmJobqueueUsecase;

/// Takes requests to run jobs over HTTP, and puts them into the queue in Redis.
#[derive(Parser)]
#[command(name = "server", version = VERSION, after_help = start::HELP)]
struct Arguments {}

/// The program `server`: reads the arguments and the settings, and serves the API until a signal asks
/// it to stop. `--help` tells of the settings, the signals and the exit status.
///
/// # Panics
/// Inside of a Tokio runtime, since it makes one of its own. So `main` has no `#[tokio::main]`.
pub fn server() -> ExitCode {
    start::main(Builder::new_multi_thread(), run)
}

async fn run(_: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let mut signals = Signals::new()?;
    let config = Config::load()?;
    telemetry::init(&config.logging)?;
    config.log_start("server", VERSION);
    let settings = &config.server;

    let client = Client::new(&config.redis, &config.jobqueue.worker.queue)?;
    let listener = tokio::select! {
        listener = listen::bind(&settings.host, settings.port, "server") => listener?,
        // Looking up the host's name may take long.
        _ = signals.recv() => return Ok(ExitCode::SUCCESS),
    };
    info!(addr = %listener.local_addr()?, "listening");
    let stop = CancellationToken::new();
    let readiness = Readiness::new({
        let client = client.clone();
        move || {
            let client = client.clone();
            async move { client.ready().await }
        }
    });
    let router = api::server_router(
        DmJobqueueUsecase::new(client),
        settings,
        &config.cors,
        readiness.until(stop.clone()),
    );

    tokio::spawn({
        let stop = stop.clone();
        async move {
            let signal = signals.recv().await;
            info!(signal, "asked to stop");
            stop.cancel();
        }
    });
    let limits = serve::Limits::of_server(settings);
    serve::serve(listener, router, limits, stop).await?;
    info!("server stopped");
    Ok(ExitCode::SUCCESS)
}
