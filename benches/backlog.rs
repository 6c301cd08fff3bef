//! Makes the jobs of the measurements, and reads and fills the queue's keys. A job looks as the
//! client would send it. It has its own id and a message of 40 bytes.

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

/// One queue. It is filled and read with plain commands, without the client and the worker.
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

    /// Appends jobs as [`Self::add`] does. Returns when each was appended, by Redis' clock, in ms.
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

    /// How many jobs wait or run.
    pub(crate) fn len(&mut self) -> usize {
        let len = self.conn.ask_int(&["XLEN", &self.keys.stream]);
        usize::try_from(len).unwrap()
    }

    /// How many jobs are in the scheduled set.
    pub(crate) fn scheduled(&mut self) -> usize {
        let len = self.conn.ask_int(&["ZCARD", &self.keys.scheduled]);
        usize::try_from(len).unwrap()
    }

    pub(crate) fn dead(&mut self) -> usize {
        let len = self.conn.ask_int(&["XLEN", &self.keys.dead]);
        usize::try_from(len).unwrap()
    }

    /// Waits until this number of `workers` wait for jobs, on any queue.
    pub(crate) fn wait_for_workers(&mut self, workers: usize) {
        wait_for("the workers", TIME_LIMIT, || {
            // This reads CLIENT LIST, because Redis 7.0 lists a consumer only after its first job.
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
            // The set is read first. A job that is promoted between the two reads is then seen in
            // the stream.
            (self.scheduled() == scheduled && self.len() == 0).then(Instant::now)
        })
    }

    /// A number from XINFO GROUPS about the workers' group. `None` without the stream or the group.
    fn group(&mut self, field: &str) -> Option<usize> {
        // XINFO fails when the key is absent.
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

/// The wall clock's time since the epoch. A Redis on this host has the same clock.
pub(crate) fn now() -> Duration {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap()
}
