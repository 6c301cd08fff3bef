//! Measures how fast a worker drains a backlog of 200,000 jobs that wait in the stream:
//!
//! - with a no-op handler, at several concurrencies;
//! - with the real program, whose lines go to /dev/null;
//! - with slow jobs among them. Every tenth job takes 5 ms, or every two thousandth takes 1 s. The
//!   slow jobs need fewer slots than there are, so the other jobs must not wait for them, even
//!   when the worker fetches ahead.
//!
//! It also measures delayed jobs that are all due at once, beside the same with bare commands, and
//! drains on another server program.
//!
//! The measured time runs from the end of the first job to the end of the last one. So it does not
//! include the start of the process, and there is no other warm-up. When all other jobs are done,
//! the measurement does not wait for the jobs of 1 s that still run. A measurement ends after ten
//! seconds, and then counts the jobs that were done by then. The limit that it is compared with is
//! the bare drain from two connections.

use std::thread;
use std::time::{Duration, Instant};

use dm_jobqueue::program::JOB_TYPE_DELAY_PRINT;

use super::backlog::{self, Queue, job};
use super::bench::{Bench, Subject};
use super::limit::{self, JOBS_PER_S, Settling, rate};
use super::limit_delayed;
use super::process::{Process, Program};
use super::program::{CLOCK, NOOP, SLEEP_1_S, SLEEP_5_MS};
use super::redis::Redis;
use super::{TIME_LIMIT, wait_for};

/// The variable with the path of another redis-server or valkey-server.
const OTHER_SERVER: &str = "BENCH_REDIS_SERVER";
const JOBS: usize = 200_000;
const DELAYED_JOBS: usize = 100_000;
const EVERY_5_MS: usize = 10;
const EVERY_1_S: usize = 2000;
/// The delayed jobs are due so long after the measurement begins to fill the set.
const DELAYED_LEAD: Duration = Duration::from_secs(3);
/// The longest time of a measurement.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two looks at the queue. A look costs one XLEN.
const LOOK: Duration = Duration::from_millis(4);

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let redis = Redis::start();
    let jobs = bench.size(JOBS);
    bench.repeat(Subject::new("limit.drain.1conn", JOBS_PER_S, || {
        limit::drain(&redis, jobs, 1, Settling::XackAndXdel)
    }));
    let drain = Drain {
        redis: &redis,
        jobs,
    };
    let mut subjects = Vec::new();
    for workers in [1, 2] {
        for concurrency in [1, 10, 100] {
            let name = format!("drain.noop.c{concurrency}.w{workers}");
            subjects.push(Subject::new(name, JOBS_PER_S, move || {
                drain.noop(concurrency, workers)
            }));
        }
    }
    let subject = |name, measure: fn(Drain<'_>) -> f64| {
        Subject::new(name, JOBS_PER_S, move || measure(drain))
    };
    subjects.push(subject("drain.print.c100.w1", |drain| drain.print(100)));
    subjects.push(subject("drain.mixed.5ms.c100.w1", |drain| {
        drain.mixed(SLEEP_5_MS, EVERY_5_MS)
    }));
    subjects.push(subject("drain.mixed.1s.c100.w1", |drain| {
        drain.mixed(SLEEP_1_S, EVERY_1_S)
    }));
    let delayed = bench.size(DELAYED_JOBS);
    subjects.push(Subject::new("delayed.due_at_once", JOBS_PER_S, || {
        due_at_once(&redis, delayed)
    }));
    subjects.push(Subject::new("delayed.bare_commands", JOBS_PER_S, || {
        limit_delayed::due_at_once(&redis, delayed)
    }));
    let limit = || limit::drain(&redis, jobs, 2, Settling::XackAndXdel);
    bench.compare(
        Subject::new("limit.drain.2conn", JOBS_PER_S, limit),
        subjects,
    );
}

