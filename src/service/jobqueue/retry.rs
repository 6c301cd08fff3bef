//! When a failed job runs again. Decides from values alone: no clock, no I/O.

use std::time::Duration;

use crate::config::RetryConfig;

/// How long to wait before the next attempt of a job that has failed `failures`
/// times (1 for the first failure).
///
/// Exponential backoff with proportional jitter:
/// `min(initial * factor^(failures - 1), max) * (1 + jitter * (2 * random - 1))`,
/// with `random` uniform in 0..1. Jobs that failed together come back spread out.
pub(crate) fn backoff(config: RetryConfig, failures: u32, random: f64) -> Duration {
    let exponent = failures.saturating_sub(1).min(1024);
    let growth = config
        .factor
        .powi(i32::try_from(exponent).unwrap_or(i32::MAX));
    let max = config.max.as_secs_f64();
    // `growth` may be infinite, which `min` caps like any large number.
    let seconds = (config.initial.as_secs_f64() * growth).min(max);
    let spread = 1.0 + config.jitter * (2.0 * random - 1.0);
    Duration::from_secs_f64((seconds * spread).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: RetryConfig = RetryConfig {
        initial: Duration::from_secs(1),
        factor: 2.0,
        max: Duration::from_secs(600),
        jitter: 0.2,
    };

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        let exact = |failures| backoff(CONFIG, failures, 0.5).as_secs_f64();
        for (failures, seconds) in [
            (1, 1.0),
            (2, 2.0),
            (5, 16.0),
            (10, 512.0),
            (11, 600.0),
            (1000, 600.0),
            (u32::MAX, 600.0),
        ] {
            assert!(
                (exact(failures) - seconds).abs() < 1e-6,
                "{failures}: {}",
                exact(failures)
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn jitter_stays_within_its_share(failures in 1_u32..2000, random in 0.0_f64..1.0) {
            let exact = backoff(CONFIG, failures, 0.5).as_secs_f64();
            let jittered = backoff(CONFIG, failures, random).as_secs_f64();
            proptest::prop_assert!((exact * 0.799..=exact * 1.201).contains(&jittered));
        }
    }
}
