//! Runs a mixed load for ten minutes and measures how much memory the programs have in RAM before
//! and after. `BENCH_SOAK_SECONDS` is another number of seconds. The soak runs only when it is named:
//! `cargo bench -- soak`.
//!
//! Each second brings 32 new connections to the server, which register jobs that print for 50 ms;
//! and 2,000 jobs that do nothing, 200 that take 5 ms, 200 with a delay of a second, 100 that fail
//! once, and one dead letter. The first look is when a twentieth of the time is over, since the
//! programs get their working memory only then. The last look is when all jobs are done.

use std::thread;
use std::time::{Duration, Instant};

use super::backlog::{Queue, job};
use super::bench::{Bench, Sample};
use super::http;
use super::process::{Process, Program, rss_mib};
use super::program::{FAIL_ONCE, MALFORMED, NOOP, SLEEP_5_MS};
use super::redis::{Redis, free_port};
use super::usage::wait_for_end;

const VARIABLE: &str = "BENCH_SOAK_SECONDS";
const SECONDS: u32 = 600;
const CONCURRENCY: usize = 10;
const REGISTERING: Duration = Duration::from_millis(50);

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    if !bench.names("soak") {
        return;
    }
    let seconds = std::env::var(VARIABLE).map(|text| text.parse().expect(VARIABLE));
    let seconds = seconds.unwrap_or(SECONDS);
    bench.group("soak", 1, || soak(Duration::from_secs(1) * seconds));
}

fn soak(time: Duration) -> Vec<Sample> {
    let redis = Redis::start();
    let port = free_port();
    let server = Program::server(&redis, port).start_serving(port);
    http::wait_until_ready(port);
    let worker: Process = Program::worker(&redis, CONCURRENCY)
        .env("RUST_LOG", "off")
        .start();
    let mut queue = Queue::default(&redis);
    queue.wait_for_workers(1);
    let programs = [
        ("worker", worker.pid()),
        ("server", server.pid()),
        ("redis", redis.pid()),
    ];
    let memory = || programs.map(|(_, pid)| rss_mib(pid));
    let warm = load(&mut queue, port, time / 20);
    let before = memory();
    let jobs = warm + load(&mut queue, port, time - time / 20);
    wait_for_end(&mut queue);
    let after = memory();
    let mut samples = vec![Sample::new("soak.jobs", "jobs", jobs)];
    for (n, (program, _)) in programs.into_iter().enumerate() {
        let mib = |what: &str, value| Sample::new(format!("soak.{program}.{what}"), "MiB", value);
        samples.push(mib("rss_before_mib", before[n]));
        samples.push(mib("rss_after_mib", after[n]));
    }
    samples
}

/// Makes the load for `time`, second by second. Returns how many jobs it made.
fn load(queue: &mut Queue, port: u16, time: Duration) -> f64 {
    const SECOND: Duration = Duration::from_secs(1);
    let start = Instant::now();
    let mut jobs = 0;
    let mut seconds = 0;
    while start.elapsed() < time {
        jobs += http::load(port, REGISTERING).requests;
        for (count, job_type, delay) in [
            (2000, NOOP, Duration::ZERO),
            (200, SLEEP_5_MS, Duration::ZERO),
            (200, NOOP, SECOND),
            (100, FAIL_ONCE, Duration::ZERO),
            (1, MALFORMED, Duration::ZERO),
        ] {
            queue.add(count, |_| job(job_type).delay(delay));
            jobs += count;
        }
        seconds += 1;
        thread::sleep((SECOND * seconds).saturating_sub(start.elapsed()));
    }
    f64::from(u32::try_from(jobs).unwrap())
}
