//! The server program: registers jobs over HTTP. It only wires up what the library has.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use dm_jobqueue::VERSION;
use dm_jobqueue::api::health::Readiness;
use dm_jobqueue::api::{self, listen, serve};
use dm_jobqueue::config::Config;
use dm_jobqueue::program;
use dm_jobqueue::service::jobqueue::client::Client;
use dm_jobqueue::shutdown::Signals;
use dm_jobqueue::telemetry;
use dm_jobqueue::usecase::api::dm_jobqueue::DmJobqueueUsecase;
use mimalloc::MiMalloc;
use tokio_util::sync::CancellationToken;
use tracing::info;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Takes requests to run jobs over HTTP, and puts them into the queue in Redis.
#[derive(Parser)]
#[command(name = "server", version = VERSION, after_help = program::HELP)]
struct Arguments {}

fn main() -> ExitCode {
    program::main::<Arguments, _>(run)
}

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut signals = Signals::new()?;
    let config = Config::load()?;
    telemetry::init(&config.logging)?;
    config.log_start("server", VERSION);
    let settings = &config.server;

    let client = Client::new(&config.redis, &config.jobqueue.queue)?;
    let listener = tokio::select! {
        listener = listen::bind(&settings.host, settings.port, "server") => listener?,
        // Looking up the host's name may take long.
        _ = signals.recv() => return Ok(ExitCode::SUCCESS),
    };
    info!(addr = %listener.local_addr()?, "listening");
    let stop = CancellationToken::new();
    let stopped = CancellationToken::new();
    tokio::spawn({
        let (client, stopped) = (client.clone(), stopped.clone());
        async move { client.run(stopped).await }
    });
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
            stop.cancel();
            info!(signal, "asked to stop");
        }
    });
    let limits = serve::Limits::of_server(settings);
    serve::serve(listener, router, limits, stop).await?;
    stopped.cancel();
    info!("server stopped");
    Ok(ExitCode::SUCCESS)
}
