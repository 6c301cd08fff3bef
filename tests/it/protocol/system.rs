//! The real scripts on a real Redis, and what is needed to compare all its data.

use std::collections::BTreeMap;

use redis::{Cmd, Connection, FromRedisValue, ToRedisArgs, Value};

use super::reference::{Expected, Place, Reference};
use super::transitions::{Target, Transition, Wait};
use crate::support::{CANCEL, Clock, DEAD, GROUP, LEASES, SCHEDULED, STATE, STREAM, WORKERS};

/// A time in ms that is longer than any test. It is used for a lease, a stall, a hold and a wait.
pub(crate) const HOUR: u64 = 3_600_000;

const MIGRATIONS: [&str; 2] = [
    include_str!("../../../migrations/0001_create_consumer_group.lua"),
    include_str!("../../../migrations/0002_mark_incarnation.lua"),
];

/// A script as the broker sends it.
macro_rules! script {
    ($($name:literal),+) => {
        concat!(
            include_str!("../../../src/service/jobqueue/redis/scripts/prelude.lua"),
            $(include_str!(concat!(
                "../../../src/service/jobqueue/redis/scripts/",
                $name,
                ".lua"
            ))),+
        )
    };
}

pub(crate) use script;

pub(crate) struct System<'a> {
    redis: Connection,
    /// The clock of Redis.
    clock: &'a Clock,
    offset_ms: i64,
    /// The ids of all entries that ever existed.
    pub(crate) ids: BTreeMap<Target, String>,
    /// How many times each job was tried, as its worker would write it.
    pub(crate) attempts: Vec<u32>,
    /// The ids of all dead letters that ever existed, by the entry that died.
    pub(crate) letters: BTreeMap<Target, String>,
    /// The stream's mark.
    incarnation: String,
}

impl<'a> System<'a> {
    /// A queue of its own.
    pub(crate) fn connect(url: &str, clock: &'a Clock) -> Self {
        clock.set(0);
        let client = redis::Client::open(url).unwrap();
        let mut system = Self {
            redis: client.get_connection().unwrap(),
            clock,
            offset_ms: 0,
            ids: BTreeMap::new(),
            attempts: Vec::new(),
            letters: BTreeMap::new(),
            incarnation: String::new(),
        };
        system.cmd::<()>(&["FLUSHALL"]);
        assert_eq!(system.migrate(), 1);
        system
    }

    /// Carries out the transition on Redis, and compares the reply with the model's.
    pub(crate) fn apply(&mut self, transition: &Transition, reference: &Reference) {
        let expected = &reference.expected;
        match transition {
            Transition::Enqueue => {
                let job = self.attempts.len();
                self.attempts.push(0);
                let id = self.cmd(&["XADD", STREAM, "*", "job", &json(job, 0)]);
                self.ids.insert((job, 0), id);
            }
            Transition::Read {
                by,
                count,
                bounded: true,
            } => {
                let (name, count) = (worker(*by), count.to_string());
                let args = [GROUP, &name, &count, "1000000"];
                let entries = self.query(&eval(script!("read"), &[STREAM], &args));
                assert_eq!(Expected::Delivered(self.targets(entries)), *expected);
            }
            Transition::Read { by, count, .. } => {
                let mut command = redis::cmd("XREADGROUP");
                command.arg("GROUP").arg(GROUP).arg(worker(*by));
                command.arg("COUNT").arg(*count).arg("STREAMS").arg(STREAM);
                // The reply is [[stream, [[id, fields], ...]]], or nothing.
                type Streams = Option<Vec<(String, Vec<(String, Vec<String>)>)>>;
                let streams: Streams = self.query(command.arg(">"));
                let streams = streams.unwrap_or_default().into_iter();
                let entries = streams.flat_map(|(_, entries)| entries);
                let entries = entries.map(|(id, fields)| (id, fields, 1)).collect();
                assert_eq!(Expected::Delivered(self.targets(entries)), *expected);
            }
            Transition::Acknowledge { targets } => {
                let command = self.acknowledge(targets, &self.incarnation);
                assert_eq!(Expected::Count(self.query(&command)), *expected);
            }
            Transition::Schedule { by, moves } => self.schedule(*by, moves, reference),
            Transition::Bury { by, targets } => {
                let command = self.bury(*by, targets, &self.incarnation);
                let (owned, dropped): (Vec<u8>, u64) = self.query(&command);
                assert_eq!((Expected::Outcomes(owned), dropped), (expected.clone(), 0));
                self.note_letters();
            }
            Transition::PutBack { by, targets, count } => {
                self.touch(*by, targets, "put_back", Some(*count), expected);
            }
            Transition::Renew { by, targets } => self.touch(*by, targets, "renew", None, expected),
            Transition::Recount { by, target, count } => {
                self.touch(*by, &[*target], "renew", Some(*count), expected);
            }
            Transition::Reclaim { by, room, bytes } => {
                self.reclaim(*by, [*room, *bytes], expected, reference);
            }
            Transition::Promote { limit } => self.promote(*limit, reference),
            Transition::FallDue { job } => self.set_turn(*job, reference),
            Transition::LoseLease { job } => self.lose_lease(*job, reference),
            Transition::Operate(operation) => self.operate(operation, reference),
            Transition::RemoveConsumers { only } => self.remove_consumers(*only, reference),
            Transition::Migrate
            | Transition::Take { .. }
            | Transition::Recognise { .. }
            | Transition::SettleAnother { .. } => self.apply_between_epochs(transition, expected),
            _ => self.befall(transition),
        }
    }

