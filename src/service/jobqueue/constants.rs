//! Names that all programs of a queue must agree on. The name of a job type is beside its payload, in
//! `usecase::jobqueue`.

/// The consumer group that every worker of a queue joins.
pub const GROUP: &str = "jobqueue";
