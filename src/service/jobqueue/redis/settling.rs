//! Tells Redis how deliveries ended, and what Redis says of each of them.
//!
//! A typed batch goes in and typed answers come out. Each answer holds the settlements
//! together with their effects. Only [`Answer::of`] puts the two together, and it checks that
//! Redis answered for every settlement.

use std::time::{Duration, Instant};

use redis::{Cmd, Pipeline, Value};

use super::batch::{Batch, Destination, Kind, Part};
use super::broker::{ACKNOWLEDGE, BURY, Broker, SCHEDULE, Touch, eval};
use super::error::Error;
use super::link::Link;
use super::reply::{EntryId, array, int, items, micros, owned};
use super::window::Window;
use crate::service::jobqueue::constants::GROUP;
use crate::service::jobqueue::job;

/// How many bytes of jobs Redis moves in a millisecond at least.
const MOVED_BYTES_A_MS: u64 = 50_000;

/// What a settlement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The entry is where the settlement sends it.
    Applied,
    /// Nothing. The lease was lost, and another worker decides what becomes of the entry; or
    /// the settlement was sent before, and the reply to that was lost.
    NotOwner,
    /// Nothing. The job's delay is over, so it stays where it is, to be run.
    AlreadyDue,
}

/// What Redis answered to one command.
#[derive(Debug)]
pub(crate) enum Answer<S> {
    Settled(Settled<S>),
    /// The command failed as a whole: none of these was settled.
    Failed {
        error: Error,
        settlements: Vec<S>,
    },
}

/// What one command did. There is one effect for each settlement.
#[derive(Debug)]
pub(crate) struct Settled<S> {
    settlements: Vec<S>,
    effects: Vec<Effect>,
    due_in: Option<Duration>,
    dropped: u64,
}

impl<S> Settled<S> {
    /// How many settlements the command was for.
    pub(crate) fn len(&self) -> usize {
        self.settlements.len()
    }

    /// When the earliest of the jobs that went to the scheduled set is due, if no other job in
    /// the set is due before it.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        self.due_in
    }

    /// How many of the oldest dead letters were dropped to make room for new ones.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The settlements in their order, each with what it did.
    pub(crate) fn into_effects(self) -> impl Iterator<Item = (S, Effect)> {
        self.settlements.into_iter().zip(self.effects)
    }
}

/// What a worker's settings say about settling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SettlingRules {
    /// How many dead letters are kept.
    pub(crate) dead_letter_max_len: u64,
    /// An entry that is put off looks as if it had been idle for so long.
    pub(crate) put_off_idle: Duration,
}

impl Broker {
    /// Settles the first part of `batch` in one round trip, as much of it as `window` allows.
    /// When no reply came, the batch is as it was before.
    ///
    /// Not cancel safe: a dropped future's commands may still run, and their settlements are
    /// lost.
    pub(crate) async fn settle<S>(
        &self,
        link: &mut Link,
        window: &mut Window,
        rules: SettlingRules,
        batch: &mut Batch<S>,
    ) -> Result<Vec<Answer<S>>, Error> {
        let trip = batch.next_trip(window.bytes());
        let mut pipeline = Pipeline::with_capacity(trip.len());
        for part in &trip {
            let addressed = part.settlements.iter().map(batch.address);
            pipeline.add_command(self.command(part.kind, rules, link.incarnation(), addressed));
        }
        let bytes = trip.iter().map(|part| part.sent_bytes).sum();
        let moved: u64 = trip.iter().map(|part| part.moved_bytes as u64).sum();
        let time = window.time(bytes) + Duration::from_millis(moved / MOVED_BYTES_A_MS);
        let began = Instant::now();
        match link.send(&pipeline, time).await {
            Ok(replies) => {
                window.passed(bytes, began.elapsed());
                let mut replies = replies.into_iter();
                let answers = trip.into_iter().map(|part| {
                    // Where a reply is missing, the answer is an error.
                    let reply = replies.next().unwrap_or_default();
                    Answer::of(part, reply, link)
                });
                Ok(answers.collect())
            }
            Err(error) => {
                window.lost(bytes);
                batch.restore(trip);
                Err(error)
            }
        }
    }

