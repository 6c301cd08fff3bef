//! Jobs to measure with, and the queue's keys as the bench looks at them. A job is what
//! the client would send, with an id of its own and a message of 40 bytes.

use std::time::{Duration, Instant};

use dm_jobqueue::Job;
use dm_jobqueue::program::inside::{GROUP, Keys};
use serde_json::value::RawValue;

use super::redis::Redis;
use super::wire::{Conn, Reply};
use super::{TIME_LIMIT, wait_for};

const MESSAGE: &str = "a message of forty bytes, to be printed.";
const _: () = assert!(MESSAGE.len() == 40);
/// How many commands go out in one write.
const PIPELINE: usize = 500;

/// A job of `job_type` with a message.
pub(crate) fn job(job_type: &str) -> Job {
    with_payload(job_type, format!(r#"{{"message":"{MESSAGE}"}}"#))
}

pub(crate) fn with_payload(job_type: &str, payload: String) -> Job {
    Job::new(job_type, &RawValue::from_string(payload).unwrap()).unwrap()
}

/// One queue, seen from outside.
pub(crate) struct Queue {
    conn: Conn,
    pub(crate) keys: Keys,
}

impl Queue {
    pub(crate) fn default(redis: &Redis) -> Self {
        Self::named(redis, "default")
    }

    pub(crate) fn named(redis: &Redis, name: &str) -> Self {
        Self {
            conn: redis.open(),
            keys: Keys::new(name),
        }
    }

    /// Appends `count` jobs, each made by `job` from its number.
    pub(crate) fn add(&mut self, count: usize, mut job: impl FnMut(usize) -> Job) {
        self.pipelined(count, |conn, keys, n| {
            let json = job(n).to_json();
            conn.push(&[b"XADD", keys.stream.as_bytes(), b"*", b"job", &json]);
        });
    }

    /// Appends jobs as [`Self::add`] does, and answers when each was, by Redis' clock.
    pub(crate) fn add_timed(
        &mut self,
        count: usize,
        mut job: impl FnMut(usize) -> Job,
    ) -> Vec<u64> {
        let mut ids_ms = Vec::with_capacity(count);
        for n in 0..count {
            let json = job(n).to_json();
            let stream = self.keys.stream.as_bytes();
            self.conn.push(&[b"XADD", stream, b"*", b"job", &json]);
        }
        self.conn.flush();
        for _ in 0..count {
            let Reply::Text(id) = self.conn.reply() else {
                panic!("XADD answers an id");
            };
            ids_ms.push(id.split('-').next().unwrap().parse().unwrap());
        }
        ids_ms
    }

    /// Puts `count` no-op jobs that are due at `due_ms` into the scheduled set.
    pub(crate) fn schedule(&mut self, count: usize, due_ms: u64) {
        let due = due_ms.to_string();
        self.pipelined(count, |conn, keys, n| {
            let json = job(super::program::NOOP).to_json();
            let mut member = format!("1-{n}:").into_bytes();
            member.extend_from_slice(&json);
            let set = keys.scheduled.as_bytes();
            conn.push(&[b"ZADD", set, due.as_bytes(), &member]);
        });
    }

    fn pipelined(&mut self, count: usize, mut push: impl FnMut(&mut Conn, &Keys, usize)) {
        for start in (0..count).step_by(PIPELINE) {
            let end = count.min(start + PIPELINE);
            for n in start..end {
                push(&mut self.conn, &self.keys, n);
            }
            self.conn.flush();
            for _ in start..end {
                self.conn.skip();
            }
        }
    }

    /// Jobs that wait or run.
    pub(crate) fn len(&mut self) -> usize {
        let len = self.conn.ask_int(&["XLEN", &self.keys.stream]);
        usize::try_from(len).unwrap()
    }

    /// Jobs that wait for their time.
    pub(crate) fn scheduled(&mut self) -> usize {
        let len = self.conn.ask_int(&["ZCARD", &self.keys.scheduled]);
        usize::try_from(len).unwrap()
    }

    /// Waits until so many `workers` wait for jobs, of whatever queue.
    pub(crate) fn wait_for_workers(&mut self, workers: usize) {
        wait_for("the workers", TIME_LIMIT, || {
            // Redis 7.0 lists a consumer no sooner than it got its first job.
            let clients = self.conn.ask_text(&["CLIENT", "LIST"]);
            let blocked =
                |client: &&str| client.contains(" flags=b ") && client.contains(" cmd=xreadgroup ");
            (clients.lines().filter(blocked).count() == workers).then_some(())
        });
    }

    /// Waits until `count` jobs are running.
    pub(crate) fn wait_for_pending(&mut self, count: usize) {
        wait_for("running jobs", TIME_LIMIT, || {
            (self.group("pending")? == count).then_some(())
        });
    }

    /// Waits until there are `scheduled` jobs in the set and none in the stream.
    pub(crate) fn wait_until_settled(&mut self, scheduled: usize) -> Instant {
        wait_for("the queue's end", TIME_LIMIT, || {
            // In this order: what is promoted in between is seen in the stream.
            (self.scheduled() == scheduled && self.len() == 0).then(Instant::now)
        })
    }

    /// A number that XINFO GROUPS tells of the workers' group, when there is one.
    fn group(&mut self, field: &str) -> Option<usize> {
        // XINFO on a key that is absent is an error.
        if self.conn.ask_int(&["EXISTS", &self.keys.stream]) == 0 {
            return None;
        }
        let Reply::Array(groups) = self.conn.ask(&["XINFO", "GROUPS", &self.keys.stream]) else {
            return None;
        };
        let Reply::Array(group) = groups.into_iter().next()? else {
            return None;
        };
        let mut pairs = group.chunks_exact(2);
        let name = pairs.find(|pair| matches!(&pair[0], Reply::Text(name) if name == "name"));
        assert!(matches!(&name?[1], Reply::Text(name) if name == GROUP));
        group.chunks_exact(2).find_map(|pair| match pair {
            [Reply::Text(name), Reply::Int(n)] if name == field => usize::try_from(*n).ok(),
            _ => None,
        })
    }
}

/// The wall clock, which is that of a Redis on this host, since the epoch.
pub(crate) fn now() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap()
}
