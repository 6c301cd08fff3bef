//! Measures what one job costs on each way through the queue, in CPU time, commands and bytes:
//!
//! - `path.direct`: a job that does nothing. The others stand beside it;
//! - `path.delay`: the same with a delay of half a second. Beside it stands what the bare commands
//!   of that way cost Redis;
//! - `path.retry`: its first attempt fails, and it comes back after half a second;
//! - `path.dead`: its first attempt makes it a dead letter.
//!
//! All jobs of a measurement are added to an idle worker at once. The cost includes their XADDs.

use std::time::Duration;

use super::backlog::{Queue, job};
use super::bench::{Bench, Sample};
use super::limit_delayed;
use super::process::Program;
use super::program::{FAIL_ONCE, MALFORMED, NOOP};
use super::redis::Redis;
use super::usage::{Usage, wait_for_end};

const CONCURRENCY: usize = 100;
const MAX_RUNS: usize = 3;
const JOBS: usize = 50_000;
const PAUSE: Duration = Duration::from_millis(500);

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let redis = Redis::start();
    let runs = bench.runs().min(MAX_RUNS);
    let jobs = bench.size(JOBS);
    for (name, job_type, delay) in [
        ("path.direct", NOOP, Duration::ZERO),
        ("path.delay", NOOP, PAUSE),
        ("path.retry", FAIL_ONCE, Duration::ZERO),
        ("path.dead", MALFORMED, Duration::ZERO),
    ] {
        if bench.wants(name) {
            bench.group(name, runs, || {
                let mut samples = cost(&redis, name, job_type, delay, jobs);
                if !delay.is_zero() {
                    let bare = limit_delayed::redis_us(&redis, jobs);
                    samples.push(Sample::new(format!("{name}.bare_redis_us"), "us/job", bare));
                }
                samples
            });
        }
    }
}

fn cost(redis: &Redis, name: &str, job_type: &str, delay: Duration, jobs: usize) -> Vec<Sample> {
    redis.empty();
    let pause = format!("{}ms", PAUSE.as_millis());
    let program = Program::worker(redis, CONCURRENCY)
        .env("APP__JOBQUEUE__RETRY__INITIAL", &pause)
        .env("RUST_LOG", "off");
    let workers = [program.start()];
    let mut queue = Queue::default(redis);
    queue.wait_for_workers(1);
    let before = Usage::so_far(redis, &workers);
    queue.add(jobs, |_| job(job_type).delay(delay));
    wait_for_end(&mut queue);
    let used = Usage::since(&before, redis, &workers);
    let letters = if job_type == MALFORMED { jobs } else { 0 };
    assert_eq!(queue.dead(), letters, "dead letters");
    used.per_job(name, jobs)
}
