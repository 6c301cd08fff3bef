//! The ground the other tests stand on: a test that trusts a Redis that never
//! stopped, or a wait that cannot fail, proves nothing.

mod network;
mod process;
mod redis;

use std::time::Duration;

/// Too short for what does not happen at once.
const SHORT: Duration = Duration::from_millis(200);
