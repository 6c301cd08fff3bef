//! The integration tests: one binary, one module a topic, on real Redis servers
//! and real child processes. `support` is what all of them stand on.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and its helpers explain themselves on stderr"
)]

mod connections;
mod crashes;
mod data_loss;
mod harness;
mod outages;
mod permissions;
mod refusals;
mod smoke;
mod stalls;
mod support;
mod workers;
