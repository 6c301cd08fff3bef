//! The programs that the bench starts itself as: a worker with the handlers below, and an HTTP
//! server without Redis.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use dm_jobqueue::program::inside::{self, Config, listen, serve};
use dm_jobqueue::program::{LineWriter, register};
use dm_jobqueue::{Context, JobError, Mux};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

/// The environment variable that names the program to run as.
pub(crate) const VARIABLE: &str = "BENCH_PROGRAM";

/// Its handler does nothing.
pub(crate) const NOOP: &str = "bench:noop";
/// The handlers of these two sleep for the time in the name.
pub(crate) const SLEEP_5_MS: &str = "bench:sleep_5_ms";
pub(crate) const SLEEP_1_S: &str = "bench:sleep_1_s";
/// Its first attempt fails.
pub(crate) const FAIL_ONCE: &str = "bench:fail_once";
/// It can never succeed.
pub(crate) const MALFORMED: &str = "bench:malformed";
/// Its handler prints the payload and the time of its start, in microseconds. The time is the wall
/// clock's. A Redis on this host has the same clock.
pub(crate) const CLOCK: &str = "bench:clock";
/// Its handler prints as that of [`CLOCK`] does, and never ends.
pub(crate) const HANG: &str = "bench:hang";

/// The path that is measured. Both servers have it.
pub(crate) const REGISTER: &str = "/api/dm-jobqueue/register";

/// Runs the program named `name`.
pub(crate) fn run(name: &str) -> ExitCode {
    let runtime = match name {
        "worker" => inside::jobqueue_runtime().unwrap(),
        _ => tokio::runtime::Runtime::new().unwrap(),
    };
    let result = runtime.block_on(async {
        match name {
            "worker" => inside::run_jobqueue(add_handlers).await.map(ExitCode::from),
            "server" => bare_server().await,
            name => Err(format!("no such program: {name}").into()),
        }
    });
    // Like the real programs, this does not wait for handlers that never end.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit,
        Err(error) => inside::refuse_to_start(&*error),
    }
}

fn add_handlers(mux: &mut Mux, out: &LineWriter) {
    register(mux, out);
    mux.handle(NOOP, async |_: IgnoredAny, _| Ok(()));
    mux.handle(SLEEP_5_MS, async |_: IgnoredAny, _| {
        sleep(Duration::from_millis(5)).await
    });
    mux.handle(SLEEP_1_S, async |_: IgnoredAny, _| {
        sleep(Duration::from_secs(1)).await
    });
    mux.handle(FAIL_ONCE, async |_: IgnoredAny, job: Context| {
        match job.attempt() {
            0 => Err(JobError::Failed("the first attempt".to_owned())),
            _ => Ok(()),
        }
    });
    mux.handle(MALFORMED, async |_: IgnoredAny, _| {
        Err::<(), _>(JobError::Malformed("always".to_owned()))
    });
    let clock = out.clone();
    mux.handle(CLOCK, move |payload, _| {
        tell_the_time(payload, clock.clone(), false)
    });
    let hang = out.clone();
    mux.handle(HANG, move |payload, _| {
        tell_the_time(payload, hang.clone(), true)
    });
}

async fn sleep(time: Duration) -> Result<(), JobError> {
    tokio::time::sleep(time).await;
    Ok(())
}

async fn tell_the_time(
    payload: Option<Box<RawValue>>,
    out: LineWriter,
    hang: bool,
) -> Result<(), JobError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let payload = payload.as_ref().map_or("", |payload| payload.get());
    let line = format!("{payload} {}\n", now.as_micros());
    let written = out.write(line).wait().await;
    written.map_err(|error| JobError::Failed(error.to_string()))?;
    if hang {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Runs a server with the same HTTP code and the same answer as the real one. It reads the body and
/// does not parse it, and it does not use Redis.
async fn bare_server() -> Result<ExitCode, Box<dyn Error>> {
    let config = Config::load()?;
    inside::init(&config.logging)?;
    let settings = config.server;
    let listener = listen::bind(&settings.host, settings.port, "server").await?;
    let router = Router::new().route(REGISTER, post(created));
    let stop = CancellationToken::new();
    let limits = serve::Limits::of_server(&settings);
    serve::serve(listener, router, limits, stop).await?;
    Ok(ExitCode::SUCCESS)
}

async fn created(_body: Bytes) -> impl IntoResponse {
    let id = uuid::Uuid::now_v7();
    let body = format!(r#"{{"job_id":"{id}","status":"registered"}}"#);
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::CREATED, content_type, body)
}
