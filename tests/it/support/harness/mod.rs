//! Tests of the support code itself. A test proves nothing when it trusts a Redis that never
//! stopped, or a wait that cannot fail.

mod network;
mod process;
mod redis;

use std::time::Duration;

/// Too short for an event that takes some time.
const SHORT: Duration = Duration::from_millis(200);
