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
    jittered(Duration::from_secs_f64(seconds), config.jitter, random)
}

/// `pause`, shorter or longer by up to its share `jitter`.
pub(crate) fn jittered(pause: Duration, jitter: f64, random: f64) -> Duration {
    let spread = 1.0 + jitter * (2.0 * random - 1.0);
    Duration::from_secs_f64((pause.as_secs_f64() * spread).max(0.0))
}

/// The shortest and the longest pause of a job whose type is not known. It comes back often enough
/// for a worker that was upgraded to get it soon, and seldom enough to cost next to nothing.
const MIN_UNKNOWN_PAUSE_MS: u64 = 100;
const MAX_UNKNOWN_PAUSE_MS: u64 = 60_000;

/// The next pause, in milliseconds, of a job that has waited `waited_ms` for a worker that knows its
/// type. None when its `grace` is over.
///
/// The pause is a quarter of all pauses before it together. With the default settings that is 1 s
/// five times, then 1.25 s, 1.6 s, and so on, up to a minute once the job has waited for four. The
/// pauses grow slowly, since a job may meet the wrong worker several times although the right one is
/// there. The last pause ends with the grace.
pub(crate) fn unknown_pause(config: RetryConfig, waited_ms: u64, grace: Duration) -> Option<u64> {
    let whole_ms = |time: Duration| u64::try_from(time.as_nanos().div_ceil(1_000_000));
    let whole_ms = |time| whole_ms(time).unwrap_or(u64::MAX);
    let shortest = whole_ms(config.initial).clamp(MIN_UNKNOWN_PAUSE_MS, MAX_UNKNOWN_PAUSE_MS);
    let longest = whole_ms(config.max).clamp(shortest, MAX_UNKNOWN_PAUSE_MS);
    let left = whole_ms(grace).checked_sub(waited_ms)?;
    (left > 0).then(|| (waited_ms / 4).clamp(shortest, longest).min(left))
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

    #[test]
    fn a_job_of_an_unknown_type_pauses_longer_and_longer_until_its_grace_is_over() {
        let pauses = |config, grace| {
            let mut waited = 0;
            std::iter::from_fn(|| {
                let pause = unknown_pause(config, waited, Duration::from_millis(grace))?;
                waited += pause;
                Some(pause)
            })
            .collect::<Vec<_>>()
        };
        let hour = pauses(CONFIG, 3_600_000);
        let beginning = [1000, 1000, 1000, 1000, 1000, 1250, 1562, 1953];
        assert_eq!(hour[..8], beginning);
        assert!(hour.len() < 100, "{} pauses", hour.len());
        assert_eq!(hour.iter().sum::<u64>(), 3_600_000);
        assert!(hour.iter().all(|pause| (1..=60_000).contains(pause)));
        assert!(pauses(CONFIG, 0).is_empty());
        assert_eq!(pauses(CONFIG, 1), [1]);
        assert_eq!(pauses(CONFIG, 2500), [1000, 1000, 500]);
        let at_once = RetryConfig {
            initial: Duration::ZERO,
            max: Duration::from_millis(250),
            ..CONFIG
        };
        assert_eq!(
            pauses(at_once, 1000),
            [100, 100, 100, 100, 100, 125, 156, 195, 24]
        );
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
