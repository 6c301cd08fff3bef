//! Business rules.

pub mod api;
pub mod jobqueue;
