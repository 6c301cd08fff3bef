//! What an operator should know of a Redis that can be used: that the queue is paused, that
//! Redis may drop jobs or lose them, that its memory is full.
//!
//! It says what to ask Redis, reads the answers, and tells each change once in the log;
//! `/ready` tells what stands. Whatever an ACL or a managed server does not answer is left
//! out. What makes Redis unfit for the queue is not for here but for the outage log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redis::{Cmd, Value};
use tracing::{info, warn};

use super::broker;
use super::keys::Keys;

/// How often what stands is told again.
const REMINDER: Duration = Duration::from_secs(600);
/// A memory that is fuller than this is nearly full, in percent. It counts as mended when it
/// is somewhat below, so that the log does not follow each job.
const NEARLY_FULL: u64 = 90;
const NOT_FULL: u64 = 85;
/// What does not pause a queue, as the reclaim script has it.
const NOT_PAUSED: [&str; 5] = ["", "0", "false", "no", "off"];

/// What Redis is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    /// Whether there is memory for another job. It runs as the jobs do, and writes nothing.
    Room,
    /// Whether the queue is paused.
    Paused,
    /// How Redis is, by its own account.
    Info,
}

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Matter {
    Paused,
    OutOfMemory,
    MemoryNearlyFull,
    Eviction,
    Snapshots,
    AppendOnlyFile,
    Replica,
}

#[derive(Debug)]
struct Standing {
    text: String,
    since: Timestamp,
    told: Instant,
}

/// See the file's head. Takes the time as an argument.
#[derive(Debug)]
pub(crate) struct Condition {
    /// The address of the Redis, without secrets.
    redis: String,
    state_key: String,
    questions: BTreeMap<Question, Cmd>,
    /// What is not asked again on this connection, since the answer was a refusal.
    refused: BTreeSet<Question>,
    asked: Option<Instant>,
    standing: BTreeMap<Matter, Standing>,
}

impl Condition {
    pub(crate) fn new(redis: String, keys: &Keys) -> Self {
        let mut info = redis::cmd("INFO");
        info.arg(&["memory", "persistence", "replication"]);
        let questions = [
            (Question::Room, broker::has_room(keys)),
            (Question::Paused, broker::paused(keys)),
            (Question::Info, info),
        ];
        Self {
            redis,
            state_key: keys.state.clone(),
            questions: questions.into(),
            refused: BTreeSet::new(),
            asked: None,
            standing: BTreeMap::new(),
        }
    }

    /// A connection is new, perhaps as another user or to another server.
    pub(crate) fn connected(&mut self) {
        self.refused.clear();
    }

    /// When Redis was asked last.
    pub(crate) fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// What to ask now.
    pub(crate) fn questions(&mut self, now: Instant) -> Vec<(Question, Cmd)> {
        self.asked = Some(now);
        let questions = self.questions.iter();
        questions
            .filter(|(question, _)| !self.refused.contains(question))
            .map(|(question, cmd)| (*question, cmd.clone()))
            .collect()
    }

    /// Takes an answer in.
    pub(crate) fn answered(&mut self, question: Question, answer: &Value, now: Instant) {
        match (question, answer) {
            (Question::Room, Value::ServerError(error)) => {
                // Other errors are those of the schema's scripts, which tell them.
                let full = error.code() == "OOM";
                self.set(Matter::OutOfMemory, full.then(out_of_memory), now);
            }
            (Question::Room, _) => self.set(Matter::OutOfMemory, None, now),
            (_, Value::ServerError(_)) => {
                self.refused.insert(question);
            }
            (Question::Paused, Value::BulkString(value)) => {
                let value = String::from_utf8_lossy(value).to_lowercase();
                self.paused(!NOT_PAUSED.contains(&value.as_str()), now);
            }
            (Question::Paused, _) => self.paused(false, now),
            (Question::Info, Value::BulkString(text)) => {
                self.look_at(&String::from_utf8_lossy(text), now);
            }
            (Question::Info, Value::VerbatimString { text, .. }) => self.look_at(text, now),
            (Question::Info, _) => {}
        }
    }

    /// The queue was found to be paused, or not to be.
    pub(crate) fn paused(&mut self, paused: bool, now: Instant) {
        let key = &self.state_key;
        let text = paused.then(|| {
            format!("the queue is paused ({key} paused); HDEL {key} paused lets it go on")
        });
        self.set(Matter::Paused, text, now);
    }

    /// Whether Redis has no memory for another job.
    pub(crate) fn is_full(&self) -> Option<String> {
        let full = self.standing.get(&Matter::OutOfMemory)?;
        Some(format!("Redis at {} is {}", self.redis, full.text))
    }

