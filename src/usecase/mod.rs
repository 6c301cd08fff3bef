//! The business rules: what may be registered, and what a job does.

pub mod api;
pub mod jobqueue;
