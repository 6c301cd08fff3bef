//! The worker program: takes jobs from the queue and runs them. It only wires up what the
//! library has.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use dm_jobqueue::VERSION;
use dm_jobqueue::api::health::Readiness;
use dm_jobqueue::api::{self, listen, serve};
use dm_jobqueue::config::Config;
use dm_jobqueue::program;
use dm_jobqueue::service::delay_print_service::DelayPrintService;
use dm_jobqueue::service::jobqueue::mux::Mux;
use dm_jobqueue::service::jobqueue::processor;
use dm_jobqueue::service::jobqueue::server::Server;
use dm_jobqueue::service::line_writer::LineWriter;
use dm_jobqueue::service::output_watch::OutputWatch;
use dm_jobqueue::shutdown::Signals;
use dm_jobqueue::telemetry;
use dm_jobqueue::usecase::jobqueue::delay_print::DelayPrintUsecase;
use mimalloc::MiMalloc;
use tokio_util::sync::CancellationToken;
use tracing::info;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Takes jobs from the queue in Redis and runs them. Start as many as the work needs.
#[derive(Parser)]
#[command(name = "jobqueue", version = VERSION, after_help = program::HELP)]
struct Arguments {}

fn main() -> ExitCode {
    program::main::<Arguments, _>(run)
}

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut signals = Signals::new()?;
    let config = Config::load()?;
    telemetry::init(&config.logging)?;
    let out = LineWriter::stdout()?;
    config.log_start("jobqueue", VERSION);
    let settings = &config.jobqueue;

    let mut mux = Mux::new();
    let service = DelayPrintService::new(out.clone());
    processor::register(&mut mux, DelayPrintUsecase::new(service));
    let server = Server::new(settings, &config.redis, mux)?;
    telemetry::name_consumer(server.consumer());

    // Several workers run on one host with the same settings, so the port may be taken.
    let listener = tokio::select! {
        listener = listen::bind_or_any(&settings.host, settings.port, "jobqueue") => listener?,
        // Looking up the host's name may take long.
        _ = signals.recv() => return Ok(ExitCode::SUCCESS),
    };
    info!(addr = %listener.local_addr()?, "listening");
    let connector = server.connector();
    let watch = OutputWatch::new(out.clone(), settings.job_timeout, server.suspended());
    tokio::spawn(watch.clone().run());
    let readiness = Readiness::new(move || {
        let (connector, watch) = (connector.clone(), watch.clone());
        async move {
            watch.ready()?;
            connector.ready().await
        }
    });
    let http_stop = CancellationToken::new();
    let http = tokio::spawn(serve::serve(
        listener,
        api::worker_router(&config.cors, readiness.until(server.stop())),
        serve::Limits::of_worker(settings),
        http_stop.clone(),
    ));

    let (stop, cutoff) = (server.stop(), server.cutoff());
    tokio::spawn(async move {
        cutoff.cancelled().await;
        out.abandon();
    });
    tokio::spawn(async move {
        let signal = signals.recv().await;
        stop.cancel();
        info!(signal, "asked to stop");
    });
    let exit = server.run().await?;
    http_stop.cancel();
    // A health check that is being answered is not worth waiting for.
    http.abort();
    Ok(exit.into())
}
