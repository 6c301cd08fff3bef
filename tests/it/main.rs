//! The integration tests: one binary, one module a topic, on real Redis servers
//! and real child processes. `support` is what all of them stand on.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and its helpers explain themselves on stderr"
)]

mod addresses;
mod arguments;
mod blocked_log;
mod chaos;
mod clock_steps;
mod conditions;
mod configuration;
mod connections;
mod consumers;
mod crashes;
mod cross_site;
mod data_loss;
mod dead_letters;
mod fairness;
mod fault_table;
mod harness;
mod host;
mod ids_again;
mod import_rules;
mod inspection;
mod jobs;
mod keep_alive;
mod kills;
mod large_entries;
mod leases;
mod ledger;
mod limits;
mod log_lines;
mod lost_replies;
mod malformed_jobs;
mod migrations;
mod openapi;
mod operators;
mod outages;
mod output;
mod output_faults;
mod password_file;
mod permissions;
mod poison;
mod producer;
mod protocol;
mod quiet_log;
mod readiness;
mod reasons;
mod recipes;
mod refusals;
mod refused_outcomes;
mod register;
mod renewals;
mod retries;
mod retry_dead;
mod rhythms;
mod scripts;
mod secrets;
mod secrets_at_runtime;
mod shared_output;
mod sharing;
mod shutdown;
mod shutdown_server;
mod shutdown_without_redis;
mod signals;
mod slow_clients;
mod slow_lines;
mod smoke;
mod stalls;
mod standard_files;
mod startup;
mod stuck_clients;
mod stuck_output;
mod support;
mod suspects;
mod time_zones;
mod tls;
mod trail;
mod unknown_types;
mod users;
mod workers;
mod zombies;
