//! The README's "The life of a job", while Redis and the workers are alive. A job runs once and in
//! time, and a failed attempt is repeated. A job that cannot run becomes a dead letter, which keeps
//! every byte and holds up no other job.

mod dead_letters;
mod expiry;
mod fairness;
mod jobs;
mod large_entries;
mod malformed_jobs;
mod own_job_types;
mod poison;
mod retries;
mod sharing;
mod smoke;
mod suspects;
mod unknown_types;
