//! What the settings are, by section. `load` reads them from their sources, and `keys` has the defaults
//! and ranges.

use std::{path::PathBuf, time::Duration};

use super::redis_config::RedisConfig;

/// All settings of both programs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The API server.
    pub server: ServerConfig,
    /// The workers.
    pub jobqueue: JobqueueConfig,
    /// The Redis that both use.
    pub redis: RedisConfig,
    /// What pages of other sites may do with the API.
    pub cors: CorsConfig,
    /// How much is logged, and in which form.
    pub logging: LoggingConfig,
    /// Where the settings come from.
    pub sources: Sources,
}

/// How long a client of a program's port may take (`server.*` and `jobqueue.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpConfig {
    /// From the first byte of a request to the end of its head (`read_timeout`).
    pub read_timeout: Duration,
    /// From the first wait for the client, until it has read the whole answer (`write_timeout`).
    pub write_timeout: Duration,
    /// Between two requests on one connection (`idle_timeout`).
    pub idle_timeout: Duration,
}

/// Settings of the API server (`server.*`).
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to listen on.
    pub host: String,
    /// The port to listen on; 0 means any free port.
    pub port: u16,
    /// How long clients may take.
    pub http: HttpConfig,
    /// How long a request may take at most, Redis included.
    pub request_timeout: Duration,
    /// After a signal: how long connections are still accepted while `/ready` says 503.
    pub drain_delay: Duration,
    /// How long requests in progress may take to finish after a signal.
    pub shutdown_timeout: Duration,
}

/// Settings of a worker process (`jobqueue.*`).
#[derive(Debug, Clone)]
pub struct JobqueueConfig {
    /// The address of the worker's own HTTP (health and readiness).
    pub host: String,
    /// The port of the worker's own HTTP; 0 means any free port.
    pub port: u16,
    /// How long clients of that port may take.
    pub http: HttpConfig,
    /// The queue's name, `[a-z0-9_-]{1,64}`.
    pub queue: String,
    /// How many jobs run at once in this process.
    pub concurrency: usize,
    /// A delivered job whose lease was not renewed for this long is reclaimed.
    pub lease: Duration,
    /// How often the leases of held jobs are renewed; less than half the lease.
    pub heartbeat: Duration,
    /// How often a worker looks for jobs to reclaim; at most half a heartbeat.
    pub reclaim_interval: Duration,
    /// How many deliveries without an outcome a job has before it becomes a dead letter.
    pub max_deliveries: u32,
    /// How long one run of a job may take.
    pub job_timeout: Duration,
    /// How long running jobs may take to finish after a signal.
    pub shutdown_timeout: Duration,
    /// How long a job whose type no worker knows is tried again without counting attempts.
    pub unknown_type_grace: Duration,
    /// The delays between the attempts of a failing job.
    pub retry: RetryConfig,
    /// How many dead letters are kept. The oldest ones are dropped.
    pub dead_letter_max_len: u64,
}

/// Exponential backoff between attempts (`jobqueue.retry.*`).
#[derive(Debug, Clone, Copy)]
pub struct RetryConfig {
    /// The delay before the second attempt.
    pub initial: Duration,
    /// What each further delay is multiplied with; at least 1.
    pub factor: f64,
    /// The longest delay, before jitter.
    pub max: Duration,
    /// The share, 0 to 1, by which a delay varies either way.
    pub jitter: f64,
}

/// What pages of other sites may do with the API (`cors.*`). An empty list allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorsConfig {
    /// Origins such as `http://localhost:3000`, or `*`.
    pub allowed_origins: Vec<String>,
    /// Methods that these pages may use.
    pub allowed_methods: Vec<String>,
    /// Headers that these pages may send.
    pub allowed_headers: Vec<String>,
    /// Headers of an answer that these pages may read.
    pub expose_headers: Vec<String>,
}

/// Settings of the log (`logging.*`). The variables `RUST_LOG` and `LOG_FORMAT` override them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoggingConfig {
    /// The level of the program's own lines.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// The lowest level of lines that are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything, including each step of each job.
    Trace,
    /// The trail of each job.
    Debug,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What needs a look.
    Warn,
    /// What went wrong for good.
    Error,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The sources that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The environment that `APP_ENV` names.
    pub environment: String,
    /// The directory of the files; `None` when no files exist and the defaults hold.
    pub directory: Option<PathBuf>,
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// The names of sections and variables that belong to other programs. They were left alone.
    pub others: Vec<String>,
}
