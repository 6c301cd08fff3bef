//! Measures producers whose Redis is a round trip away, behind the proxy of `proxy.rs`.
//!
//! - `far.enqueue.one`: one task calls the client again and again. The limit is a bare loop of one
//!   XADD at a time through the same proxy.
//! - `far.enqueue.50tasks`: 50 tasks share a client.
//! - `far.http`: POST of a job on 32 connections to the server. The proxy is between the server and
//!   Redis.
//!
//! The last two are compared with the physical limit: the rate at 0 ms through a proxy, which is
//! measured right before, or what all callers can do at one call a round trip, if that is less.

use std::time::Duration;

use super::bench::{Bench, Sample};
use super::enqueue::{MANY_TASKS, Producer};
use super::far::{PHYSICAL_LIMIT, count, seconds};
use super::http::{self, CONNECTIONS};
use super::limit::{self, JOBS_PER_S};
use super::process::Program;
use super::proxy::Proxy;
use super::redis::{Redis, free_port};

const ROUND_TRIPS: [(&str, Duration); 2] = [
    ("rtt1", Duration::from_millis(1)),
    ("rtt5", Duration::from_millis(5)),
];
const TIME_MS: usize = 2000;
/// The number of jobs at 0 ms is for this rate.
const EXPECTED_RATE: f64 = 100_000.0;

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let redis = Redis::start();
    let runs = bench.runs();
    let seconds = seconds(bench.size(TIME_MS));
    for (label, round_trip) in ROUND_TRIPS {
        let mut group = |name: &str, measure: &dyn Fn(&str) -> Sample| {
            let name = format!("{name}.{label}");
            if bench.wants(&name) {
                bench.group(&name, runs, || vec![measure(&name)]);
            }
        };
        group("far.enqueue.one", &|name| {
            one_task(&redis, name, round_trip, seconds)
        });
        group("far.enqueue.50tasks", &|name| {
            against_0_ms(&redis, name, round_trip, MANY_TASKS, |proxy, limit| {
                let producer = Producer::new(&redis, proxy.addr());
                producer.enqueue(count(limit * seconds), MANY_TASKS)
            })
        });
        group("far.http", &|name| {
            against_0_ms(&redis, name, round_trip, CONNECTIONS, |proxy, _| {
                let port = free_port();
                let server = Program::server(&redis, port).through(proxy);
                http::register(&redis, server, port, Duration::from_secs_f64(seconds))
            })
        });
    }
}

fn one_task(redis: &Redis, name: &str, round_trip: Duration, seconds: f64) -> Sample {
    let proxy = Proxy::start(redis, round_trip);
    let jobs = count(seconds / round_trip.as_secs_f64());
    let bare = limit::xadd_one_by_one(redis, &proxy.addr(), jobs);
    let jobs_per_s = Producer::new(redis, proxy.addr()).enqueue(jobs, 1);
    Sample::new(name, JOBS_PER_S, jobs_per_s).of("a bare loop of XADD", bare)
}

/// Measures `callers` callers at 0 ms and then at `round_trip`. `measure` gets the proxy and the
/// limit of the jobs a second.
fn against_0_ms(
    redis: &Redis,
    name: &str,
    round_trip: Duration,
    callers: usize,
    measure: impl Fn(&Proxy, f64) -> f64,
) -> Sample {
    let rate_at_0 = measure(&Proxy::start(redis, Duration::ZERO), EXPECTED_RATE);
    let callers = f64::from(u32::try_from(callers).unwrap());
    let limit = rate_at_0.min(callers / round_trip.as_secs_f64());
    let jobs_per_s = measure(&Proxy::start(redis, round_trip), limit);
    Sample::new(name, JOBS_PER_S, jobs_per_s).of(PHYSICAL_LIMIT, limit)
}
