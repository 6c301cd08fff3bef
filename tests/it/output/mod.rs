//! The README's "One job is one line", and what `docs/operations.md` says of stdout, of logs, of one
//! job's trail and of the time zone: what the programs write to stdout and stderr, and what they do
//! when nobody reads it.

mod blocked_log;
mod faults;
mod log_lines;
mod pipes;
mod quiet_log;
mod shared_stdout;
mod standard_files;
mod stuck_stdout;
mod time_zones;
mod trail;