    /// What stands, each with since when it was seen.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let standing = self.standing.values();
        standing
            .map(|Standing { text, since, .. }| format!("{text}, since {since}"))
            .collect()
    }

    /// Tells again what has been standing for long.
    pub(crate) fn remind(&mut self, now: Instant) {
        for standing in self.standing.values_mut() {
            if now - standing.told >= REMINDER {
                standing.told = now;
                let Standing { text, since, .. } = standing;
                warn!(redis = %self.redis, %since, "still: {text}");
            }
        }
    }

    fn look_at(&mut self, info: &str, now: Instant) {
        let standing = self.standing.contains_key(&Matter::MemoryNearlyFull);
        let limit = if standing { NOT_FULL } else { NEARLY_FULL };
        for (matter, text) in [
            (Matter::MemoryNearlyFull, nearly_full(info, limit)),
            (Matter::Eviction, eviction(info)),
            (Matter::Snapshots, failing_snapshots(info)),
            (Matter::AppendOnlyFile, failing_append_only_file(info)),
            (Matter::Replica, replica(info)),
        ] {
            self.set(matter, text, now);
        }
    }

    fn set(&mut self, matter: Matter, text: Option<String>, now: Instant) {
        match (text, self.standing.get_mut(&matter)) {
            // Its figures may be others by now.
            (Some(text), Some(standing)) => standing.text = text,
            (Some(text), None) => {
                warn!(redis = %self.redis, "{text}");
                // Not rounded up: that would be in the future.
                let second = Timestamp::from_second(Timestamp::now().as_second());
                let standing = Standing {
                    text,
                    since: second.unwrap_or_default(),
                    told: now,
                };
                self.standing.insert(matter, standing);
            }
            (None, Some(_)) => {
                self.standing.remove(&matter);
                info!(redis = %self.redis, "{}", matter.end());
            }
            (None, None) => {}
        }
    }
}

impl Matter {
    /// What is said when it is over.
    fn end(self) -> &'static str {
        match self {
            Self::Paused => "the queue goes on: it is not paused any more",
            Self::OutOfMemory => "there is memory for new jobs again",
            Self::MemoryNearlyFull => "the memory for jobs is not nearly full any more",
            Self::Eviction => "no jobs are evicted any more: maxmemory-policy was changed",
            Self::Snapshots => "snapshots succeed again",
            Self::AppendOnlyFile => "the append-only file is written again",
            Self::Replica => "the server is no replica any more",
        }
    }
}

fn out_of_memory() -> String {
    "out of memory (maxmemory is reached): new jobs are refused, and those that wait are run"
        .to_owned()
}

fn nearly_full(info: &str, limit: u64) -> Option<String> {
    let number = |name| field(info, name)?.parse::<u64>().ok();
    let (used, most) = (number("used_memory")?, number("maxmemory")?);
    let full = most > 0 && u128::from(used) * 100 >= u128::from(most) * u128::from(limit);
    let shown = |name| field(info, name).unwrap_or("unknown");
    let (used, most) = (shown("used_memory_human"), shown("maxmemory_human"));
    full.then(|| {
        format!("redis' memory is nearly full: {used} of {most} (maxmemory); give it more")
    })
}

/// A policy for keys that expire drops no jobs: theirs do not.
fn eviction(info: &str) -> Option<String> {
    let policy = field(info, "maxmemory_policy")?;
    let text = format!("redis may evict jobs: maxmemory-policy is {policy}; set it to noeviction");
    policy.starts_with("allkeys-").then_some(text)
}

fn failing_snapshots(info: &str) -> Option<String> {
    let failed = field(info, "rdb_last_bgsave_status")? != "ok";
    let text = "redis' last snapshot failed (rdb_last_bgsave_status): a restart would lose what \
                came since the one before; see its log";
    failed.then(|| text.to_owned())
}

fn failing_append_only_file(info: &str) -> Option<String> {
    let failing = ["aof_last_write_status", "aof_last_bgrewrite_status"];
    let failing = failing.into_iter().find(|name| {
        let status = field(info, name);
        status.is_some_and(|status| status != "ok")
    })?;
    Some(format!(
        "redis cannot write its append-only file ({failing}); see its log"
    ))
}

/// One that takes no writes is unfit anyway.
fn replica(info: &str) -> Option<String> {
    let is_replica = field(info, "role")? == "slave";
    let text = "the redis server is a replica that takes writes (role:slave): what is written \
                here is lost with its next resync; name the primary";
    is_replica.then(|| text.to_owned())
}

