//! The integration tests, on real Redis servers and real child processes. They are one binary, with
//! one folder for each promise of the documents. Each folder's `mod.rs` says which promise its tests
//! prove. `support` contains what all of them use.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and its helpers explain themselves on stderr"
)]

mod access;
mod api;
mod architecture;
mod at_least_once;
mod chaos;
mod configuration;
mod dependencies;
mod documents;
mod fault_table;
mod import_rules;
mod inspector;
mod jobctl;
mod operations;
mod outages;
mod output;
mod protocol;
mod readiness;
mod running;
mod shutdown;
mod support;
mod wire_format;
