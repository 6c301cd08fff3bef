// A job type of your own: a producer and a worker in one program.
//
// `cargo run --example own_job_type -- localhost:6379`

use std::error::Error;
use std::time::Duration;

use dm_jobqueue::{
    Client, Context, Job, JobError, Mux, RedisConfig, RetryConfig, Worker, WorkerConfig,
};
use serde::{Deserialize, Serialize};

const RESIZE: &str = "image:resize";

#[derive(Serialize, Deserialize)]
struct Resize {
    image: String,
    width: u32,
}

/// Any error makes the attempt fail, and the job is tried again.
async fn resize(job: Resize, context: Context) -> Result<(), JobError> {
    println!("attempt {}", context.attempt());
    if context.attempt() == 0 {
        std::fs::read("/no/such/file")?;
    }
    println!("{} is {} pixels wide now", job.image, job.width);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).unwrap_or("localhost:6379".into());
    let redis = RedisConfig {
        addr,
        ..Default::default()
    };

    let client = Client::new(&redis, "images")?;
    client.connected().await?;
    let job = Resize {
        image: "logo.png".into(),
        width: 640,
    };
    let job = Job::new(RESIZE, &job)?
        .max_retry(3)
        .delay(Duration::from_millis(500));
    client.enqueue(&job, Duration::from_secs(1)).await?;

    let mut mux = Mux::new();
    let pauses = RetryConfig {
        initial: Duration::from_millis(200),
        ..Default::default()
    };
    mux.handle(RESIZE, resize)
        .timeout(Duration::from_secs(10))
        .retry(pauses);
    let settings = WorkerConfig {
        queue: "images".into(),
        ..Default::default()
    };
    let worker = Worker::new(&settings, &redis, mux)?;
    let handle = worker.handle();
    tokio::spawn(async move {
        tokio::signal::ctrl_c().await.ok();
        handle.stop();
    });
    worker.run().await?;
    Ok(())
}
