//! What the business rules are built on.

pub mod jobqueue;
