//! The business rules: what may be registered, and what a job does.

/// Rules of the API.
pub(crate) mod api {
    pub(crate) mod dm_jobqueue;
    pub(crate) mod registration;
    pub(crate) mod violation;
}

/// Rules of the jobs that the workers run.
pub(crate) mod jobqueue {
    pub(crate) mod delay_print;
}
