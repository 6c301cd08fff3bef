//! Rules of the API.

pub mod dm_jobqueue;
pub mod registration;
