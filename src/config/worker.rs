//! Settings of a worker: what a program that embeds one can set.

use std::time::Duration;

use super::section::{Checker, InvalidSetting, Origin, conflict, in_code, section};
use super::value::{DAY, MINUTE, SECOND, Text, YEAR, ms};

/// The section of the worker's settings.
const SECTION: &str = "jobqueue";

const QUEUE_NAME: Text = Text {
    expected: "1 to 64 characters out of a-z, 0-9, _ and -",
    accept: |name| is_queue_name(name).then(|| name.to_owned()),
};

section! {
    /// Settings of a worker (`jobqueue.*`).
    ///
    /// ```
    /// use dm_jobqueue::WorkerConfig;
    ///
    /// let config = WorkerConfig {
    ///     concurrency: 50,
    ///     ..WorkerConfig::default()
    /// };
    /// config.check().unwrap();
    /// ```
    ///
    /// In the ranges below, `ms(1)` is a millisecond, and `SECOND`, `MINUTE`, `DAY` and `YEAR` are
    /// [`Duration`]s of that length.
    #[derive(Debug, Clone)]
    pub struct WorkerConfig {
        /// The queue's name: 1 to 64 characters out of a-z, 0-9, `_` and `-`. Workers and producers of
        /// one queue have the same name.
        pub queue: String = "default".to_owned(), like QUEUE_NAME;
        /// How many jobs run at once in this process.
        pub concurrency: usize = 10, in 1..=10_000;
        /// How many jobs beyond `concurrency` may have run without Redis knowing it yet. So a worker
        /// that is killed leaves at most `concurrency + ahead` jobs that run twice. It also fetches so
        /// many jobs ahead of its free slots at most, and asks for up to twice as many more while Redis
        /// is far away, and only as far as its jobs are short.
        pub ahead: usize = 512, in 0..=512;
        /// How long a worker owns a job after it last renewed its lease. After that another worker
        /// may reclaim the job and run it.
        pub lease: Duration = SECOND * 15, in ms(100)..=DAY;
        /// How often the leases of held jobs are renewed; less than half the lease. `None` follows
        /// the lease: [`WorkerConfig::heartbeat`] has the result.
        pub heartbeat: Option<Duration> = None, which is "a third of the lease", in ms(10)..=DAY;
        /// How often a worker looks for jobs to reclaim; at most half a heartbeat. `None` follows the
        /// heartbeat: [`WorkerConfig::reclaim_interval`] has the result.
        pub reclaim_interval: Option<Duration> = None,
            which is "1s, or half a heartbeat when that is less", in ms(1)..=DAY;
        /// How many deliveries without an outcome a job has before it becomes a dead letter.
        pub max_deliveries: u32 = 5, in 1..=1_000;
        /// How long one attempt of a job may take. [`HandlerOptions::timeout`] sets it for one type.
        ///
        /// [`HandlerOptions::timeout`]: crate::HandlerOptions::timeout
        pub job_timeout: Duration = MINUTE * 30, in ms(1)..=DAY * 30;
        /// How long running jobs may take to finish after the request to stop.
        pub shutdown_timeout: Duration = SECOND * 30, in ms(0)..=DAY;
        /// How long a job whose type no worker knows is tried again without counting attempts. Then
        /// it becomes a dead letter.
        pub unknown_type_grace: Duration = MINUTE * 60, in ms(0)..=DAY * 30;
        /// How many dead letters are kept. The oldest ones are dropped.
        pub dead_letter_max_len: u64 = 100_000, in 1..=1_000_000_000;
        /// About how many finished jobs are kept for people to look at; 0 means none.
        pub done_max_len: u64 = 10_000, in 0..=10_000_000;
        /// How many finished jobs a second this worker keeps at most. At a higher rate it keeps a
        /// sample, in which each job says for how many it stands.
        pub done_per_second: u32 = 100, in 1..=100_000;
    }
    with {
        /// The delays between the attempts of a failing job. [`HandlerOptions::retry`] sets them for
        /// one type.
        ///
        /// [`HandlerOptions::retry`]: crate::HandlerOptions::retry
        pub retry: RetryConfig, in "retry";
    }
}

section! {
    /// The delays between the attempts of a failing job (`jobqueue.retry.*`). They grow exponentially:
    /// with the defaults they are about 1, 2, 4, 8 seconds, and so on, up to 10 minutes.
    ///
    /// The delay after failure number `n` is `min(initial * factor^(n - 1), max)`, multiplied by a
    /// random number between `1 - jitter` and `1 + jitter`.
    #[derive(Debug, Clone, Copy)]
    pub struct RetryConfig {
        /// The delay before the second attempt.
        pub initial: Duration = SECOND, in ms(1)..=YEAR;
        /// What each further delay is multiplied by; a number without a unit.
        pub factor: f64 = 2.0, in 1.0..=100.0;
        /// The longest delay, before jitter; not less than `initial`.
        pub max: Duration = MINUTE * 10, in ms(1)..=YEAR;
        /// The share by which a delay varies either way: 0.2 is 20 %.
        pub jitter: f64 = 0.2, in 0.0..=1.0;
    }
}

