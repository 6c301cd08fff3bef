//! What a queue holds, read as an operator reads it, with plain commands. The key names are written
//! out here and are not taken from the library, because users type them into redis-cli.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{RedisResult, Value};

use super::{Redis, within};

pub(crate) const STREAM: &str = "jobqueue:{default}";
pub(crate) const SCHEDULED: &str = "jobqueue:{default}:scheduled";
pub(crate) const DEAD: &str = "jobqueue:{default}:dead";
pub(crate) const STATE: &str = "jobqueue:{default}:state";
pub(crate) const LEASES: &str = "jobqueue:{default}:leases";
pub(crate) const WORKERS: &str = "jobqueue:{default}:workers";
pub(crate) const DONE: &str = "jobqueue:{default}:done";
pub(crate) const TOTALS: &str = "jobqueue:{default}:totals";
pub(crate) const CANCEL: &str = "jobqueue:{default}:cancel";
pub(crate) const GROUP: &str = "jobqueue";
/// How the name of the consumer begins that is the mark of the group.
const MARK: &str = "incarnation:";

/// Counts everything of a [`Backlog`] in one step, since a job may move from one place to another
/// between two commands. It is a script and not MULTI, because a full memory refuses every command
/// within MULTI. Without the stream or the group, the group's lists are empty.
const BACKLOG: &str = "#!lua flags=no-writes,allow-oom
local function of_group(...)
  local reply = redis.pcall(...)
  if not reply.err then
    return reply
  elseif reply.err:find('^NOGROUP') or reply.err:find('no such key') then
    return {}
  end
  error(reply)
end
return {
  redis.call('XLEN', KEYS[1]),
  of_group('XPENDING', KEYS[1], ARGV[1])[1] or 0,
  redis.call('ZCARD', KEYS[2]),
  redis.call('XLEN', KEYS[3]),
  of_group('XINFO', 'GROUPS', KEYS[1]),
  of_group('XINFO', 'CONSUMERS', KEYS[1], ARGV[1]),
}";

/// A stream entry: its id and its fields.
pub(crate) type Entry = (String, BTreeMap<String, Vec<u8>>);

/// The numbers of jobs in each place, and the state of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Entries in the stream, waiting or running.
    pub(crate) stream: u64,
    /// Entries delivered to a worker and not yet acknowledged.
    pub(crate) pending: u64,
    /// Jobs that wait for their time.
    pub(crate) scheduled: u64,
    /// Dead letters.
    pub(crate) dead: u64,
    /// The group's lag; absent without a group, or when Redis does not know it.
    pub(crate) lag: Option<u64>,
    /// The group's consumers without its mark.
    pub(crate) consumers: Vec<Consumer>,
}

/// A consumer of the group, as XINFO CONSUMERS shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub(crate) name: String,
    pub(crate) pending: u64,
    pub(crate) idle_ms: u64,
}

/// A delivered entry that is not acknowledged, as XPENDING shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) id: String,
    pub(crate) consumer: String,
    pub(crate) idle_ms: u64,
    pub(crate) deliveries: u64,
}

impl Redis {
    /// Adds a job with XADD alone, as a program in any language would, and returns its entry id.
    pub(crate) async fn add_job(&self, job: &str) -> String {
        self.query(&["XADD", STREAM, "*", "job", job]).await
    }

    /// The number of entries in the stream.
    pub(crate) async fn xlen(&self) -> u64 {
        self.query(&["XLEN", STREAM]).await
    }

    /// The number of delivered entries. It is 0 without a group.
    pub(crate) async fn pending(&self) -> u64 {
        let summary = self.try_cmd(&["XPENDING", STREAM, GROUP]).await;
        match none_without_group(summary).map(items) {
            Some(summary) => number(&summary[0]),
            None => 0,
        }
    }

    /// Every delivered entry (the first 10,000), the oldest first.
    pub(crate) async fn pending_entries(&self) -> Vec<Pending> {
        let rows = self
            .try_cmd(&["XPENDING", STREAM, GROUP, "-", "+", "10000"])
            .await;
        let rows = none_without_group(rows).map(items).unwrap_or_default();
        let rows = rows.into_iter().map(items);
        rows.map(|row| Pending {
            id: text(&row[0]),
            consumer: text(&row[1]),
            idle_ms: number(&row[2]),
            deliveries: number(&row[3]),
        })
        .collect()
    }

    /// The number of jobs that wait for their time.
    pub(crate) async fn scheduled(&self) -> u64 {
        self.query(&["ZCARD", SCHEDULED]).await
    }

    /// Every scheduled member with its due time in ms, the earliest first.
    pub(crate) async fn scheduled_jobs(&self) -> Vec<(String, u64)> {
        let rows: Vec<(String, f64)> = self
            .query(&["ZRANGE", SCHEDULED, "0", "-1", "WITHSCORES"])
            .await;
        // Printed and parsed: a due time is a whole number, and `as` would hide one
        // that is not.
        let due_ms = |score: f64| score.to_string().parse().unwrap();
        rows.into_iter()
            .map(|(job, score)| (job, due_ms(score)))
            .collect()
    }

