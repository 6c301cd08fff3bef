//! The queue: its protocol on Redis, its producer and its workers.
//!
//! - [`client`] is the producer: it appends jobs to the stream.
//! - `worker` takes jobs from the stream, runs them and settles them. [`server`] starts and
//!   ends its parts.
//! - `inspector` is what an operator asks of a queue and does to it.
//! - `redis` is the only room that names the `redis` crate: commands, scripts, replies and
//!   connections.
//! - [`job`] is what all of them share. [`mux`] finds the handler of a job's type.
//! - [`processor`] has the handlers of all job types of this package: each calls a usecase.

pub(crate) mod client;
pub(crate) mod constants;
pub(crate) mod handler;
pub(crate) mod inspector;
pub(crate) mod job;
pub(crate) mod mux;
#[cfg(feature = "programs")]
pub(crate) mod processor;
mod redis;
pub(crate) mod server;
mod worker;

#[cfg(feature = "programs")]
pub use self::redis::{Class, Error, Keys};