    /// Carries out an action of an operator or of the clock. It has no reply to compare.
    fn befall(&mut self, transition: &Transition) {
        match transition {
            Transition::Stall => self.cmd(&["HSET", STATE, "reclaim_seen_ms", "1"]),
            Transition::EndHold => {
                let marks = ["reclaim_hold_ms", "0", "reclaim_stall_ms", "0"];
                self.cmd(&[&["HSET", STATE], &marks[..]].concat())
            }
            Transition::ClockBack => {
                self.offset_ms -= 2 * i64::try_from(HOUR).unwrap();
                self.clock.set(self.offset_ms);
            }
            Transition::DeleteConsumer { name } => {
                self.cmd(&["XGROUP", "DELCONSUMER", STREAM, GROUP, &worker(*name)])
            }
            Transition::SkipBacklog => self.cmd(&["XGROUP", "SETID", STREAM, GROUP, "$"]),
            Transition::Pause { on: true } => self.cmd(&["HSET", STATE, "paused", "1"]),
            Transition::Pause { on: false } => self.cmd(&["HDEL", STATE, "paused"]),
            _ => panic!("a worker does that: {transition:?}"),
        }
    }

    /// Carries out what happens when a connection or the stream is lost.
    fn apply_between_epochs(&mut self, transition: &Transition, expected: &Expected) {
        match transition {
            Transition::Migrate => {
                let incarnation = self.incarnation.clone();
                assert_eq!(self.migrate(), 0);
                assert_eq!(self.incarnation, incarnation);
            }
            Transition::Take { by, targets } => {
                let (name, lease) = (worker(*by), HOUR.to_string());
                let args = [GROUP, &name, &lease, "1000000", "0"];
                let mut command = eval(script!("take"), &[STREAM], &args);
                command.arg(self.ids(targets));
                let (looked, entries): (usize, _) = self.query(&command);
                assert_eq!(targets.len(), looked);
                assert_eq!(Expected::Delivered(self.targets(entries)), *expected);
            }
            Transition::Recognise { targets } => {
                let mut command = eval(script!("recognise"), &[STREAM], &[] as &[&str]);
                for target in targets {
                    let job = json(target.0, self.attempts[target.0]);
                    command.arg(&self.ids[target]).arg(&sha1(&job)[..16]);
                }
                assert_eq!(Expected::Outcomes(self.query(&command)), *expected);
            }
            Transition::SettleAnother { by, targets } => {
                let moves: Vec<_> = targets.iter().map(|one| (*one, Wait::Retry)).collect();
                for command in [
                    self.acknowledge(targets, "another"),
                    self.moving(*by, &moves, "another"),
                    self.bury(*by, targets, "another"),
                ] {
                    let refused = command.query::<Value>(&mut self.redis).unwrap_err();
                    assert_eq!(refused.code(), Some("INCARNATION"));
                }
            }
            _ => unreachable!("{transition:?}"),
        }
    }

