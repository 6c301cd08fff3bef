//! The pauses between attempts that fail. Decided from values alone.

use std::time::Duration;

use super::error::Class;

/// Two connection attempts of a part are at least this far apart.
pub(super) const MIN_ATTEMPT_GAP: Duration = Duration::from_millis(500);
/// How often something is tried again that waits for an operator.
pub(crate) const OPERATOR_RETRY: Duration = Duration::from_secs(5);

/// The pauses between the attempts to reach a Redis that is away. They double up to a limit.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    /// The longest that the next pause may be.
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        let next = min;
        Self { min, max, next }
    }

    /// An attempt succeeded: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    /// How long to wait after an attempt that failed with an error of this class. `random` is
    /// uniform in 0..1 and shortens the pause by up to a half, so that processes which lost
    /// Redis together do not all come back at once. What waits for an operator is tried again
    /// at fixed times.
    pub(super) fn pause(&mut self, class: Class, random: f64) -> Duration {
        if class == Class::Operator {
            return OPERATOR_RETRY;
        }
        let pause = self.next.mul_f64(random.mul_add(0.5, 0.5));
        self.next = (self.next * 2).min(self.max);
        pause
    }
}

/// How long an attempt has to wait when the last one was so long ago.
pub(super) fn gap_left(since_last: Option<Duration>) -> Duration {
    since_last.map_or(Duration::ZERO, |since| {
        MIN_ATTEMPT_GAP.saturating_sub(since)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(ms(8), ms(50));
        let pauses = [8, 16, 32, 50, 50].map(ms);
        for pause in pauses {
            assert_eq!(backoff.pause(Class::Wait, 1.0), pause);
        }
        backoff.reset();
        assert_eq!(backoff.pause(Class::Reconnect, 1.0), ms(8));
        assert_eq!(backoff.pause(Class::Wait, 0.0), ms(8), "half of 16");
    }

    #[test]
    fn what_waits_for_an_operator_is_tried_at_fixed_times() {
        let mut backoff = Backoff::new(ms(8), ms(50));
        assert_eq!(backoff.pause(Class::Operator, 0.0), OPERATOR_RETRY);
        assert_eq!(backoff.pause(Class::Operator, 1.0), OPERATOR_RETRY);
        assert_eq!(backoff.pause(Class::Wait, 1.0), ms(8), "it did not grow");
    }

    #[test]
    fn two_attempts_are_half_a_second_apart() {
        assert_eq!(gap_left(None), ms(0));
        assert_eq!(gap_left(Some(ms(100))), ms(400));
        assert_eq!(gap_left(Some(ms(501))), ms(0));
    }
}
