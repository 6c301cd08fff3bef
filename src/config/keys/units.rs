//! Durations that ranges and defaults are made of.

use std::time::Duration;

pub(super) const SECOND: Duration = ms(1_000);
pub(super) const MINUTE: Duration = ms(60_000);
pub(super) const DAY: Duration = ms(24 * 60 * 60_000);

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
