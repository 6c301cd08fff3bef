//! Rules of the API.

pub(crate) mod dm_jobqueue;
pub(crate) mod registration;
pub(crate) mod violation;
