//! Measures what Redis itself can do for delayed jobs, with the commands of their way and no scripts.
//! The commands go out by hundreds over raw connections.
//!
//! A queue on Redis cannot be faster, and it has more to do: here nothing checks who owns an entry.

use std::iter::once;
use std::thread;
use std::time::{Duration, Instant};

use super::backlog::{Queue, job};
use super::limit::rate;
use super::process::cpu;
use super::program::NOOP;
use super::redis::Redis;
use super::usage::micros_per;

/// How many entries one command names.
const BATCH: &str = "100";
/// How long a read waits for its first entry.
const BLOCK_MS: &str = "1000";
const GROUP: &str = "limit";
/// The delay and the due time are not looked at.
const DELAY: Duration = Duration::from_secs(1);
const DUE: &str = "1";

/// Moves jobs that are due to the stream on one connection, while another one reads and deletes them.
/// Returns the jobs a second.
pub(crate) fn due_at_once(redis: &Redis, jobs: usize) -> f64 {
    redis.empty();
    let mut queue = Queue::default(redis);
    queue.schedule(jobs, 1);
    create_group(redis, &queue);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| promote(redis, &queue));
        scope.spawn(|| read_and_delete(redis, &queue, jobs, false));
    });
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
    read_and_delete(redis, &queue, jobs, true);
    promote(redis, &queue);
    read_and_delete(redis, &queue, jobs, false);
    let used = cpu(redis.pid()) - before;
    assert_eq!((queue.scheduled(), queue.len()), (0, 0));
    micros_per(used, jobs)
}

fn create_group(redis: &Redis, queue: &Queue) {
    let stream = &queue.keys.stream;
    let create = ["XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM"];
    redis.open().ask(&create);
}

/// Moves everything in the scheduled set to the stream.
fn promote(redis: &Redis, queue: &Queue) {
    let (stream, set) = (queue.keys.stream.as_str(), queue.keys.scheduled.as_str());
    let mut conn = redis.open();
    let lowest = ["-inf", "+inf", "BYSCORE", "LIMIT", "0", BATCH];
    let due = || ["ZRANGE", set].into_iter().chain(lowest);
    conn.push_texts(due());
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
        let names = members.iter().map(String::as_str);
        conn.push_texts(["ZREM", set].into_iter().chain(names));
        conn.push_texts(due());
        conn.flush();
        for _ in 0..=members.len() {
            conn.skip();
        }
    }
}

/// Reads `jobs` entries, acknowledges and deletes them. When it `parks` them, they go to the scheduled
/// set first.
fn read_and_delete(redis: &Redis, queue: &Queue, jobs: usize, parks: bool) {
    let (stream, set) = (queue.keys.stream.as_str(), queue.keys.scheduled.as_str());
    let mut conn = redis.open();
    let group = [
        "GROUP", GROUP, "consumer", "COUNT", BATCH, "BLOCK", BLOCK_MS,
    ];
    let read = || {
        let from = ["STREAMS", stream, ">"];
        once("XREADGROUP").chain(group).chain(from)
    };
    let mut left = jobs;
    conn.push_texts(read());
    conn.flush();
    while left > 0 {
        let entries = conn.reply().entries();
        left -= entries.len();
        if parks {
            let member = |(id, job): &(String, String)| [DUE.to_owned(), format!("{id}:{job}")];
            let members: Vec<String> = entries.iter().flat_map(member).collect();
            let members = members.iter().map(String::as_str);
            conn.push_texts(["ZADD", set].into_iter().chain(members));
        }
        let ids = || entries.iter().map(|(id, _)| id.as_str());
        conn.push_texts(["XACK", stream, GROUP].into_iter().chain(ids()));
        conn.push_texts(["XDEL", stream].into_iter().chain(ids()));
        if left > 0 {
            conn.push_texts(read());
        }
        conn.flush();
        for _ in 0..2 + usize::from(parks) {
            conn.skip();
        }
    }
}
