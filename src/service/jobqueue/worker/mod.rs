//! The parts of a worker process, in the order in which a job passes them.
//!
//! `fetcher` reads entries, `triage` decides what each of them is, `held` keeps it, `runner`
//! runs it and decides its outcome, and `settler` tells Redis. `heartbeat` renews the leases
//! of what is held, and `promoter` moves scheduled jobs that are due to the stream.

pub(crate) mod dead_letter;
pub(crate) mod fetcher;
pub(crate) mod heartbeat;
pub(crate) mod held;
pub(crate) mod job_log;
pub(crate) mod large_fetcher;
pub(crate) mod outcome;
pub(crate) mod pace;
pub(crate) mod promoter;
mod retry;
pub(crate) mod runner;
pub(crate) mod settler;
mod trail;
pub(crate) mod triage;
