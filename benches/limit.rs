//! What Redis itself can do: bare loops over raw connections, which a queue on it can
//! approach and not pass.
//!
//! The jobs are those of the subjects, byte for byte in kind. Before the time runs, a
//! twentieth of the work is done to warm up.

use std::thread;
use std::time::Instant;

use super::backlog::{Queue, job};
use super::program::NOOP;
use super::redis::Redis;

pub(crate) const JOBS_PER_S: &str = "jobs/s";
/// XADDs in one write, whose replies are read before the next.
const XADD_PIPELINE: usize = 64;
/// How many entries one XREADGROUP asks for.
const READ_COUNT: &[u8] = b"100";

/// XADD from one connection, pipelined.
pub(crate) fn xadd(redis: &Redis, jobs: usize) -> f64 {
    redis.empty();
    let mut conn = redis.open();
    // Made beforehand: what a producer needs to make a job is not Redis' limit.
    let json = job(NOOP).to_json();
    let mut add = |count: usize| {
        for _ in 0..count.div_ceil(XADD_PIPELINE) {
            for _ in 0..XADD_PIPELINE {
                conn.push(&[b"XADD", b"limit", b"*", b"job", &json]);
            }
            conn.flush();
            for _ in 0..XADD_PIPELINE {
                conn.skip();
            }
        }
    };
    add(jobs / 20);
    let start = Instant::now();
    add(jobs);
    rate(jobs.next_multiple_of(XADD_PIPELINE), start)
}

/// XREADGROUP COUNT 100, then one XACK and one XDEL of the batch in one write with the
/// next XREADGROUP, until nothing is left.
pub(crate) fn drain(redis: &Redis, jobs: usize, connections: usize) -> f64 {
    redis.empty();
    let mut queue = Queue::default(redis);
    queue.add(jobs, |_| job(NOOP));
    let stream = queue.keys.stream.as_bytes();
    redis
        .open()
        .ask(&["XGROUP", "CREATE", &queue.keys.stream, "limit", "0"]);
    let start = Instant::now();
    let drained: usize = thread::scope(|scope| {
        let one = |n: usize| scope.spawn(move || drain_one(redis, stream, &format!("{n}")));
        let all: Vec<_> = (0..connections).map(one).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    let rate = rate(drained, start);
    assert_eq!(drained, jobs);
    assert_eq!(queue.len(), 0);
    rate
}

fn drain_one(redis: &Redis, stream: &[u8], consumer: &str) -> usize {
    let mut conn = redis.open();
    let (mut ids, mut count, mut drained) = (Vec::new(), 0, 0);
    loop {
        if count > 0 {
            conn.push_encoded(&[b"XACK", stream, b"limit"], &ids, count);
            conn.push_encoded(&[b"XDEL", stream], &ids, count);
        }
        conn.push(&[
            b"XREADGROUP",
            b"GROUP",
            b"limit",
            consumer.as_bytes(),
            b"COUNT",
            READ_COUNT,
            b"STREAMS",
            stream,
            b">",
        ]);
        conn.flush();
        if count > 0 {
            conn.skip();
            conn.skip();
        }
        count = conn.entry_ids(&mut ids);
        if count == 0 {
            return drained;
        }
        drained += count;
    }
}

/// What was done since `start`, a second.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn rate(count: usize, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}
