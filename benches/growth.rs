//! Measures whether a job costs more when the backlog is longer, when the scheduled set is fuller,
//! when more jobs run, or when there are more workers.
//!
//! The cost is the CPU time of the workers and of Redis together, with the XADD of the job. The
//! elapsed time would depend on what else runs on the machine. One run measures all sizes of a row
//! with the same number of jobs. There are at most three runs. A row's ratio is the cost at its
//! costliest size, divided by the cost at its smallest size.

use std::thread;
use std::time::{Duration, Instant};

use super::backlog::{Queue, job, now, with_payload};
use super::bench::{Bench, Sample};
use super::process::{Process, Program, cpu};
use super::program::{HANG, NOOP};
use super::redis::Redis;
use super::usage::micros_per;

const MAX_RUNS: usize = 3;
const CONCURRENCY: usize = 100;
/// How long the bench keeps a backlog at its size.
const BACKLOG_MS: usize = 1500;
const WARM_UP: Duration = Duration::from_millis(200);
const SIZES: [(&str, usize); 4] = [
    ("1k", 1000),
    ("10k", 10_000),
    ("100k", 100_000),
    ("1m", 1_000_000),
];
const PENDING: [(&str, usize); 4] = [("10", 10), ("100", 100), ("1k", 1000), ("10k", 10_000)];
const WORKERS: [(&str, usize); 5] = [("1", 1), ("2", 2), ("4", 4), ("8", 8), ("16", 16)];
const SCHEDULED_JOBS: usize = 20_000;
const SCHEDULED_DELAY: Duration = Duration::from_millis(500);
const JOBS: usize = 50_000;
const AN_HOUR: Duration = Duration::from_secs(60 * 60);

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let redis = Redis::start();
    let runs = bench.runs().min(MAX_RUNS);
    let size = |bench: &Bench, (label, full)| (label, bench.size(full));
    let sizes = SIZES.map(|each| size(bench, each));
    let pending = PENDING.map(|each| size(bench, each));
    let (scheduled, jobs) = (bench.size(SCHEDULED_JOBS), bench.size(JOBS));
    let window = Duration::from_millis(u64::try_from(bench.size(BACKLOG_MS)).unwrap());
    let mut row = |name: &str, sizes: &[(&str, usize)], cost: &mut dyn FnMut(usize) -> f64| {
        if bench.wants(name) {
            bench.group(name, runs, || {
                redis.empty();
                costs(name, sizes, cost)
            });
        }
    };
    row("growth.backlog", &sizes, &mut |size| {
        backlog(&redis, size, window)
    });
    row("growth.scheduled", &sizes, &mut |size| {
        beside_scheduled(&redis, size, scheduled)
    });
    row("growth.pending", &pending, &mut |size| {
        beside_running(&redis, size, jobs)
    });
    row("growth.workers", &WORKERS, &mut |size| {
        redis.empty();
        feed(&redis, &start(&redis, size, 10), jobs, 0)
    });
}

/// Measures the cost at each size, and adds the ratio.
fn costs(name: &str, sizes: &[(&str, usize)], cost: &mut dyn FnMut(usize) -> f64) -> Vec<Sample> {
    let costs: Vec<f64> = sizes.iter().map(|(_, size)| cost(*size)).collect();
    let worst = costs.iter().copied().fold(0.0, f64::max);
    let ratio = Sample::new(format!("{name}.ratio"), "x", worst / costs[0]);
    let each = sizes
        .iter()
        .zip(&costs)
        .map(|((label, _), cost)| Sample::new(format!("{name}.{label}"), "us/job", *cost));
    each.chain([ratio]).collect()
}

/// A worker drains the backlog for a while. For each job that it removes, another one is added.
fn backlog(redis: &Redis, size: usize, window: Duration) -> f64 {
    let mut queue = Queue::default(redis);
    let mut added = queue.len();
    let mut keep_up = |queue: &mut Queue, time: Duration| {
        let start = Instant::now();
        loop {
            let missing = size.saturating_sub(queue.len());
            queue.add(missing, |_| job(NOOP));
            added += missing;
            if start.elapsed() >= time {
                return added - queue.len();
            }
            thread::sleep(Duration::from_millis(1));
        }
    };
    keep_up(&mut queue, Duration::ZERO);
    let workers = vec![Program::worker(redis, CONCURRENCY).start()];
    let before = keep_up(&mut queue, WARM_UP);
    let used = cpu_of(redis, &workers);
    let after = keep_up(&mut queue, window);
    let used = cpu_of(redis, &workers) - used;
    for worker in workers {
        worker.stop();
    }
    micros_per(used, after - before)
}

/// Jobs with a short delay pass through the scheduled set. It also holds `size` jobs that are due in
/// an hour.
fn beside_scheduled(redis: &Redis, size: usize, jobs: usize) -> f64 {
    let mut queue = Queue::default(redis);
    let due = now() + AN_HOUR;
    let missing = size - queue.scheduled();
    queue.schedule(missing, u64::try_from(due.as_millis()).unwrap());
    let workers = start(redis, 1, CONCURRENCY);
    let cost = feed(redis, &workers, jobs, size);
    for worker in workers {
        worker.stop();
    }
    cost
}

/// One worker runs `size` jobs that do not end. Another worker runs the measured jobs.
fn beside_running(redis: &Redis, size: usize, jobs: usize) -> f64 {
    redis.empty();
    let mut queue = Queue::default(redis);
    let _busy = start(redis, 1, size);
    queue.add(size, |_| with_payload(HANG, "0".to_owned()));
    queue.wait_for_pending(size);
    let others = start(redis, 1, CONCURRENCY);
    let used = cpu_of(redis, &others);
    queue.add(jobs, |_| job(NOOP));
    super::wait_for("the jobs' end", super::TIME_LIMIT, || {
        (queue.len() == size).then_some(())
    });
    micros_per(cpu_of(redis, &others) - used, jobs)
}

fn start(redis: &Redis, workers: usize, concurrency: usize) -> Vec<Process> {
    let start = |_| Program::worker(redis, concurrency).start();
    let processes = (0..workers).map(start).collect();
    Queue::default(redis).wait_for_workers(workers);
    processes
}

/// Adds jobs while the `workers` wait for jobs, and waits until all of them have run. When
/// `scheduled` other jobs are in the scheduled set, the added jobs have a delay.
fn feed(redis: &Redis, workers: &[Process], jobs: usize, scheduled: usize) -> f64 {
    let mut queue = Queue::default(redis);
    let used = cpu_of(redis, workers);
    let delay = match scheduled {
        0 => Duration::ZERO,
        _ => SCHEDULED_DELAY,
    };
    queue.add(jobs, |_| job(NOOP).delay(delay));
    queue.wait_until_settled(scheduled);
    micros_per(cpu_of(redis, workers) - used, jobs)
}

fn cpu_of(redis: &Redis, workers: &[Process]) -> Duration {
    let workers = workers.iter().map(|worker| cpu(worker.pid()));
    cpu(redis.pid()) + workers.sum::<Duration>()
}