/// Measures drains on the server program that [`OTHER_SERVER`] names, beside the bare drain on it.
/// The names of the figures have its version.
pub(crate) fn other_server(bench: &mut Bench) {
    let Some(program) = std::env::var_os(OTHER_SERVER) else {
        return;
    };
    let redis = Redis::start_program(program);
    let version = redis.name_and_version();
    let drain = Drain {
        redis: &redis,
        jobs: bench.size(JOBS),
    };
    let mut subjects = Vec::new();
    for concurrency in [10, 100] {
        let name = format!("drain.server.{version}.noop.c{concurrency}");
        subjects.push(Subject::new(name, JOBS_PER_S, move || {
            drain.noop(concurrency, 1)
        }));
    }
    let name = format!("drain.server.{version}.print.c100");
    subjects.push(Subject::new(name, JOBS_PER_S, || drain.print(100)));
    if redis.knows("XACKDEL") {
        let name = format!("drain.server.{version}.bare_xackdel");
        subjects.push(Subject::new(name, JOBS_PER_S, || {
            limit::drain(&redis, drain.jobs, 2, Settling::Xackdel)
        }));
    }
    let name = format!("limit.drain.server.{version}");
    let limit = || limit::drain(&redis, drain.jobs, 2, Settling::XackAndXdel);
    bench.compare(Subject::new(name, JOBS_PER_S, limit), subjects);
}

/// A backlog of `jobs` jobs.
#[derive(Clone, Copy)]
struct Drain<'a> {
    redis: &'a Redis,
    jobs: usize,
}

impl Drain<'_> {
    fn noop(self, concurrency: usize, workers: usize) -> f64 {
        let mut queue = self.fill(|_| NOOP);
        let start = |_| Program::worker(self.redis, concurrency).start();
        let _workers: Vec<Process> = (0..workers).map(start).collect();
        rate_until(&mut queue, self.jobs, 0, DRAIN_LIMIT)
    }

    fn print(self, concurrency: usize) -> f64 {
        let mut queue = self.fill(|_| JOB_TYPE_DELAY_PRINT);
        let _worker = Program::jobqueue(self.redis, concurrency).start();
        rate_until(&mut queue, self.jobs, 0, DRAIN_LIMIT)
    }

    fn mixed(self, slow: &'static str, every: usize) -> f64 {
        let mut queue = self.fill(|n| if n % every == 0 { slow } else { NOOP });
        let _worker = Program::worker(self.redis, 100).start();
        let rest = if slow == SLEEP_1_S {
            self.jobs / every
        } else {
            0
        };
        rate_until(&mut queue, self.jobs, rest, DRAIN_LIMIT)
    }

    fn fill(self, job_type: impl Fn(usize) -> &'static str) -> Queue {
        self.redis.empty();
        let mut queue = Queue::default(self.redis);
        queue.add(self.jobs, |n| job(job_type(n)));
        queue
    }
}

/// The jobs a second, measured from the end of the first of `jobs` until `rest` are left or `limit`
/// is over.
pub(crate) fn rate_until(queue: &mut Queue, jobs: usize, rest: usize, limit: Duration) -> f64 {
    let seen = wait_for("the first job's end", TIME_LIMIT, || {
        Some(queue.len()).filter(|len| *len < jobs)
    });
    let start = Instant::now();
    assert!(seen > rest, "too few jobs to see them go");
    loop {
        let left = queue.len();
        if left <= rest || start.elapsed() > limit {
            return rate(seen - left, start);
        }
        thread::sleep(LOOK);
    }
}

/// Puts jobs with the same due time directly into the set. One more job is due a moment earlier and
/// comes through the stream. The worker parks it, and so it knows when to look at the set.
fn due_at_once(redis: &Redis, jobs: usize) -> f64 {
    redis.empty();
    let _worker = Program::worker(redis, 100).start();
    let mut queue = Queue::default(redis);
    queue.wait_for_workers(1);
    let due = backlog::now() + DELAYED_LEAD;
    let due_ms = u64::try_from(due.as_millis()).unwrap();
    queue.schedule(jobs, due_ms);
    let left = due.saturating_sub(backlog::now());
    let left = left.saturating_sub(Duration::from_millis(10));
    assert!(!left.is_zero(), "filling the set took too long");
    let first = backlog::with_payload(CLOCK, "0".to_owned()).delay(left);
    queue.add(1, |_| first.clone());
    thread::sleep(due.saturating_sub(backlog::now()));
    let start = Instant::now();
    queue.wait_until_settled(0);
    rate(jobs, start)
}
