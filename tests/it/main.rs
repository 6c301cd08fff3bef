//! The integration tests: one binary, one folder a promise of the README, on real Redis
//! servers and real child processes. Each folder's `mod.rs` says which promise its tests
//! prove; `support` is what all of them stand on.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and its helpers explain themselves on stderr"
)]

mod access;
mod api;
mod at_least_once;
mod chaos;
mod configuration;
mod fault_table;
mod import_rules;
mod operations;
mod outages;
mod output;
mod protocol;
mod readiness;
mod running;
mod shutdown;
mod support;
