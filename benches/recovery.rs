//! Measures how soon jobs run again after a fault, with the default settings.
//!
//! `recovery.kill_s`: SIGKILL kills a worker while its handler runs. The figure is the time from
//! the kill to the job's start on another worker, which is idle. It is the lease of 15 s and some
//! more. All runs go at the same time, each on its own queue, because nearly all of the time is
//! waiting.
//!
//! `recovery.redis_s`: Redis is away for three seconds and comes back empty. A job is appended at
//! its first answer. The figure is the time from that answer to the job's start.

use std::panic::resume_unwind;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use super::TIME_LIMIT;
use super::backlog::{Queue, with_payload};
use super::bench::{Bench, Sample};
use super::process::{Process, Program};
use super::program::{CLOCK, HANG};
use super::redis::Redis;

const CONCURRENCY: usize = 10;
const OUTAGE: Duration = Duration::from_secs(3);

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let runs = bench.runs();
    if bench.wants("recovery.kill_s") {
        let redis = Redis::start();
        bench.group("recovery.kill_s", 1, || {
            let times = thread::scope(|scope| {
                let one = |n| {
                    let redis = &redis;
                    scope.spawn(move || kill(redis, &format!("bench{n}")))
                };
                let all: Vec<_> = (0..runs).map(one).collect();
                let times = all
                    .into_iter()
                    .map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic)));
                times.collect::<Vec<Duration>>()
            });
            let sample = |time| seconds("recovery.kill_s", time);
            times.into_iter().map(sample).collect()
        });
    }
    if bench.wants("recovery.redis_s") {
        bench.group("recovery.redis_s", runs, || {
            vec![seconds("recovery.redis_s", outage())]
        });
    }
}

fn seconds(name: &str, time: Duration) -> Sample {
    Sample::new(name, "s", time.as_secs_f64())
}

fn kill(redis: &Redis, queue: &str) -> Duration {
    let worker = || {
        let program = Program::worker(redis, CONCURRENCY);
        program.env("APP__JOBQUEUE__QUEUE", queue).start_reading()
    };
    let (mut victim, victims_lines) = worker();
    let mut queue = Queue::named(redis, queue);
    queue.add(1, |_| with_payload(HANG, "0".to_owned()));
    first_line(&victims_lines);
    // This one is not waited for. It is ready long before the victim's lease is over.
    let (_other, others_lines) = worker();
    let killed = Instant::now();
    victim.kill();
    first_line(&others_lines);
    killed.elapsed()
}

fn outage() -> Duration {
    let mut redis = Redis::start();
    let (_worker, lines) = start(&redis);
    redis.kill();
    thread::sleep(OUTAGE);
    let back = redis.up();
    Queue::default(&redis).add(1, |_| with_payload(CLOCK, "1".to_owned()));
    first_line(&lines);
    back.elapsed()
}

/// Starts a worker, and waits until it has run a job.
fn start(redis: &Redis) -> (Process, Receiver<String>) {
    let (worker, lines) = Program::worker(redis, CONCURRENCY).start_reading();
    Queue::default(redis).add(1, |_| with_payload(CLOCK, "0".to_owned()));
    first_line(&lines);
    (worker, lines)
}

/// Waits for the first line, which the handler prints when it starts.
fn first_line(lines: &Receiver<String>) {
    lines.recv_timeout(TIME_LIMIT).expect("the job starts");
}
