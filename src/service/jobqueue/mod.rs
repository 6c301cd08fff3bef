//! The queue: its protocol on Redis, its producer and its workers.
//!
//! Following a job: [`client`] appends it; [`server`] runs a worker process, in which
//! `fetcher` gets it, `worker` runs it through [`mux`] and [`processor`], and `settler`
//! tells Redis how it ended. `promoter` and `heartbeat` work beside them, and `held` is
//! what they share. `broker` is the one file that knows Redis commands.

mod advice;
mod aside;
mod broker;
pub mod client;
mod condition;
mod connection;
pub mod constants;
pub mod error;
mod fetcher;
mod heartbeat;
mod held;
mod intake;
pub mod job;
mod job_log;
mod lease_log;
mod letter;
mod link;
mod login;
mod migrations;
pub mod mux;
mod outage;
mod outbox;
mod pace;
mod password_file;
pub mod processor;
mod promoter;
mod reply;
mod retry;
mod rhythm;
pub mod server;
mod settler;
mod tls;
mod trail;
mod worker;

pub use broker::Keys;
pub use connection::Connector;
