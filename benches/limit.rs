//! Measures what Redis itself can do, with bare loops over raw connections. A queue on Redis cannot
//! be faster.
//!
//! The jobs have the same form and size as those that the queue is measured with. A twentieth of
//! the pipelined enqueueing is done before the measurement, to warm up.

use std::thread;
use std::time::Instant;

use super::backlog::{Queue, job};
use super::program::NOOP;
use super::redis::Redis;
use super::wire::Conn;

pub(crate) const JOBS_PER_S: &str = "jobs/s";
/// How many XADDs go out in one write. Their replies are read before the next write.
const XADD_PIPELINE: usize = 64;
/// How many entries one XREADGROUP asks for.
const READ_COUNT: &[u8] = b"100";

/// Appends jobs with pipelined XADDs from one connection. Returns the jobs a second.
pub(crate) fn xadd(redis: &Redis, jobs: usize) -> f64 {
    redis.empty();
    let mut conn = redis.open();
    // The JSON is made before the time runs. Making a job is the producer's work and not Redis'.
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

/// Appends jobs with one XADD at a time over one connection to `addr`, which may be the address of a
/// proxy. Returns the jobs a second.
pub(crate) fn xadd_one_by_one(redis: &Redis, addr: &str, jobs: usize) -> f64 {
    redis.empty();
    let mut conn = Conn::open(addr);
    let json = job(NOOP).to_json();
    let start = Instant::now();
    for _ in 0..jobs {
        conn.push(&[b"XADD", b"limit", b"*", b"job", &json]);
        conn.flush();
        conn.skip();
    }
    rate(jobs, start)
}

/// How a batch is acknowledged and deleted.
#[derive(Clone, Copy)]
pub(crate) enum Settling {
    XackAndXdel,
    /// One command, which Redis has since 8.2.
    Xackdel,
}

/// Drains the stream with XREADGROUP COUNT 100. One write acknowledges and deletes a batch, and reads
/// the next one. Returns the jobs a second.
pub(crate) fn drain(redis: &Redis, jobs: usize, connections: usize, settling: Settling) -> f64 {
    redis.empty();
    let mut queue = Queue::default(redis);
    queue.add(jobs, |_| job(NOOP));
    create_group(redis, &queue);
    let start = Instant::now();
    drain_stream(redis, &queue, connections, settling);
    let rate = rate(jobs, start);
    assert_eq!(queue.len(), 0);
    rate
}

/// Creates the group in which the stream is drained, and the stream if there is none.
pub(crate) fn create_group(redis: &Redis, queue: &Queue) {
    let stream = &queue.keys.stream;
    let create = ["XGROUP", "CREATE", stream, "limit", "0", "MKSTREAM"];
    redis.open().ask(&create);
}

/// Reads, acknowledges and deletes all that is in the stream.
pub(crate) fn drain_stream(redis: &Redis, queue: &Queue, connections: usize, settling: Settling) {
    let stream = queue.keys.stream.as_bytes();
    thread::scope(|scope| {
        let one =
            |n: usize| scope.spawn(move || drain_one(redis, stream, &format!("{n}"), settling));
        (0..connections).map(one).for_each(drop);
    });
}

fn drain_one(redis: &Redis, stream: &[u8], consumer: &str, settling: Settling) {
    let mut conn = redis.open();
    let (mut ids, mut count) = (Vec::new(), 0);
    loop {
        let replies = match (count, settling) {
            (0, _) => 0,
            (_, Settling::XackAndXdel) => {
                conn.push_encoded(&[b"XACK", stream, b"limit"], &ids, count);
                conn.push_encoded(&[b"XDEL", stream], &ids, count);
                2
            }
            (_, Settling::Xackdel) => {
                let number = count.to_string();
                let head = [b"XACKDEL", stream, b"limit", b"IDS", number.as_bytes()];
                conn.push_encoded(&head, &ids, count);
                1
            }
        };
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
        for _ in 0..replies {
            conn.skip();
        }
        count = conn.entry_ids(&mut ids);
        if count == 0 {
            return;
        }
    }
}

/// `count` divided by the seconds since `start`.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn rate(count: usize, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}