    /// The command that settles entries of one kind.
    fn command<'a>(
        &self,
        kind: Kind,
        rules: SettlingRules,
        incarnation: &str,
        entries: impl Iterator<Item = (EntryId, Destination<'a>)>,
    ) -> Cmd {
        let mut cmd = match kind {
            Kind::Acknowledge => self.acknowledge(incarnation),
            Kind::Schedule => self.schedule(incarnation),
            Kind::Bury => self.bury(incarnation, rules.dead_letter_max_len),
            Kind::PutBack => self.touch(Touch::PutBack),
            Kind::PutOff => self.touch(Touch::Idle(rules.put_off_idle)),
        };
        for (id, destination) in entries {
            add_entry(&mut cmd, id, destination);
        }
        cmd
    }

    /// Acknowledges and deletes entries, in one step. It is not fenced, because their jobs ran.
    fn acknowledge(&self, incarnation: &str) -> Cmd {
        let mut cmd = eval(ACKNOWLEDGE, &[&self.keys.stream, &self.keys.state], &[]);
        cmd.arg(GROUP).arg(incarnation);
        cmd
    }

    /// Moves entries that this consumer owns to the scheduled set.
    fn schedule(&self, incarnation: &str) -> Cmd {
        let keys = [&self.keys.stream, &self.keys.scheduled, &self.keys.state];
        let mut cmd = eval(SCHEDULE, &keys, &[]);
        cmd.arg(GROUP).arg(&self.consumer).arg(incarnation);
        cmd
    }

    /// Moves entries that this consumer owns to the dead letters, of which `max_len` are kept.
    fn bury(&self, incarnation: &str, max_len: u64) -> Cmd {
        let keys = [&self.keys.stream, &self.keys.dead, &self.keys.state];
        let mut cmd = eval(BURY, &keys, &[]);
        cmd.arg(GROUP).arg(&self.consumer);
        cmd.arg(incarnation).arg(max_len);
        cmd
    }
}

/// What a command says of one entry.
fn add_entry(cmd: &mut Cmd, id: EntryId, destination: Destination<'_>) {
    match destination {
        Destination::Gone => {
            cmd.arg(id);
        }
        Destination::Delay {
            json,
            delay_ms,
            attempt,
        } => {
            let edits = job::moved(json, &id.to_string(), attempt, 0)
                .expect("cannot fail because the job was parsed from the same JSON");
            add_move(cmd, id, "entry", delay_ms, &edits);
        }
        Destination::Pause { edits, pause } => {
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            add_move(cmd, id, "now", pause_ms, edits);
        }
        Destination::DeadLetters(letter) => {
            cmd.arg(id).arg(letter.reason).arg(&letter.error);
            cmd.arg(letter.attempt).arg(letter.deliveries);
        }
        Destination::PutBack { deliveries } | Destination::PutOff { deliveries } => {
            cmd.arg(id).arg(deliveries);
        }
    }
}

fn add_move(cmd: &mut Cmd, id: EntryId, from: &str, delay_ms: u64, edits: &job::Edits) {
    cmd.arg(id).arg(from).arg(delay_ms);
    cmd.arg(edits.of_bytes).arg(edits.edits.len());
    for edit in &edits.edits {
        cmd.arg(edit.cut.start).arg(edit.cut.end).arg(&edit.text);
    }
}

/// What one command's reply says.
#[derive(Debug, PartialEq, Eq)]
struct Effects {
    /// Of each settlement, in their order.
    each: Vec<Effect>,
    due_in: Option<Duration>,
    dropped: u64,
}

impl Effects {
    fn new(each: Vec<Effect>) -> Self {
        Self {
            each,
            due_in: None,
            dropped: 0,
        }
    }
}

impl<S> Answer<S> {
    /// The answer to the command of `part`. A reply that tells of more or fewer settlements
    /// than were sent is an error: nobody can say which of them it is about.
    fn of(part: Part<S>, reply: Value, link: &mut Link) -> Self {
        let Part {
            kind, settlements, ..
        } = part;
        let effects = effects_of(kind, settlements.len(), reply);
        match link.judge(kind.name(), effects) {
            Ok(effects) => Self::Settled(Settled {
                settlements,
                effects: effects.each,
                due_in: effects.due_in,
                dropped: effects.dropped,
            }),
            Err(error) => Self::Failed { error, settlements },
        }
    }
}

/// Reads the reply to a command of this kind that settles `count` entries.
fn effects_of(kind: Kind, count: usize, reply: Value) -> Result<Effects, Error> {
    if let Value::ServerError(error) = &reply {
        return Err(Error::from(error));
    }
    let effects = match kind {
        Kind::Acknowledge => acknowledged(&reply, count),
        Kind::Schedule => scheduled(reply),
        Kind::Bury => buried(reply),
        Kind::PutBack | Kind::PutOff => owned(reply).map(|flags| Effects::new(moved(flags))),
    }?;
    if effects.each.len() == count {
        Ok(effects)
    } else {
        Err(Error::unexpected_reply(kind.name()))
    }
}

