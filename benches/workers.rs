//! Measures what a job costs Redis when several workers share a queue.
//!
//! - `workers.idle`: the workers wait for jobs that do not come. What they all cost together.
//! - `workers.trickle`: 200 jobs come each second, one at a time, for some seconds.
//! - `workers.backlog`: 100,000 jobs wait in the stream when the workers start. The cost includes
//!   the start.
//!
//! The jobs do nothing. The cost of a trickle's job includes its XADD. Commands are counted with
//! those that scripts call, other than in `cost.rs`.

use std::thread;
use std::time::{Duration, Instant};

use super::backlog::{Queue, job};
use super::bench::{Bench, Sample};
use super::process::{Process, Program};
use super::program::NOOP;
use super::redis::Redis;
use super::usage::{Usage, number, wait_for_end};

const WORKERS: [usize; 6] = [1, 2, 4, 8, 16, 32];
const CONCURRENCY: usize = 10;
const MAX_RUNS: usize = 3;
const IDLE_MS: usize = 3000;
/// What a worker does after its start is over by then.
const SETTLE_MS: usize = 1000;
const TRICKLE_JOBS: usize = 1000;
const TRICKLE_INTERVAL: Duration = Duration::from_millis(5);
const BACKLOG_JOBS: usize = 100_000;

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let redis = Redis::start();
    let runs = bench.runs().min(MAX_RUNS);
    let millis = |full| Duration::from_millis(u64::try_from(bench.size(full)).unwrap());
    let (settle, idle_time) = (millis(SETTLE_MS), millis(IDLE_MS));
    let (trickle_jobs, backlog_jobs) = (bench.size(TRICKLE_JOBS), bench.size(BACKLOG_JOBS));
    for count in WORKERS {
        let idle_name = format!("workers.idle.w{count}");
        let trickle_name = format!("workers.trickle.w{count}");
        if bench.wants(&idle_name) || bench.wants(&trickle_name) {
            bench.group(&trickle_name, runs, || {
                redis.empty();
                let workers = start(&redis, count);
                Queue::default(&redis).wait_for_workers(count);
                thread::sleep(settle);
                let mut samples = idle(&redis, &workers, &idle_name, idle_time);
                samples.extend(trickle(&redis, &workers, &trickle_name, trickle_jobs));
                samples
            });
        }
    }
    for count in WORKERS {
        let name = format!("workers.backlog.w{count}");
        if bench.wants(&name) {
            bench.group(&name, runs, || backlog(&redis, count, &name, backlog_jobs));
        }
    }
}

fn start(redis: &Redis, count: usize) -> Vec<Process> {
    let start = |_| Program::worker(redis, CONCURRENCY).start();
    (0..count).map(start).collect()
}

fn idle(redis: &Redis, workers: &[Process], name: &str, time: Duration) -> Vec<Sample> {
    let (start, before) = (Instant::now(), Usage::so_far(redis, workers));
    thread::sleep(time);
    let used = Usage::since(&before, redis, workers);
    let seconds = start.elapsed().as_secs_f64();
    let percent = |what: &str, time: Duration| {
        let percent = time.as_secs_f64() / seconds * 100.0;
        Sample::new(format!("{name}.{what}"), "% of a core", percent)
    };
    let commands = number(used.commands) / seconds;
    vec![
        percent("redis_percent", used.redis_cpu),
        percent("workers_percent", used.workers_cpu),
        Sample::new(format!("{name}.commands_per_s"), "1/s", commands),
    ]
}

fn trickle(redis: &Redis, workers: &[Process], name: &str, jobs: usize) -> Vec<Sample> {
    let mut queue = Queue::default(redis);
    let (start, before) = (Instant::now(), Usage::so_far(redis, workers));
    for n in (0..).take(jobs) {
        let at = TRICKLE_INTERVAL * n;
        thread::sleep(at.saturating_sub(start.elapsed()));
        queue.add(1, |_| job(NOOP));
    }
    wait_for_end(&mut queue);
    Usage::since(&before, redis, workers).per_job(name, jobs)
}

fn backlog(redis: &Redis, count: usize, name: &str, jobs: usize) -> Vec<Sample> {
    redis.empty();
    let mut queue = Queue::default(redis);
    queue.add(jobs, |_| job(NOOP));
    let before = Usage::so_far(redis, &[]);
    let workers = start(redis, count);
    wait_for_end(&mut queue);
    Usage::since(&before, redis, &workers).per_job(name, jobs)
}