    fn migrate(&mut self) -> u64 {
        let [create, mark] =
            MIGRATIONS.map(|script| eval(script, &[STREAM, STATE, CANCEL], &[GROUP, "x"]));
        let created = self.query(&create);
        self.incarnation = self.query(&mark);
        created
    }

    fn acknowledge(&self, targets: &[Target], incarnation: &str) -> Cmd {
        let args = [GROUP, incarnation];
        let mut command = eval(script!("acknowledge"), &[STREAM], &args);
        command.arg(self.ids(targets));
        command
    }

    fn bury(&self, by: usize, targets: &[Target], incarnation: &str) -> Cmd {
        let (keys, name) = ([STREAM, DEAD, CANCEL], worker(by));
        let args = [GROUP, &name, incarnation, "100"];
        let mut command = eval(script!("bury"), &keys, &args);
        for target in targets {
            command.arg(&self.ids[target]);
            command.arg("test").arg("an error").arg(1).arg(1).arg("");
        }
        command
    }

    fn schedule(&mut self, by: usize, moves: &[(Target, Wait)], reference: &Reference) {
        let head: Vec<(String, u64)> = self.cmd(&["ZRANGE", SCHEDULED, "0", "0", "WITHSCORES"]);
        let command = self.moving(by, moves, &self.incarnation);
        let (outcomes, due_in): (Vec<u8>, i64) = self.query(&command);
        let moved: Vec<(usize, Wait)> = moves
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == 1)
            .map(|((target, wait), _)| (target.0, *wait))
            .collect();
        assert_eq!(Expected::Outcomes(outcomes), reference.expected);

