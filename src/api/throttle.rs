//! Keeps a failure that every request meets from writing a log line for each.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How far apart two lines about the same failure are at least.
const PERIOD: Duration = Duration::from_secs(60);

/// Lets one log line a minute through.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// `None` when it is too early for another line at `now`, else how many were
    /// held back since the last one.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now < last + PERIOD) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_with_the_count_of_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.admit(start), Some(0));
        assert_eq!(throttle.admit(start), None);
        assert_eq!(throttle.admit(start + Duration::from_millis(59_999)), None);
        assert_eq!(throttle.admit(start + Duration::from_secs(60)), Some(2));
        assert_eq!(throttle.admit(start + Duration::from_secs(61)), None);
        assert_eq!(throttle.admit(start + Duration::from_secs(120)), Some(1));
    }
}
