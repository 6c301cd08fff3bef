//! Measures how soon a job starts, and how late after its due time a delayed job starts.
//!
//! All times are of the wall clock, which this process, the worker and Redis share, because they
//! run on one host. A measured time ends when the handler begins. It starts right before the XADD
//! is written. For a delayed job it starts at the due time, which is the time in the entry id plus
//! the delay. Each run has its own percentiles. Before a run one job is sent to warm up.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use super::TIME_LIMIT;
use super::backlog::{self, Queue, job, with_payload};
use super::bench::{Bench, Sample};
use super::process::{Process, Program};
use super::program::{CLOCK, SLEEP_1_S, SLEEP_5_MS};
use super::redis::Redis;

const CONCURRENCY: usize = 10;
const PICKUPS: usize = 500;
const PICKUP_INTERVAL: Duration = Duration::from_millis(20);
const MIXED_PICKUPS: usize = 200;
const DELAYS: usize = 1000;
/// The shortest delay. All jobs are in the stream before it is over.
const MIN_DELAY_MS: u64 = 1000;
const DELAYS_SPREAD_MS: u64 = 10_000;

/// Measures jobs that come every 20 ms to an idle worker.
pub(crate) fn pickup(bench: &mut Bench) {
    let redis = Redis::start();
    let jobs = bench.size(PICKUPS);
    bench.group("pickup", bench.runs(), || {
        redis.empty();
        let mut watch = Watch::start(&redis, 1);
        let latencies = watch.pickups(jobs, |_, _| {});
        percentiles("pickup", latencies)
    });
}

/// Measures the same jobs beside slow ones. First a job of 1 s comes every 200 ms, and then five
/// jobs of 5 ms come every 20 ms. There are two workers, and three in four of their slots are free.
/// So a job that one of them fetches ahead must not wait.
pub(crate) fn mixed(bench: &mut Bench) {
    let redis = Redis::start();
    let jobs = bench.size(MIXED_PICKUPS);
    bench.group("mixed", bench.runs(), || {
        redis.empty();
        let mut watch = Watch::start(&redis, 2);
        let beside_1_s = watch.pickups(jobs, |queue, n| {
            if n % 10 == 0 {
                queue.add(1, |_| job(SLEEP_1_S));
            }
        });
        let beside_5_ms = watch.pickups(jobs, |queue, _| queue.add(5, |_| job(SLEEP_5_MS)));
        let mut samples = percentiles("mixed.beside_1s", beside_1_s);
        samples.extend(percentiles("mixed.beside_5ms", beside_5_ms));
        samples
    });
}

/// Measures 1,000 delayed jobs on one worker. The delays are spread evenly over 10 s, in random
/// order.
pub(crate) fn lateness(bench: &mut Bench) {
    let redis = Redis::start();
    let jobs = bench.size(DELAYS);
    let spread_ms = u64::try_from(bench.size(usize::try_from(DELAYS_SPREAD_MS).unwrap())).unwrap();
    bench.group("lateness", bench.runs(), || {
        redis.empty();
        let mut watch = Watch::start(&redis, 1);
        let step = spread_ms / u64::try_from(jobs).unwrap();
        let mut delays: Vec<u64> = (1..).map(|n| MIN_DELAY_MS + n * step).take(jobs).collect();
        fastrand::shuffle(&mut delays);
        let registered = watch.queue.add_timed(jobs, |n| {
            with_payload(CLOCK, n.to_string()).delay(Duration::from_millis(delays[n]))
        });
        let starts = watch.starts(jobs);
        let late_us = (0..jobs).map(|n| {
            let due_ms = registered[n] + delays[n];
            micros_between(due_ms * 1000, starts[&n])
        });
        let late_us: Vec<f64> = late_us.collect();
        let early = late_us.iter().filter(|late| **late < 0.0).count();
        let mut samples = percentiles("lateness", late_us);
        let early = f64::from(u32::try_from(early).unwrap());
        samples.push(Sample::new("lateness.early", "jobs", early));
        samples
    });
}

/// A queue and its workers. Each handler prints when it started.
struct Watch {
    queue: Queue,
    workers: Vec<(Process, Receiver<String>)>,
}

impl Watch {
    fn start(redis: &Redis, workers: usize) -> Self {
        let start = |_| Program::worker(redis, CONCURRENCY).start_reading();
        let mut watch = Self {
            queue: Queue::default(redis),
            workers: (0..workers).map(start).collect(),
        };
        watch.queue.wait_for_workers(workers);
        watch.queue.add(1, |_| with_payload(CLOCK, "0".to_owned()));
        watch.starts(1);
        watch
    }

    /// Adds a job every 20 ms, each after a call of `beside`. Returns how long each job waited for
    /// its start, in microseconds.
    fn pickups(&mut self, jobs: usize, mut beside: impl FnMut(&mut Queue, usize)) -> Vec<f64> {
        let start = Instant::now();
        let mut registered = Vec::with_capacity(jobs);
        for n in (0..).take(jobs) {
            let at = PICKUP_INTERVAL * n;
            thread::sleep(at.saturating_sub(start.elapsed()));
            let n = registered.len();
            beside(&mut self.queue, n);
            let job = with_payload(CLOCK, n.to_string());
            registered.push(backlog::now());
            self.queue.add(1, |_| job.clone());
        }
        let starts = self.starts(jobs);
        let latency = |(n, registered): (usize, &Duration)| {
            let registered = u64::try_from(registered.as_micros()).unwrap();
            micros_between(registered, starts[&n])
        };
        registered.iter().enumerate().map(latency).collect()
    }

    /// Waits until the last `jobs` jobs have started. Returns the start of each, in microseconds
    /// since the epoch.
    fn starts(&self, jobs: usize) -> HashMap<usize, u64> {
        let mut starts = HashMap::with_capacity(jobs);
        super::wait_for("the jobs' starts", TIME_LIMIT, || {
            for (_, lines) in &self.workers {
                starts.extend(lines.try_iter().map(|line| parse(&line)));
            }
            (starts.len() == jobs).then_some(())
        });
        starts
    }
}

/// Reads a line of a handler: the job's number and the time of its start.
fn parse(line: &str) -> (usize, u64) {
    let (n, micros) = line.split_once(' ').unwrap();
    (n.parse().unwrap(), micros.parse().unwrap())
}

#[allow(
    clippy::cast_precision_loss,
    reason = "minutes in microseconds are far below 2^52"
)]
fn micros_between(from: u64, to: u64) -> f64 {
    to.cast_signed().wrapping_sub(from.cast_signed()) as f64
}

/// Percentiles by the nearest rank. For example, p99 of 500 values is the 495th.
fn percentiles(name: &str, mut micros: Vec<f64>) -> Vec<Sample> {
    micros.sort_by(f64::total_cmp);
    let at = |percent: usize| micros[(micros.len() * percent).div_ceil(100).max(1) - 1];
    [("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)]
        .map(|(label, percent)| {
            let name = format!("{name}.{label}_ms");
            Sample::new(name, "ms", at(percent) / 1000.0)
        })
        .into()
}
