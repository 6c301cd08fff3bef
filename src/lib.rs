//! A delay-print job queue on Redis Streams: an API that registers jobs, and any
//! number of worker processes that run them.
//!
//! # Reading order
//!
//! `docs/architecture.md` is the way in. One job's path is one direction:
//!
//! 1. [`api::dm_jobqueue`] reads the request; [`usecase::api::registration`] knows the defaults
//!    and limits and makes the job;
//! 2. [`usecase::api::dm_jobqueue`] hands it to [`service::jobqueue::client`], which appends it to
//!    the stream;
//! 3. in a worker process, which [`service::jobqueue::server`] starts and ends, `fetcher`
//!    gets it, `triage` decides what it is, `runner` runs it through [`service::jobqueue::mux`] and
//!    [`service::jobqueue::processor`], which calls
//! 4. [`usecase::jobqueue::delay_print`], which prints through
//!    [`service::delay_print_service`] and [`service::line_writer`], which takes turns with
//!    other processes by `output_turn` and is watched over by [`service::output_watch`];
//! 5. `settler` acknowledges it.
//!
//! # Import rules
//!
//! One direction: the programs wire, [`api`] calls [`usecase`], which calls [`service`]. A test
//! reads these lines and holds them against every `use` and every path (`tests/it`); it also
//! finds files that import each other in a circle. (A parent that only hands on what its children
//! define, with `pub use self::child::Name`, does not import them.)
//!
//! ```text
//! src does not name crate redis; except service::jobqueue::redis
//! api does not name usecase::jobqueue, service::jobqueue::worker, service::jobqueue::redis
//! usecase does not name api
//! usecase::jobqueue does not name service::jobqueue
//! service does not name api, usecase; except service::jobqueue::processor
//! service::jobqueue does not name service::line_writer, service::output_watch; except service::jobqueue::processor
//! service::jobqueue::client does not name service::jobqueue::worker, service::jobqueue::server
//! service::jobqueue::worker does not name service::jobqueue::client, service::jobqueue::server
//! service::jobqueue::redis does not name service::jobqueue::client, service::jobqueue::worker
//! service::jobqueue::redis does not name service::jobqueue::server, service::jobqueue::mux
//! config does not name api, usecase, service
//! ```
//!
//! Nothing imports the programs in `src/bin`. [`service::jobqueue::processor`] is the only part
//! of the queue that knows a usecase.
//!
//! # Invariants
//!
//! 1. A job is in exactly one place: stream, scheduled set, dead letters, or gone. A move
//!    writes the destination before it removes the source, in one script.
//! 2. A job is acknowledged after its line was written, never before.
//! 3. One outcome wins: whoever lost the lease of an entry changes nothing about it.
//!    Success alone counts from anybody: the job did run.
//! 4. One process never runs an entry twice at once.
//! 5. A slow job is not a dead job: what a live process holds is renewed.
//! 6. A stalled Redis is not a dead worker: nobody reclaims until all could renew.
//! 7. Nothing is trimmed that was not finished.
//! 8. No job starts before its time by Redis' clock.
//! 9. No Redis error ends or wedges a worker.
//! 10. A poison job buries only itself.
//!
//! Where the code depends on one, it says so; `tests/it` has a test for each.

pub mod api;
#[cfg(test)]
mod captured;
pub mod config;
mod descriptor;
mod duration;
mod lock;
pub mod program;
pub mod service;
mod shortened;
pub mod shutdown;
pub mod telemetry;
mod threads;
mod throttle;
mod time_zone;
pub mod usecase;

/// The version of the crate, and the commit that it was built from: `0.1.0 (1a2b3c4)`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("COMMIT"), ")");
