//! The queue: its protocol on Redis, its producer and its workers.

pub mod client;
pub mod constants;
pub mod job;