        // The reply says when the job is due only to a worker whose job became the earliest one.
        let is_now = moved.iter().any(|(_, wait)| *wait == Wait::RetryNow);
        let hour_us = i64::try_from(HOUR * 1000).unwrap();
        match head.first() {
            _ if moved.is_empty() => assert_eq!(due_in, -1),
            None if is_now => assert_eq!(due_in, 0),
            None => assert!((1..=hour_us).contains(&due_in), "{due_in}"),
            Some((_, score)) if *score < HOUR => assert_eq!(due_in, -1, "one was due before"),
            Some(_) => assert!((-1..=hour_us).contains(&due_in), "{due_in}"),
        }
        for (job, wait) in moved {
            self.attempts[job] += u32::from(wait != Wait::Park);
            if wait == Wait::RetryNow {
                self.set_turn(job, reference);
            }
        }
    }

    fn moving(&self, by: usize, moves: &[(Target, Wait)], incarnation: &str) -> Cmd {
        let (keys, name) = ([STREAM, SCHEDULED, CANCEL], worker(by));
        let mut command = eval(script!("schedule"), &keys, &[GROUP, &name, incarnation]);
        for (target, wait) in moves {
            let (from, delay, tried) = match wait {
                Wait::Retry => ("now", HOUR, 1),
                Wait::RetryNow => ("now", 0, 1),
                Wait::Park => ("entry", HOUR, 0),
                Wait::ParkOver => ("entry", 0, 0),
            };
            let attempts = self.attempts[target.0];
            let before = json(target.0, attempts);
            command.arg(&self.ids[target]).arg(from).arg(delay);
            // There are two edits. The first one replaces nothing by nothing, and the second one
            // counts the attempt.
            let end = before.len() - 1;
            let start = end - attempts.to_string().len();
            command.arg(before.len()).arg(2).arg(1).arg(1).arg("");
            command.arg(start).arg(end).arg(attempts + tried);
        }
        command
    }

    /// Makes a lease look as old as a lease may become.
    fn lose_lease(&mut self, job: usize, reference: &Reference) {
        let Place::Pending { owner, .. } = reference.jobs[job].place else {
            panic!("only what is pending has a lease");
        };
        let id = self.ids[&(job, reference.jobs[job].entry)].clone();
        let (owner, idle) = (worker(owner), HOUR.to_string());
        let lose = [
            "XCLAIM", STREAM, GROUP, &owner, "0", &id, "IDLE", &idle, "JUSTID",
        ];
        self.cmd::<Vec<String>>(&lose);
    }

    /// Gives a scheduled job a due time long past that no other job has, so that the order is
    /// certain.
    fn set_turn(&mut self, job: usize, reference: &Reference) {
        let Place::Scheduled { due: Some(turn) } = reference.jobs[job].place else {
            panic!("job {job} is not due");
        };
        let members: Vec<String> = self.cmd(&["ZRANGE", SCHEDULED, "0", "-1"]);
        let member = members.into_iter().find(|member| number(member) == job);
        let member = member.expect("the job is scheduled");
        self.cmd::<u64>(&["ZADD", SCHEDULED, "XX", &turn.to_string(), &member]);
    }

    fn touch(
        &mut self,
        by: usize,
        targets: &[Target],
        what: &str,
        count: Option<u64>,
        expected: &Expected,
    ) {
        let name = worker(by);
        let mut command = eval(script!("touch"), &[STREAM], &[GROUP, &name, what]);
        let count = count.map(|count| count.to_string()).unwrap_or_default();
        for target in targets {
            command.arg(&self.ids[target]).arg(&count);
        }
        assert_eq!(Expected::Outcomes(self.query(&command)), *expected);
    }

    fn reclaim(
        &mut self,
        by: usize,
        limits: [usize; 2],
        expected: &Expected,
        reference: &Reference,
    ) {
        let (name, hour) = (worker(by), HOUR.to_string());
        let [room, bytes] = limits.map(|limit| limit.to_string());
        // There is no interval between two passes, so each call looks for entries.
        let args = [
            GROUP, &name, &hour, &hour, "0", &hour, &hour, "0", &room, &bytes,
        ];
        type Reply = (u8, u8, u64, Vec<(String, Value, u64)>);
        let script = script!("hold", "mend", "reclaim");
        let reply: Vec<Value> = self.query(&eval(script, &[STREAM, STATE, LEASES], &args));
        let (paused, more, deleted, entries): Reply =
            redis::from_redis_value(Value::Array(reply[..4].to_vec())).unwrap();
        assert_eq!((paused == 1, deleted), (reference.paused, 0));
        let mut carried = 0;
        let entries = entries.into_iter().map(|(id, body, count)| {
            let job = self
                .ids
                .iter()
                .find(|(_, known)| **known == id)
                .unwrap()
                .0
                .0;
            let fields = vec!["job".to_owned(), json(job, self.attempts[job])];
            let size = reference.size(job);
            if let Value::Int(too_large) = body {
                assert!(usize::try_from(too_large) == Ok(size) && size > limits[1]);
                return (id, fields, count);
            }
            carried += size;
            (id, redis::from_redis_value(body).unwrap(), count)
        });
        let entries = entries.collect();
        assert!(carried <= limits[1], "{carried} bytes in a reply");
        let (more, entries) = (more == 1, self.targets(entries));
        assert_eq!(Expected::Reclaimed { more, entries }, *expected);
    }

    fn promote(&mut self, limit: usize, reference: &Reference) {
        let limit = limit.to_string();
        let command = eval(script!("promote"), &[SCHEDULED, STREAM], &[&limit, "1"]);
        type Told = Vec<(String, String, String)>;
        let (moved, due_in, told): (usize, i64, Told) = self.query(&command);
        let next = match due_in {
            -1 => None,
            due_in => Some(due_in == 0),
        };
        assert_eq!(Expected::Promoted { moved, next }, reference.expected);
        let entries: Vec<(String, Vec<String>)> = self.cmd(&["XRANGE", STREAM, "-", "+"]);
        for (id, fields) in entries {
            let job = number(&fields[1]);
            self.ids
                .entry((job, reference.jobs[job].entry))
                .or_insert(id);
        }
        assert_eq!(told.len(), moved);
        for (left, id, job_id) in told {
            let known = self.ids.iter().find(|(_, known)| **known == id);
            let (job, entry) = *known.expect("it is in the stream").0;
            // These jobs have no id of their own.
            assert_eq!(
                (left, job_id.as_str()),
                (self.ids[&(job, entry - 1)].clone(), "")
            );
        }
    }

    fn remove_consumers(&mut self, only: Option<usize>, reference: &Reference) {
        let before = self.consumers();
        // Time does not pass here, so no lease may keep a consumer.
        self.cmd::<()>(&["DEL", LEASES]);
        let leaving = if only.is_some() { "1" } else { "0" };
        let (name, hour) = (worker(only.unwrap_or(0)), HOUR.to_string());
        let args = [GROUP, &name, leaving, "0", &hour];
        let keys = [STREAM, LEASES, STATE, WORKERS];
        let removed: usize = self.query(&eval(script!("remove_consumers"), &keys, &args));
        // A worker that leaves removes its own consumer. Another worker removes the others, but not
        // while workers may be stalled.
        let goes = |other: &String| match only {
            Some(_) => *other == name,
            None => *other != name && !reference.may_be_stalled(),
        };
        let idle = |name: &String| goes(name) && before[name] == 0;
        let (gone, kept): (Vec<_>, Vec<_>) = before.clone().into_keys().partition(idle);
        assert_eq!(removed, gone.len(), "{before:?}");
        let after: Vec<String> = self.consumers().into_keys().collect();
        assert_eq!(after, kept, "{:?}", reference.jobs);
    }

    /// The group's consumers without its mark, and how many entries are pending for each.
    pub(crate) fn consumers(&mut self) -> BTreeMap<String, usize> {
        let rows: Vec<BTreeMap<String, Value>> = self.cmd(&["XINFO", "CONSUMERS", STREAM, GROUP]);
        rows.into_iter()
            .map(|row| {
                let name = redis::from_redis_value_ref(&row["name"]).unwrap();
                (name, redis::from_redis_value_ref(&row["pending"]).unwrap())
            })
            .filter(|(name, _): &(String, _)| !name.starts_with("incarnation:"))
            .collect()
    }

    /// The entries of a delivery. Asserts that each entry has the job that was enqueued.
    fn targets(&self, entries: Vec<(String, Vec<String>, u64)>) -> Vec<(Target, u64)> {
        entries
            .into_iter()
            .map(|(id, fields, deliveries)| {
                let job = number(&fields[1]);
                assert_eq!(fields, ["job", &json(job, self.attempts[job])]);
                let known = self.ids.iter().find(|(_, known)| **known == id);
                let target = *known.expect("an entry that was added").0;
                assert_eq!(target.0, job);
                (target, deliveries)
            })
            .collect()
    }

    fn ids(&self, targets: &[Target]) -> Vec<&String> {
        targets.iter().map(|target| &self.ids[target]).collect()
    }

    pub(crate) fn cmd<T: FromRedisValue>(&mut self, args: &[&str]) -> T {
        let mut command = Cmd::new();
        command.arg(args);
        self.query(&command)
    }

    pub(crate) fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> T {
        command.query(&mut self.redis).unwrap()
    }
}

pub(crate) fn eval(script: &str, keys: &[&str], args: &[impl ToRedisArgs]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys.len()).arg(keys).arg(args);
    command
}

pub(crate) fn worker(number: usize) -> String {
    format!("worker-{number}")
}

pub(crate) fn sha1(text: &str) -> String {
    sha1_smol::Sha1::from(text).digest().to_string()
}

pub(crate) fn json(job: usize, attempt: u32) -> String {
    format!(r#"{{"type":"test","payload":{job},"attempt":{attempt}}}"#)
}

/// The number of the job in `json`. Other text may stand before the job.
fn number(json: &str) -> usize {
    let (_, payload) = json.split_once(r#""payload":"#).unwrap();
    payload.split(',').next().unwrap().parse().unwrap()
}
