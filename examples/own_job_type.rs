//! A job type of your own: a producer and a worker in one program. Ctrl-C ends it in order.
//!
//! `cargo run --example own_job_type -- localhost:6379`

#![allow(clippy::print_stdout, reason = "this is what its jobs do")]

use std::{error::Error, process::ExitCode, time::Duration};

use dm_jobqueue::{Client, Context, Job, JobError, Mux};
use dm_jobqueue::{RedisConfig, RetryConfig, Worker, WorkerConfig};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

#[derive(Serialize, Deserialize)]
struct Resize {
    image: String,
    width: u32,
}

/// Any error makes the attempt fail, and the job is tried again.
async fn resize(job: Resize, context: Context) -> Result<(), JobError> {
    let attempt = context.attempt();
    if attempt == 0 {
        // This fails, to show a second attempt.
        std::fs::read("/no/such/file")?;
    }
    println!(
        "{} has {} pixels at attempt {attempt}",
        job.image, job.width
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (mut redis, mut settings) = (RedisConfig::default(), WorkerConfig::default());
    redis.addr = std::env::args().nth(1).ok_or("which Redis?")?;
    settings.queue = "images".to_owned();

    let client = Client::new(&redis, &settings.queue)?;
    if timeout(Duration::from_secs(10), client.connected())
        .await
        .is_err()
    {
        // The error says why Redis cannot be used.
        client.ready().await?;
    }
    let (image, width) = ("logo.png".to_owned(), 640);
    let job = Job::new("image:resize", &Resize { image, width })?.max_retry(3);
    client.enqueue(&job, Duration::from_secs(1)).await?;

    let retry = RetryConfig {
        initial: Duration::from_millis(200),
        ..RetryConfig::default()
    };
    let mut mux = Mux::new();
    let options = mux.handle("image:resize", resize);
    options.timeout(Duration::from_secs(10)).retry(retry);
    let worker = Worker::new(&settings, &redis, mux)?;
    // The exit code is 0 when all jobs that were started have ended.
    let exit = worker.run(tokio::signal::ctrl_c()).await?;
    Ok(exit.into())
}
