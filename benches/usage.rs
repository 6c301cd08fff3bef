//! Reads what Redis and the workers have used so far: CPU time, commands, and bytes that Redis
//! received. The CPU time is the scheduler's, as in `process.rs`. INFO tells the rest.

use std::thread;
use std::time::Duration;

use super::backlog::Queue;
use super::bench::Sample;
use super::process::{Process, cpu};
use super::redis::Redis;
use super::{TIME_LIMIT, wait_for};

/// The pause between two looks at the queue. A look costs Redis two commands.
const LOOK: Duration = Duration::from_millis(20);

/// What was used up to some moment, or between two moments.
pub(crate) struct Usage {
    pub(crate) redis_cpu: Duration,
    pub(crate) workers_cpu: Duration,
    /// All commands but those that the bench looks with. Commands that scripts call count as well.
    pub(crate) commands: u64,
    pub(crate) bytes_to_redis: u64,
}

impl Usage {
    pub(crate) fn so_far(redis: &Redis, workers: &[Process]) -> Self {
        let workers_cpu = workers.iter().map(|worker| cpu(worker.pid())).sum();
        Self {
            redis_cpu: cpu(redis.pid()),
            workers_cpu,
            commands: redis.commands(),
            bytes_to_redis: redis.bytes_received(),
        }
    }

    /// What was used from `before` to now.
    pub(crate) fn since(before: &Self, redis: &Redis, workers: &[Process]) -> Self {
        let now = Self::so_far(redis, workers);
        Self {
            redis_cpu: now.redis_cpu - before.redis_cpu,
            workers_cpu: now.workers_cpu - before.workers_cpu,
            commands: now.commands - before.commands,
            bytes_to_redis: now.bytes_to_redis - before.bytes_to_redis,
        }
    }

    /// What one of `jobs` jobs cost.
    pub(crate) fn per_job(&self, name: &str, jobs: usize) -> Vec<Sample> {
        let sample = |what: &str, unit, each| Sample::new(format!("{name}.{what}"), unit, each);
        let count = |total| number(total) / f64::from(u32::try_from(jobs).unwrap());
        vec![
            sample("redis_us", "us/job", micros_per(self.redis_cpu, jobs)),
            sample("workers_us", "us/job", micros_per(self.workers_cpu, jobs)),
            sample("commands", "1/job", count(self.commands)),
            sample("bytes", "bytes/job", count(self.bytes_to_redis)),
        ]
    }
}

/// Waits until there is no job in the stream or in the scheduled set, with few looks.
pub(crate) fn wait_for_end(queue: &mut Queue) {
    wait_for("the queue's end", TIME_LIMIT, || {
        thread::sleep(LOOK);
        (queue.scheduled() == 0 && queue.len() == 0).then_some(())
    });
}

/// How many microseconds of `time` there are for each of `jobs` jobs.
pub(crate) fn micros_per(time: Duration, jobs: usize) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(u32::try_from(jobs).unwrap())
}

#[allow(
    clippy::cast_precision_loss,
    reason = "commands and bytes are far below 2^52"
)]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