    /// Every entry of the stream, the oldest first.
    pub(crate) async fn entries(&self) -> Vec<Entry> {
        self.query(&["XRANGE", STREAM, "-", "+"]).await
    }

    /// Every dead letter, the oldest first.
    pub(crate) async fn dead_letters(&self) -> Vec<Entry> {
        self.query(&["XRANGE", DEAD, "-", "+"]).await
    }

    /// The queue's state hash.
    pub(crate) async fn state(&self) -> BTreeMap<String, String> {
        self.query(&["HGETALL", STATE]).await
    }

    /// The group's consumers without its mark. There are none without a group.
    pub(crate) async fn consumers(&self) -> Vec<Consumer> {
        workers_of(self.all_consumers().await)
    }

    /// The mark of the group.
    pub(crate) async fn mark(&self) -> String {
        let names = self.all_consumers().await.into_iter().map(consumer);
        let mark = names.filter_map(|one| Some(one.name.strip_prefix(MARK)?.to_owned()));
        mark.last().expect("a group has a mark")
    }

    async fn all_consumers(&self) -> Vec<Value> {
        let rows = self.try_cmd(&["XINFO", "CONSUMERS", STREAM, GROUP]).await;
        none_without_group(rows).map(items).unwrap_or_default()
    }

    /// Redis' clock in ms. The queue uses no other clock.
    pub(crate) async fn now_ms(&self) -> u64 {
        let (seconds, micros): (u64, u64) = self.query(&["TIME"]).await;
        seconds * 1000 + micros / 1000
    }

    /// How many times Redis ran a command since it started.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let info: String = self.query(&["INFO", "commandstats"]).await;
        let calls = info.lines().find_map(|line| {
            let calls = line.strip_prefix(&format!("cmdstat_{command}:calls="))?;
            calls.split(',').next()?.parse().ok()
        });
        calls.unwrap_or(0)
    }

    /// All of it, as it was at one moment.
    pub(crate) async fn backlog(&self) -> Backlog {
        let script = ["EVAL", BACKLOG, "3", STREAM, SCHEDULED, DEAD, GROUP];
        let (stream, pending, scheduled, dead, groups, consumers): (_, _, _, _, _, Vec<Value>) =
            self.query(&script).await;
        Backlog {
            stream,
            pending,
            scheduled,
            dead,
            lag: lag(groups),
            consumers: workers_of(consumers),
        }
    }

    /// Waits until nothing is left to do: no entry in the stream, none pending, none
    /// scheduled. Dead letters and consumers may be left.
    ///
    /// # Panics
    ///
    /// When something is left at the deadline, with what it is.
    pub(crate) async fn drained(&self, deadline: Duration) {
        let mut last = None;
        let drained = within(deadline, async || {
            let now = last.insert(self.backlog().await);
            (now.stream + now.pending + now.scheduled == 0).then_some(())
        });
        if drained.await.is_none() {
            panic!("not drained within {deadline:?}: {last:?}");
        }
    }
}

/// The lag of the queue's group, in the reply of `XINFO GROUPS`.
fn lag(groups: Vec<Value>) -> Option<u64> {
    let mut groups = groups.into_iter().map(fields);
    let group = groups.find(|group| text(&group["name"]) == GROUP)?;
    redis::from_redis_value_ref(&group["lag"]).unwrap()
}

/// The consumers in the reply of `XINFO CONSUMERS` that read.
fn workers_of(rows: Vec<Value>) -> Vec<Consumer> {
    let consumers = rows.into_iter().map(consumer);
    consumers
        .filter(|consumer| !consumer.name.starts_with(MARK))
        .collect()
}

/// A consumer in the reply of `XINFO CONSUMERS`.
fn consumer(row: Value) -> Consumer {
    let row = fields(row);
    Consumer {
        name: text(&row["name"]),
        pending: number(&row["pending"]),
        idle_ms: number(&row["idle"]),
    }
}

/// The reply, or nothing when the stream or its group does not exist.
fn none_without_group(reply: RedisResult<Value>) -> Option<Value> {
    match reply {
        Ok(value) => Some(value),
        Err(error) if error.code() == Some("NOGROUP") => None,
        Err(error) if error.to_string().contains("no such key") => None,
        Err(error) => panic!("cannot read the group: {error}"),
    }
}

fn items(value: Value) -> Vec<Value> {
    redis::from_redis_value(value).unwrap()
}

fn fields(value: Value) -> BTreeMap<String, Value> {
    redis::from_redis_value(value).unwrap()
}

fn number(value: &Value) -> u64 {
    redis::from_redis_value_ref(value).unwrap()
}

fn text(value: &Value) -> String {
    redis::from_redis_value_ref(value).unwrap()
}

/// The strings that follow each other in `bytes` as `<length>:<bytes>,`.
pub(crate) fn netstrings(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut strings = Vec::new();
    while !bytes.is_empty() {
        let colon = bytes.iter().position(|byte| *byte == b':').unwrap();
        let length: usize = std::str::from_utf8(&bytes[..colon])
            .unwrap()
            .parse()
            .unwrap();
        let (string, rest) = bytes[colon + 1..].split_at(length);
        strings.push(string);
        bytes = rest.strip_prefix(b",").expect("a comma behind each string");
    }
    strings
}
