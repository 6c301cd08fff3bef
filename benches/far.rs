//! Measures programs whose Redis is a round trip away, behind the proxy of `proxy.rs`.
//!
//! - `far.drain`: a worker drains a backlog of jobs that do nothing, that all take 5 ms, or of which
//!   every tenth takes 5 ms. A measurement is made for about two seconds, and ends after five.
//! - `far.ahead`: jobs that do nothing, with other values of `jobqueue.ahead` than the default. Where it
//!   is 0, nothing is fetched ahead: a slot waits for a round trip until its job is acknowledged, and
//!   for up to another one to get the next job.
//! - `far.proxy`: what the proxy added to a PING before these measurements, how late it was during
//!   them, and how much CPU it took.
//!
//! A drain is compared with the physical limit. That is the rate at 0 ms, which is measured right
//! before through the same proxy, or less: at most `ahead` jobs and one for each slot are on their
//! way in one round trip, and no slot runs two jobs at once.

use std::time::{Duration, Instant};

use super::backlog::{Queue, job};
use super::bench::{Bench, Sample};
use super::drain::rate_until;
use super::limit::JOBS_PER_S;
use super::process::Program;
use super::program::{NOOP, SLEEP_5_MS};
use super::proxy::Proxy;
use super::redis::Redis;

/// The name of the physical limit in the report.
pub(crate) const PHYSICAL_LIMIT: &str = "the physical limit";
/// The first one is the base of the others.
const ROUND_TRIPS: [(&str, Duration); 6] = [
    ("rtt0", Duration::ZERO),
    ("rtt0.5", Duration::from_micros(500)),
    ("rtt1", Duration::from_millis(1)),
    ("rtt2.5", Duration::from_micros(2500)),
    ("rtt5", Duration::from_millis(5)),
    ("rtt20", Duration::from_millis(20)),
];
const CONCURRENCIES: [usize; 2] = [10, 100];
/// The default of `jobqueue.ahead`.
const AHEAD: u32 = 512;
/// The backlog is large enough for this time at the limit.
const TIME_MS: usize = 2000;
const TIME_LIMIT_MS: usize = 5000;
/// The backlog at 0 ms is for this rate.
const EXPECTED_RATE: f64 = 200_000.0;

/// One kind of backlog.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Every so many jobs take 5 ms, and the others take none.
    slow_every: Option<usize>,
    /// The mean time of a job in its slot.
    seconds_in_slot: f64,
    /// The worker's `jobqueue.ahead`.
    ahead: u32,
}

const KINDS: [Kind; 6] = [
    Kind::noop("drain.noop", AHEAD),
    Kind::noop("ahead.0", 0),
    Kind::noop("ahead.16", 16),
    Kind::noop("ahead.128", 128),
    Kind {
        name: "drain.5ms",
        slow_every: Some(1),
        seconds_in_slot: 0.005,
        ahead: AHEAD,
    },
    Kind {
        name: "drain.mixed",
        slow_every: Some(10),
        seconds_in_slot: 0.0005,
        ahead: AHEAD,
    },
];

impl Kind {
    const fn noop(name: &'static str, ahead: u32) -> Self {
        Self {
            name,
            slow_every: None,
            seconds_in_slot: 0.0,
            ahead,
        }
    }
}

/// Measures the figures that the command line asks for.
pub(crate) fn run(bench: &mut Bench) {
    let redis = Redis::start();
    let drain = Drain {
        redis: &redis,
        seconds: seconds(bench.size(TIME_MS)),
        limit: Duration::from_secs_f64(seconds(bench.size(TIME_LIMIT_MS))),
    };
    for kind in KINDS {
        for concurrency in CONCURRENCIES {
            let name = format!("far.{}.c{concurrency}", kind.name);
            if bench.wants(&name) {
                let wanted = ROUND_TRIPS.map(|(label, _)| bench.wants(&format!("{name}.{label}")));
                bench.group(&name, bench.runs(), || {
                    drain.at_all(&name, kind, concurrency, wanted)
                });
            }
        }
    }
}

pub(crate) fn seconds(millis: usize) -> f64 {
    f64::from(u32::try_from(millis).unwrap()) / 1000.0
}

/// How long the drains are measured, and on which Redis.
#[derive(Clone, Copy)]
struct Drain<'a> {
    redis: &'a Redis,
    seconds: f64,
    limit: Duration,
}

impl Drain<'_> {
    /// Drains at the wanted round trips, and before them at 0 ms.
    fn at_all(
        self,
        name: &str,
        kind: Kind,
        concurrency: usize,
        wanted: [bool; ROUND_TRIPS.len()],
    ) -> Vec<Sample> {
        let (mut samples, mut told) = (Vec::new(), Vec::new());
        let mut rate_at_0 = EXPECTED_RATE;
        for (n, (label, round_trip)) in ROUND_TRIPS.into_iter().enumerate() {
            if n > 0 && !wanted[n] {
                continue;
            }
            let limit = physical_limit(rate_at_0, kind, concurrency, round_trip);
            let proxy = Proxy::start(self.redis, round_trip);
            let rate = self.rate(&proxy, kind, concurrency, limit);
            let sample = Sample::new(format!("{name}.{label}"), JOBS_PER_S, rate.jobs_per_s);
            if n == 0 {
                rate_at_0 = rate.jobs_per_s;
                samples.push(sample);
            } else {
                samples.push(sample.of(PHYSICAL_LIMIT, limit));
            }
            told.extend(tell(label, &proxy, rate.proxy_percent));
        }
        samples.extend(told);
        samples
    }

    fn rate(self, proxy: &Proxy, kind: Kind, concurrency: usize, limit: f64) -> Rate {
        self.redis.empty();
        let mut queue = Queue::default(self.redis);
        let jobs = count(limit * self.seconds);
        queue.add(jobs, |n| match kind.slow_every {
            Some(every) if n % every == 0 => job(SLEEP_5_MS),
            _ => job(NOOP),
        });
        let (start, before) = (Instant::now(), proxy.cpu());
        let _worker = Program::worker(self.redis, concurrency)
            .env("APP__JOBQUEUE__AHEAD", &kind.ahead.to_string())
            .through(proxy)
            .start();
        let jobs_per_s = rate_until(&mut queue, jobs, 0, self.limit);
        let used = proxy.cpu() - before;
        Rate {
            jobs_per_s,
            proxy_percent: used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0,
        }
    }
}

struct Rate {
    jobs_per_s: f64,
    proxy_percent: f64,
}

fn physical_limit(rate_at_0: f64, kind: Kind, concurrency: usize, round_trip: Duration) -> f64 {
    let slots = f64::from(u32::try_from(concurrency).unwrap());
    let on_the_way = (slots + f64::from(kind.ahead)) / round_trip.as_secs_f64();
    rate_at_0.min(on_the_way).min(slots / kind.seconds_in_slot)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "less than a million"
)]
pub(crate) fn count(jobs: f64) -> usize {
    jobs as usize
}

fn tell(label: &str, proxy: &Proxy, percent: f64) -> Vec<Sample> {
    let (added, late) = (proxy.added(), proxy.take_late());
    let ms = |what: &str, time: Duration| {
        let name = format!("far.proxy.{label}.{what}");
        Sample::new(name, "ms", time.as_secs_f64() * 1000.0)
    };
    vec![
        ms("added_p50_ms", added.p50),
        ms("added_p99_ms", added.p99),
        ms("late_p50_ms", late.p50),
        ms("late_p99_ms", late.p99),
        Sample::new(
            format!("far.proxy.{label}.cpu_percent"),
            "% of a core",
            percent,
        ),
    ]
}
