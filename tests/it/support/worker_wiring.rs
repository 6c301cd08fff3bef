//! A worker that is wired like `src/bin/jobqueue.rs`, without HTTP and with the caller's handlers.
//! The worker programs of the tests and of the benches both use it.

use std::error::Error;

use dm_jobqueue::config::Config;
use dm_jobqueue::service::jobqueue::mux::Mux;
use dm_jobqueue::service::jobqueue::server::{Exit, Server};
use dm_jobqueue::service::line_writer::LineWriter;
use dm_jobqueue::shutdown::Signals;
use dm_jobqueue::telemetry;

/// Runs the worker until a signal asks it to stop. `add_handlers` gets the writer of its stdout.
pub(crate) async fn run_worker(
    add_handlers: impl FnOnce(&mut Mux, &LineWriter),
) -> Result<Exit, Box<dyn Error>> {
    let mut signals = Signals::new()?;
    let config = Config::load()?;
    telemetry::init(&config.logging)?;
    let out = LineWriter::stdout()?;
    let mut mux = Mux::new();
    add_handlers(&mut mux, &out);
    let server = Server::new(&config.jobqueue, &config.redis, mux)?;
    let (stop, cutoff) = (server.stop(), server.cutoff());
    tokio::spawn(async move {
        cutoff.cancelled().await;
        out.abandon();
    });
    tokio::spawn(async move {
        signals.recv().await;
        stop.cancel();
    });
    Ok(server.run().await?)
}
