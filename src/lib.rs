//! A job queue on Redis Streams that loses nothing: producers append jobs, and any number of worker
//! processes run them, each at least once.
//!
//! This package has three programs, `server`, `jobqueue` and `jobctl`, which the README describes. This page is
//! for programs of your own that register jobs or run them. They need Redis 7.0 or later, or Valkey.
//!
//! # Dependencies
//!
//! The crate is not on crates.io, so the path of a checkout stands in `Cargo.toml`, or its
//! repository, as `git = "URL"`:
//!
//! ```toml
//! [dependencies]
//! dm-jobqueue = { path = "../dm-jobqueue", default-features = false }
//! serde = { version = "1", features = ["derive"] }
//! tokio = { version = "1", features = ["macros", "rt-multi-thread", "signal", "time"] }
//! ```
//!
//! The feature `programs`, which is on by default, has everything that only the programs need:
//! their HTTP, logging, arguments and settings files. A program of its own does without it.
//!
//! All of it runs on Tokio. It logs with `tracing`: a program sees nothing of that before it has set
//! a subscriber, such as `tracing_subscriber::fmt::init()`.
//!
//! # One job type
//!
//! A job has a type, a payload and an id. A [`Client`] appends it to a queue. A [`Worker`] runs it by
//! the handler that its [`Mux`] has for the type. This program does both:
//!
//! ```no_run
#![doc = include_str!("../examples/own_job_type.rs")]
//! ```
//!
//! # What to look up where
//!
//! | to | see |
//! |---|---|
//! | make a job, with a delay or more retries | [`Job`] |
//! | append it, and know whether that worked | [`Client`], [`EnqueueError`] |
//! | say what a job type does | [`Mux::handle`], [`Context`] |
//! | give a type its own timeout, retries or limit | [`HandlerOptions`], [`RetryConfig`] |
//! | end an attempt without success | [`JobError`] |
//! | let something else end the job later | [`Completion`], [`Later`], [`ResultSender`] |
//! | run jobs, and stop in order | [`Worker`], [`WorkerHandle`], [`Exit`] |
//! | say how many jobs run at once, and for how long | [`WorkerConfig`], [`InvalidSetting`] |
//! | reach Redis | [`RedisConfig`], [`Secret`] |
#![cfg_attr(
    feature = "programs",
    doc = "| start the programs of this package from your own `main` | [`program`] |"
)]
//!
//! # What is promised
//!
//! - A job that [`Client::enqueue`] confirmed runs at least once, unless Redis loses its data. It runs
//!   more than once when a worker dies while it runs, or when the reply to its end is lost. So a
//!   handler should be able to run twice with the same [`Context::job_id`].
//! - An attempt that fails is repeated after a pause. A job whose retries are used up, and one that
//!   no handler can read, becomes a dead letter. Dead letters are kept in the stream
//!   `jobqueue:{QUEUE}:dead`. `docs/operations.md` of the package says how to look at them and how to run
//!   them again.
//! - While Redis is away nothing is lost and nothing has to be started again: workers wait, and
//!   clients say at once that they are not connected.

#![cfg_attr(
    not(feature = "programs"),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "the programs use more of the queue than its face has"
    )
)]

// docs/architecture.md is the way into the code.
//
// # Import rules
//
// One direction: `program` wires, `api` calls `usecase`, which calls `service`. `jobctl` is a front like
// `api`, and calls the inspector in `service`. A test reads these lines and holds them against every
// `use` and every path (tests/it/import_rules.rs). It also finds files that import each other in a
// circle. (A parent that only hands on what its children define, with `pub use self::child::Name`,
// does not import them.)
//
//     src does not name crate redis; except service::jobqueue::redis
//     api does not name usecase::jobqueue, service::jobqueue::worker, service::jobqueue::redis
//     jobctl does not name api, usecase, service::line_writer, service::jobqueue::client, service::jobqueue::worker, service::jobqueue::redis
//     api does not name jobctl
//     usecase does not name api, jobctl
//     usecase::jobqueue does not name service::jobqueue
//     service does not name jobctl
//     service does not name api, usecase; except service::jobqueue::processor
//     service::jobqueue does not name service::line_writer, service::output_watch; except service::jobqueue::processor
//     service::jobqueue::client does not name service::jobqueue::worker, service::jobqueue::server
//     service::jobqueue::inspector does not name service::jobqueue::client, service::jobqueue::server
//     service::jobqueue::inspector does not name service::jobqueue::worker
//     service::jobqueue::worker does not name service::jobqueue::client, service::jobqueue::server
//     service::jobqueue::worker does not name service::jobqueue::inspector
//     service::jobqueue::redis does not name service::jobqueue::client, service::jobqueue::worker
//     service::jobqueue::redis does not name service::jobqueue::server, service::jobqueue::mux
//     service::jobqueue::redis does not name service::jobqueue::inspector
//     config does not name api, jobctl, usecase, service
//
// Nothing imports the programs in `src/bin`.

#[cfg(feature = "programs")]
mod api;
#[cfg(all(test, feature = "programs"))]
mod captured;
mod config;
#[cfg(feature = "programs")]
mod descriptor;
mod duration;
#[cfg(feature = "programs")]
mod jobctl;
mod lock;
#[cfg(feature = "programs")]
pub mod program;
mod service;
mod shortened;
#[cfg(feature = "programs")]
mod shutdown;
#[cfg(feature = "programs")]
mod telemetry;
mod threads;
mod throttle;
#[cfg(feature = "programs")]
mod time_zone;
#[cfg(feature = "programs")]
mod usecase;

pub use config::{InvalidSetting, RedisConfig, RetryConfig, Secret, WorkerConfig};
pub use service::jobqueue::client::{Client, EnqueueError};
pub use service::jobqueue::handler::{Completion, Context, JobError, Later, ResultSender};
pub use service::jobqueue::job::Job;
pub use service::jobqueue::mux::{HandlerOptions, Mux};
pub use service::jobqueue::server::{Exit, Worker, WorkerHandle};

/// The version of the crate, and the commit that it was built from: `0.1.0 (1a2b3c4)`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("COMMIT"), ")");