impl WorkerConfig {
    /// The heartbeat: a third of the lease unless it is set.
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat.unwrap_or(self.lease / 3)
    }

    /// The reclaim interval: a second, or half a heartbeat when that is less, unless it is set.
    pub fn reclaim_interval(&self) -> Duration {
        let default = || SECOND.min(self.heartbeat() / 2);
        self.reclaim_interval.unwrap_or_else(default)
    }

    /// Checks what loading from files checks too. A worker does it when it is made.
    ///
    /// # Errors
    /// The first setting that is out of its range, or at odds with another one.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        self.visit(SECTION, &mut Checker)?;
        self.check_relations(&in_code)
    }

    /// Refuses settings that exclude each other.
    pub(super) fn check_relations(&self, origin: &Origin<'_>) -> Result<(), InvalidSetting> {
        let lease = ("jobqueue.lease", self.lease);
        let heartbeat = ("jobqueue.heartbeat", self.heartbeat());
        // Two heartbeats fit into a lease, so no job loses its lease by a single late heartbeat.
        if heartbeat.1 * 2 >= lease.1 {
            return Err(conflict(heartbeat, "less than half of", lease, origin));
        }
        let interval = ("jobqueue.reclaim_interval", self.reclaim_interval());
        if interval.1 * 2 > heartbeat.1 {
            return Err(conflict(interval, "at most half of", heartbeat, origin));
        }
        self.retry.check_relations(origin)
    }
}

impl RetryConfig {
    /// Checks the delays of one job type, as [`WorkerConfig::check`] does with those of all.
    ///
    /// # Errors
    /// The first setting that is out of its range, or at odds with another one.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        self.visit("jobqueue.retry", &mut Checker)?;
        self.check_relations(&in_code)
    }

    fn check_relations(&self, origin: &Origin<'_>) -> Result<(), InvalidSetting> {
        let initial = ("jobqueue.retry.initial", self.initial);
        let max = ("jobqueue.retry.max", self.max);
        match max.1 < initial.1 {
            true => Err(conflict(max, "at least", initial, origin)),
            false => Ok(()),
        }
    }
}

/// Checks the name of a queue, which producers have without the settings of a worker.
pub(crate) fn check_queue(name: &str) -> Result<(), InvalidSetting> {
    let config = WorkerConfig {
        queue: name.to_owned(),
        ..WorkerConfig::default()
    };
    config.check()
}

fn is_queue_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(config: &WorkerConfig) -> String {
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_set_follows_the_lease() {
        let config = WorkerConfig::default();
        assert_eq!(config.heartbeat(), SECOND * 5);
        assert_eq!(config.reclaim_interval(), SECOND);
        config.check().unwrap();
        for lease in [ms(100), ms(900), DAY] {
            let config = WorkerConfig {
                lease,
                ..WorkerConfig::default()
            };
            assert_eq!(config.heartbeat(), lease / 3);
            config.check().unwrap();
        }
    }

    #[test]
    fn a_value_out_of_its_range_is_named() {
        let config = WorkerConfig {
            concurrency: 0,
            ..WorkerConfig::default()
        };
        assert_eq!(
            refusal(&config),
            "jobqueue.concurrency: found 0, expected a whole number from 1 to 10000"
        );
        let config = WorkerConfig {
            queue: "{a}".to_owned(),
            ..WorkerConfig::default()
        };
        assert!(refusal(&config).ends_with(QUEUE_NAME.expected));
        assert_eq!(check_queue("{a}"), config.check());
        assert!(!refusal(&config).contains("{a}"), "it may be a secret");
        let config = WorkerConfig {
            retry: RetryConfig {
                factor: f64::NAN,
                ..RetryConfig::default()
            },
            ..WorkerConfig::default()
        };
        assert_eq!(
            refusal(&config),
            "jobqueue.retry.factor: found NaN, expected a number from 1 to 100"
        );
        let config = WorkerConfig {
            heartbeat: Some(ms(9)),
            ..WorkerConfig::default()
        };
        assert_eq!(
            refusal(&config),
            "jobqueue.heartbeat: found \"9ms\", expected a duration such as \"1s\" (from 10ms to \
             1day)"
        );
    }

    #[test]
    fn values_that_exclude_each_other_are_named() {
        let config = WorkerConfig {
            heartbeat: Some(ms(7_500)),
            ..WorkerConfig::default()
        };
        assert_eq!(
            refusal(&config),
            "jobqueue.heartbeat: found \"7s 500ms\", expected less than half of jobqueue.lease, \
             which is \"15s\" (the value in code); change one of them"
        );
        let config = WorkerConfig {
            reclaim_interval: Some(ms(2_501)),
            ..WorkerConfig::default()
        };
        assert!(refusal(&config).contains("expected at most half of jobqueue.heartbeat"));
        let retry = RetryConfig {
            max: ms(999),
            ..RetryConfig::default()
        };
        let error = retry.check().unwrap_err();
        assert_eq!(error.key, "jobqueue.retry.max");
        let config = WorkerConfig {
            retry,
            ..WorkerConfig::default()
        };
        assert_eq!(config.check(), Err(error));
    }
}