/// The value of `name:value` in a section of `INFO`.
pub(crate) fn field<'a>(section: &'a str, name: &str) -> Option<&'a str> {
    section.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then_some(value.trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition() -> Condition {
        Condition::new("localhost:6379".to_owned(), &Keys::new("mail"))
    }

    fn said_of(info: &str) -> Vec<String> {
        let mut condition = condition();
        let answer = Value::BulkString(info.into());
        condition.answered(Question::Info, &answer, Instant::now());
        condition.warnings()
    }

    fn error(line: &str) -> Value {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn what_endangers_jobs_is_told() {
        for (info, part) in [
            ("maxmemory_policy:allkeys-lru\r\n", "is allkeys-lru; set"),
            ("rdb_last_bgsave_status:err\r\n", "snapshot failed"),
            ("aof_last_write_status:err\r\n", "(aof_last_write_status)"),
            ("aof_last_bgrewrite_status:err\r\n", "bgrewrite_status)"),
            ("role:slave\r\n", "is a replica"),
            (
                "used_memory:90\r\nused_memory_human:90B\r\nmaxmemory:100\r\n\
                 maxmemory_human:100B\r\n",
                "nearly full: 90B of 100B",
            ),
        ] {
            let said = said_of(info);
            assert_eq!(said.len(), 1, "{info}: {said:?}");
            assert!(said[0].contains(part), "{part}: {said:?}");
        }
    }

    #[test]
    fn what_endangers_nothing_is_not_told() {
        for info in [
            "",
            "# Memory\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n",
            "maxmemory_policy:volatile-lru\r\n",
            "used_memory:90\r\nmaxmemory:0\r\n",
            "used_memory:89\r\nmaxmemory:100\r\n",
            "rdb_last_bgsave_status:ok\r\naof_last_write_status:ok\r\n",
        ] {
            assert_eq!(said_of(info), [""; 0], "{info}");
        }
    }

    #[test]
    fn a_memory_about_its_limit_is_told_once() {
        let (mut condition, now) = (condition(), Instant::now());
        for (used, told) in [
            (89, false),
            (90, true),
            (86, true),
            (84, false),
            (89, false),
        ] {
            let info = format!("used_memory:{used}\r\nmaxmemory:100\r\n");
            condition.answered(Question::Info, &Value::BulkString(info.into()), now);
            assert_eq!(!condition.warnings().is_empty(), told, "{used}");
        }
    }

    #[test]
    fn a_full_memory_is_full_until_there_is_room() {
        let (mut condition, now) = (condition(), Instant::now());
        condition.answered(Question::Room, &error("OOM no room"), now);
        let full = condition.is_full().unwrap();
        assert!(full.contains("localhost:6379 is out of memory"), "{full}");
        assert_eq!(condition.warnings().len(), 1);
        condition.answered(Question::Room, &Value::Int(0), now);
        assert_eq!(condition.is_full(), None);
        assert_eq!(condition.warnings(), [""; 0]);
    }

    #[test]
    fn what_is_refused_is_asked_again_on_the_next_connection_only() {
        let (mut condition, now) = (condition(), Instant::now());
        let asked = |condition: &mut Condition| {
            let questions = condition.questions(now).into_iter();
            questions.map(|(question, _)| question).collect::<Vec<_>>()
        };
        let all = [Question::Room, Question::Paused, Question::Info];
        assert_eq!(asked(&mut condition), all);
        condition.answered(Question::Info, &error("NOPERM no"), now);
        condition.answered(Question::Room, &error("OOM no room"), now);
        assert_eq!(asked(&mut condition), [Question::Room, Question::Paused]);
        condition.connected();
        assert_eq!(asked(&mut condition), all);
    }

    #[test]
    fn pausing_is_read_as_the_workers_read_it() {
        let (mut condition, now) = (condition(), Instant::now());
        for (value, paused) in [
            ("1", true),
            ("since noon", true),
            ("Off", false),
            ("", false),
            ("yes", true),
            ("FALSE", false),
        ] {
            let value = Value::BulkString(value.into());
            condition.answered(Question::Paused, &value, now);
            assert_eq!(!condition.warnings().is_empty(), paused, "{value:?}");
        }
        condition.answered(Question::Paused, &Value::Nil, now);
        assert_eq!(condition.warnings(), [""; 0]);
        // The script that decides has the same words, and no other.
        let script = include_str!("scripts/reclaim.lua");
        let table = script.lines().find(|line| line.contains("NOT_PAUSED = {"));
        let words = table.unwrap().matches(" = true").count();
        assert_eq!(words, NOT_PAUSED.len());
        for word in NOT_PAUSED {
            let (quoted, bare) = (format!("['{word}'] ="), format!(" {word} ="));
            let known = table.is_some_and(|it| it.contains(&quoted) || it.contains(&bare));
            assert!(known, "{word:?}");
        }
    }

    #[test]
    fn what_stands_for_long_is_told_again() {
        let (mut condition, start) = (condition(), Instant::now());
        condition.paused(true, start);
        let mut told = 0;
        for minute in 1..=60 {
            let now = start + Duration::from_secs(60 * minute);
            condition.remind(now);
            told += u32::from(condition.standing[&Matter::Paused].told == now);
        }
        assert_eq!(told, 6);
    }
}
