//! The README's "The life of a job", while Redis and the workers live: a job runs once and in
//! time, a failed attempt is repeated, and what cannot run becomes a dead letter that keeps
//! every byte and holds up no other job.

mod dead_letters;
mod fairness;
mod jobs;
mod large_entries;
mod malformed_jobs;
mod poison;
mod retries;
mod sharing;
mod smoke;
mod suspects;
mod unknown_types;
