//! The business rules: what may be registered, and what a job does.

pub(crate) mod api;
pub(crate) mod jobqueue;
