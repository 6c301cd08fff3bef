//! What every command works with.

use super::console::Console;
use super::way::Way;
use crate::service::jobqueue::inspector::Inspector;

/// The queue that a command is for, and its Redis.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) queue: String,
    /// The address of Redis, without secrets.
    pub(crate) redis: String,
}

/// What every command works with.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) inspector: Inspector,
    pub(super) way: Way,
    pub(super) console: Console,
    pub(super) place: Place,
}
