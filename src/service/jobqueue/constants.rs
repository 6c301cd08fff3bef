//! Names that the API and the workers must agree on.

/// The job type of a delay-print job, in the `type` field of a stream entry.
pub const JOB_TYPE_DELAY_PRINT: &str = "demo:delay_print";

/// The consumer group that every worker of a queue joins.
pub const GROUP: &str = "jobqueue";
