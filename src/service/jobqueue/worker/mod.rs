//! The parts of a worker process, in the order in which a job passes them.
//!
//! `fetcher` reads entries, `triage` decides what each of them is, `held` keeps it, `runner` runs
//! it, `decide` decides its outcome, and `settler` tells Redis. `large_fetcher` fetches entries
//! that one reply cannot carry. `heartbeat` renews the leases of what is held, `promoter` moves
//! scheduled jobs that are due to the stream, `janitor` removes workers that are gone from the
//! group, and `unblocker` ends the fetcher's read when this worker stops.

mod dead_letter;
pub(crate) mod decide;
pub(crate) mod fetcher;
pub(crate) mod heartbeat;
pub(crate) mod held;
pub(crate) mod janitor;
pub(crate) mod job_log;
pub(crate) mod large_fetcher;
mod outcome;
mod pace;
pub(crate) mod promoter;
mod recognition;
mod refused;
mod retry;
pub(crate) mod runner;
pub(crate) mod settler;
pub(crate) mod shared;
pub(crate) mod tally;
mod trail;
pub(crate) mod triage;
mod type_limit;
pub(crate) mod unblocker;
