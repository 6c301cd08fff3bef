//! Measures the way of a delayed job with bare commands, by hundreds over raw connections. The queue
//! has more to do: it checks who owns an entry, and writes the job anew. But it moves the jobs inside
//! Redis, and these commands carry them out and in again.

use std::time::{Duration, Instant};

use super::backlog::{Queue, job};
use super::limit::{Settling, create_group, drain_stream, rate};
use super::process::cpu;
use super::program::NOOP;
use super::redis::Redis;
use super::usage::micros_per;

/// How many entries one command names.
const BATCH: &str = "100";
/// The delay and the due time are not looked at.
const DELAY: Duration = Duration::from_secs(1);
const DUE: &str = "1";

/// Moves `jobs` due jobs to the stream over one connection, and then drains it over two. Returns the
/// jobs a second.
pub(crate) fn due_at_once(redis: &Redis, jobs: usize) -> f64 {
    redis.empty();
    let mut queue = Queue::default(redis);
    queue.schedule(jobs, 1);
    create_group(redis, &queue);
    let start = Instant::now();
    promote(redis, &queue);
    drain_stream(redis, &queue, 2, Settling::XackAndXdel);
    let rate = rate(jobs, start);
    assert_eq!((queue.scheduled(), queue.len()), (0, 0));
    rate
}

/// The CPU time of Redis for one job with a delay, in microseconds. The job is added, read, parked,
/// promoted, read again and deleted. Each step is done for all jobs before the next one begins.
pub(crate) fn redis_us(redis: &Redis, jobs: usize) -> f64 {
    redis.empty();
    let mut queue = Queue::default(redis);
    create_group(redis, &queue);
    let before = cpu(redis.pid());
    queue.add(jobs, |_| job(NOOP).delay(DELAY));
    park(redis, &queue);
    promote(redis, &queue);
    drain_stream(redis, &queue, 1, Settling::XackAndXdel);
    let used = cpu(redis.pid()) - before;
    assert_eq!((queue.scheduled(), queue.len()), (0, 0));
    micros_per(used, jobs)
}

/// Moves everything in the scheduled set to the stream.
fn promote(redis: &Redis, queue: &Queue) {
    let (stream, set) = (queue.keys.stream.as_str(), queue.keys.scheduled.as_str());
    let mut conn = redis.open();
    let due = [
        "ZRANGE", set, "-inf", "+inf", "BYSCORE", "LIMIT", "0", BATCH,
    ];
    conn.push_texts(due);
    conn.flush();
    loop {
        let members = conn.reply().texts();
        if members.is_empty() {
            return;
        }
        for member in &members {
            let (_, job) = member.split_once(':').unwrap();
            conn.push_texts(["XADD", stream, "*", "job", job]);
        }
        let last = (members.len() - 1).to_string();
        conn.push_texts(["ZREMRANGEBYRANK", set, "0", &last]);
        conn.push_texts(due);
        conn.flush();
        for _ in 0..=members.len() {
            conn.skip();
        }
    }
}

/// Moves everything in the stream to the scheduled set.
fn park(redis: &Redis, queue: &Queue) {
    let (stream, set) = (queue.keys.stream.as_str(), queue.keys.scheduled.as_str());
    let mut conn = redis.open();
    let group = ["XREADGROUP", "GROUP", "limit", "0", "COUNT", BATCH];
    let read = || group.into_iter().chain(["STREAMS", stream, ">"]);
    conn.push_texts(read());
    conn.flush();
    loop {
        let entries = conn.reply().entries();
        if entries.is_empty() {
            return;
        }
        let member = |(id, job): &(String, String)| [DUE.to_owned(), format!("{id}:{job}")];
        let members: Vec<String> = entries.iter().flat_map(member).collect();
        let members = members.iter().map(String::as_str);
        let ids = || entries.iter().map(|(id, _)| id.as_str());
        conn.push_texts(["ZADD", set].into_iter().chain(members));
        conn.push_texts(["XACK", stream, "limit"].into_iter().chain(ids()));
        conn.push_texts(["XDEL", stream].into_iter().chain(ids()));
        conn.push_texts(read());
        conn.flush();
        for _ in 0..3 {
            conn.skip();
        }
    }
}
