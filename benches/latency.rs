//! How soon a job starts, and how close to its time.
//!
//! All times are of the wall clock, which this process, the worker and a Redis on the
//! same host share: from right before the XADD is written (for a delay: from the due
//! time, which is the entry id's own plus the delay) to the first line of the handler.
//! Each run takes new percentiles; a job is sent ahead of it to warm up.

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
/// The shortest delay; registering all of them is over by then.
const MIN_DELAY_MS: u64 = 1000;
const DELAYS_SPREAD_MS: u64 = 10_000;

/// A job every 20 ms on an idle worker.
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

/// The same beside jobs of 1 s, one every 200 ms, and beside jobs of 5 ms, five every 20 ms,
/// with two workers that have three slots in four free: what one of them fetches ahead
/// may not wait while there are.
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

/// 1,000 delays spread evenly over 10 s, in random order, on one worker.
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

/// Workers whose handlers tell when they started.
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

    /// Registers a job every 20 ms, each after what `beside` does with the queue, and
    /// answers how long after that they started, in microseconds.
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

    /// When the jobs that were registered last started, in microseconds since the epoch.
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

/// The number of a job and the time of its start.
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

/// By the nearest rank: p99 of 500 is the 495th.
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
