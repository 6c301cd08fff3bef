//! Measures what the real worker program costs. Its lines go to /dev/null.
//!
//! Idle: the worker has default settings. The measurement begins a second after the worker waits
//! for jobs, and lasts six seconds. MONITOR counts the commands, without those that scripts call.
//!
//! At work: the worker drains a backlog at concurrency 100. The measurement lasts from the start of
//! the process to the last job, so the CPU time and the peak include the start.
//!
//! Memory in Redis: `used_memory` with 100,000 jobs in the stream, or with 20,000 in the scheduled
//! set, less what it was before. The jobs come as usual: XADD appends them, and a worker parks the
//! delayed ones.

use std::thread;
use std::time::{Duration, Instant};

use dm_jobqueue::program::JOB_TYPE_DELAY_PRINT;

use super::backlog::{Queue, job};
use super::bench::{Bench, Sample};
use super::process::{Process, Program, cpu};
use super::redis::Redis;

const DEFAULT_CONCURRENCY: usize = 10;
const SETTLE: Duration = Duration::from_secs(1);
const IDLE_MS: usize = 6000;
const JOBS: usize = 200_000;
const WAITING_JOBS: usize = 100_000;
const SCHEDULED_JOBS: usize = 20_000;
const AN_HOUR: Duration = Duration::from_secs(60 * 60);

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let redis = Redis::start();
    let idle_ms = u64::try_from(bench.size(IDLE_MS)).unwrap();
    let runs = bench.runs();
    if bench.wants("cost.idle") {
        bench.group("cost.idle", runs, || {
            idle(&redis, Duration::from_millis(idle_ms))
        });
    }
    let (jobs, waiting, scheduled) = (
        bench.size(JOBS),
        bench.size(WAITING_JOBS),
        bench.size(SCHEDULED_JOBS),
    );
    if bench.wants("cost.peak_rss_mib")
        || bench.wants("cost.worker")
        || bench.wants("cost.redis_cpu")
    {
        bench.group("cost.work", runs, || work(&redis, jobs));
    }
    if bench.wants("cost.redis_bytes") {
        bench.group("cost.redis_bytes", runs, || {
            memory(&redis, waiting, scheduled)
        });
    }
}

fn idle(redis: &Redis, time: Duration) -> Vec<Sample> {
    redis.empty();
    let worker = Program::jobqueue(redis, DEFAULT_CONCURRENCY).start();
    Queue::default(redis).wait_for_workers(1);
    thread::sleep(SETTLE);
    let mut monitor = redis.open();
    monitor.ask(&["MONITOR"]);
    let (start, before) = (Instant::now(), cpu(worker.pid()));
    let mut commands = 0u32;
    while start.elapsed() < time {
        let line = monitor.wait_for_line(time.saturating_sub(start.elapsed()));
        // A line is `<time> [<db> <address>] "<command>" ...`. For a script's command the address
        // is `lua`.
        commands += u32::from(line.is_some_and(|line| !line.contains(" lua] ")));
    }
    let (used, elapsed) = (cpu(worker.pid()) - before, start.elapsed());
    let percent = used.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
    let per_s = f64::from(commands) / elapsed.as_secs_f64();
    vec![
        Sample::new("cost.idle_cpu_percent", "% of a core", percent),
        Sample::new("cost.idle_commands_per_s", "1/s", per_s),
        Sample::new("cost.idle_rss_mib", "MiB", worker.rss_mib()),
    ]
}

fn work(redis: &Redis, jobs: usize) -> Vec<Sample> {
    redis.empty();
    let mut queue = Queue::default(redis);
    queue.add(jobs, |_| job(JOB_TYPE_DELAY_PRINT));
    let before = cpu(redis.pid());
    let worker: Process = Program::jobqueue(redis, 100).start();
    queue.wait_until_settled(0);
    let redis_cpu = cpu(redis.pid()) - before;
    vec![
        Sample::new("cost.peak_rss_mib", "MiB", worker.peak_rss_mib()),
        per_1000("cost.worker_cpu_s_per_1000", cpu(worker.pid()), jobs),
        per_1000("cost.redis_cpu_s_per_1000", redis_cpu, jobs),
    ]
}

fn per_1000(name: &str, time: Duration, jobs: usize) -> Sample {
    let jobs = f64::from(u32::try_from(jobs).unwrap());
    Sample::new(name, "s", time.as_secs_f64() / jobs * 1000.0)
}

fn memory(redis: &Redis, waiting: usize, scheduled: usize) -> Vec<Sample> {
    redis.empty();
    let mut queue = Queue::default(redis);
    let before = redis.used_memory();
    queue.add(waiting, |_| job(JOB_TYPE_DELAY_PRINT));
    let per_waiting = bytes_per(waiting, before, redis.used_memory());

    redis.empty();
    let worker = Program::jobqueue(redis, DEFAULT_CONCURRENCY).start();
    queue.wait_for_workers(1);
    let before = redis.used_memory();
    queue.add(scheduled, |_| job(JOB_TYPE_DELAY_PRINT).delay(AN_HOUR));
    queue.wait_until_settled(scheduled);
    worker.stop();
    let per_scheduled = bytes_per(scheduled, before, redis.used_memory());
    vec![
        Sample::new("cost.redis_bytes_per_waiting_job", "bytes", per_waiting),
        Sample::new("cost.redis_bytes_per_scheduled_job", "bytes", per_scheduled),
    ]
}

#[allow(
    clippy::cast_precision_loss,
    reason = "memory in bytes is far below 2^52"
)]
fn bytes_per(jobs: usize, before: u64, after: u64) -> f64 {
    after.saturating_sub(before) as f64 / jobs as f64
}