/// The script tells how many entries were still pending. All count as settled, whoever owned
/// them: the jobs ran.
fn acknowledged(reply: &Value, count: usize) -> Result<Effects, Error> {
    let _pending = int(reply).ok_or_else(|| Error::unexpected_reply("the acknowledge script"))?;
    Ok(Effects::new(vec![Effect::Applied; count]))
}

/// The reply of the schedule script.
fn scheduled(reply: Value) -> Result<Effects, Error> {
    let shape = || Error::unexpected_reply("the schedule script");
    let [outcomes, due_in] = array(reply).ok_or_else(shape)?;
    let outcomes = items(outcomes).ok_or_else(shape)?;
    let outcomes = outcomes.iter().map(|outcome| match int(outcome) {
        Some(1) => Effect::Applied,
        Some(2) => Effect::AlreadyDue,
        _ => Effect::NotOwner,
    });
    Ok(Effects {
        due_in: micros(&due_in),
        ..Effects::new(outcomes.collect())
    })
}

/// The reply of the bury script.
fn buried(reply: Value) -> Result<Effects, Error> {
    let shape = || Error::unexpected_reply("the bury script");
    let [flags, dropped] = array(reply).ok_or_else(shape)?;
    let dropped = int(&dropped).and_then(|count| count.try_into().ok());
    Ok(Effects {
        dropped: dropped.unwrap_or(0),
        ..Effects::new(moved(owned(flags)?))
    })
}

fn moved(owned: Vec<bool>) -> Vec<Effect> {
    let effect = |owned| match owned {
        true => Effect::Applied,
        false => Effect::NotOwner,
    };
    owned.into_iter().map(effect).collect()
}

#[cfg(test)]
mod tests {
    use super::super::error::Class;
    use super::*;

    fn flags(flags: &[i64]) -> Value {
        Value::Array(flags.iter().copied().map(Value::Int).collect())
    }

    /// A reply of this kind that tells of these entries, 1 for each that was this consumer's.
    fn reply(kind: Kind, each: &[i64], rest: i64) -> Value {
        match kind {
            Kind::Acknowledge => Value::Int(rest),
            Kind::Schedule | Kind::Bury => Value::Array(vec![flags(each), Value::Int(rest)]),
            Kind::PutBack | Kind::PutOff => flags(each),
        }
    }

    #[test]
    fn each_settlement_has_the_effect_that_stands_in_its_place() {
        use Effect::{AlreadyDue, Applied, NotOwner};
        let read = |kind, each: &[i64], rest| effects_of(kind, 3, reply(kind, each, rest)).unwrap();
        let scheduled = read(Kind::Schedule, &[1, 0, 2], 1500);
        assert_eq!(scheduled.each, [Applied, NotOwner, AlreadyDue]);
        assert_eq!(scheduled.due_in, Some(Duration::from_micros(1500)));
        assert_eq!(read(Kind::Schedule, &[1, 1, 1], -1).due_in, None);
        let buried = read(Kind::Bury, &[0, 1, 1], 7);
        assert_eq!(buried.each, [NotOwner, Applied, Applied]);
        assert_eq!(buried.dropped, 7);
        let put_back = read(Kind::PutBack, &[1, 1, 0], 0);
        assert_eq!(put_back.each, [Applied, Applied, NotOwner]);
        let finished = read(Kind::Acknowledge, &[], 2);
        assert_eq!(finished.each, [Applied; 3], "whoever owned them");
    }

    #[test]
    fn a_reply_that_does_not_tell_of_each_settlement_is_an_error() {
        for kind in [Kind::Schedule, Kind::Bury, Kind::PutBack, Kind::PutOff] {
            for each in [&[1, 1][..], &[1, 1, 1, 1]] {
                let read = effects_of(kind, 3, reply(kind, each, 0));
                assert_eq!(read.unwrap_err().class, Class::Operator, "{kind:?}");
            }
            let missing = effects_of(kind, 3, Value::Nil);
            assert_eq!(missing.unwrap_err().class, Class::Operator, "{kind:?}");
        }
        let missing = effects_of(Kind::Acknowledge, 3, Value::Nil);
        assert_eq!(missing.unwrap_err().class, Class::Operator);
    }
}
