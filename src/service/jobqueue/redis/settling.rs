//! Tells Redis how deliveries ended, and what Redis says of each of them.
//!
//! A typed batch goes in and typed results come out. Each result holds the settlements of one
//! command together with their effects. Only `CommandResult::of` puts the two together. It uses
//! `effects_of`, which checks that the reply has an effect for every settlement.

use std::time::{Duration, Instant};

use redis::{Cmd, Pipeline, Value};

use super::batch::{Batch, Part};
use super::broker::Broker;
use super::destination::{CommandKind, DeadLetter, Destination};
use super::effects::{Effect, effects_of};
use super::entry::EntryId;
use super::error::{Class, Error};
use super::leases::Touch;
use super::link::Link;
use super::recording::Record;
use super::scripts::{ACKNOWLEDGE, BURY, SCHEDULE, evalsha};
use super::window::Window;
use crate::service::jobqueue::constants::GROUP;
use crate::service::jobqueue::job::{self, Move};

/// How many bytes of jobs Redis moves in a millisecond at least.
const MOVED_BYTES_A_MS: u64 = 50_000;

/// How one command ended.
#[derive(Debug)]
pub(crate) enum CommandResult<S> {
    Settled(CommandEffects<S>),
    /// The command failed as a whole: none of these was settled.
    Failed {
        error: Error,
        settlements: Vec<S>,
    },
}

/// What one command did. There is one effect for each settlement.
#[derive(Debug)]
pub(crate) struct CommandEffects<S> {
    settlements: Vec<S>,
    effects: Vec<Effect>,
    due_in: Option<Duration>,
    dropped: u64,
}

impl<S> CommandEffects<S> {
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
    /// About how many finished jobs are kept.
    pub(crate) done_max_len: u64,
}

/// Settlements on their way to Redis.
#[derive(Debug)]
pub(crate) struct Trip<S> {
    parts: Vec<Part<S>>,
    bytes: usize,
    /// The epoch of the link when they were sent.
    epoch: u64,
    took: Duration,
    replies: Result<Vec<Value>, Error>,
    /// What Redis has against recording what goes with them.
    record_refused: Option<Error>,
}

impl<S> Trip<S> {
    /// The epoch of the link when they were sent.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// About how many bytes it has on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Why the figures that went with the settlements were not recorded, when somebody has to mend
    /// something for that.
    pub(crate) fn record_refused(&self) -> Option<&Error> {
        self.record_refused.as_ref()
    }

    /// What became of the settlements. When no reply came, they are given back: nobody knows whether
    /// they had an effect.
    pub(crate) fn results(
        self,
        link: &mut Link,
        window: &mut Window,
    ) -> Result<Vec<CommandResult<S>>, Vec<S>> {
        // The trips that end with one connection end together, and the first of them tells of it.
        let is_news = link.is_still_in(self.epoch);
        match link.judge_in(self.epoch, "pipeline", self.replies) {
            Ok(replies) => {
                if is_news {
                    window.passed(self.bytes, self.took);
                }
                let mut replies = replies.into_iter();
                let results = self.parts.into_iter().map(|part| {
                    // Where a reply is missing, the result is an error.
                    let reply = replies.next().unwrap_or_default();
                    CommandResult::of(part, reply, self.epoch, link)
                });
                Ok(results.collect())
            }
            Err(_) => {
                if is_news {
                    window.lost(self.bytes);
                }
                let parts = self.parts.into_iter();
                Err(parts.flat_map(|part| part.settlements).collect())
            }
        }
    }
}

impl Broker {
    /// Settles what `batch` has for one round trip, and records `record` behind that. The future sends it
    /// when it is polled first, and ends with the replies. More may be sent over the link meanwhile.
    ///
    /// Not cancel safe: a dropped future's commands may still run, and their settlements are
    /// lost.
    pub(crate) fn settle<S>(
        &self,
        link: &Link,
        window: &Window,
        rules: SettlingRules,
        batch: Batch<S>,
        record: &Record,
    ) -> impl Future<Output = Trip<S>> + use<S> {
        let bytes = batch.bytes();
        let parts = batch.parts;
        let mut pipeline = Pipeline::with_capacity(parts.len() + 1);
        for part in &parts {
            let addressed = part.settlements.iter().map(batch.address);
            pipeline.add_command(self.command(part.kind, rules, link.incarnation(), addressed));
        }
        if !record.is_empty() {
            pipeline.add_command(self.record(record, rules.done_max_len));
        }
        let moved: u64 = parts.iter().map(|part| part.moved_bytes as u64).sum();
        let time = window.time(bytes) + Duration::from_millis(moved / MOVED_BYTES_A_MS);
        let (epoch, began) = (link.epoch(), Instant::now());
        let replies = link.send(pipeline, time);
        async move {
            let mut replies = replies.await;
            let recorded = replies
                .as_mut()
                .map(|replies| replies.split_off(parts.len().min(replies.len())));
            Trip {
                took: began.elapsed(),
                record_refused: recorded.ok().and_then(refusal),
                replies,
                parts,
                bytes,
                epoch,
            }
        }
    }

    /// The command that settles entries of one kind.
    fn command<'a>(
        &self,
        kind: CommandKind,
        rules: SettlingRules,
        incarnation: &str,
        entries: impl Iterator<Item = (EntryId, Destination<'a>)>,
    ) -> Cmd {
        let mut cmd = match kind {
            CommandKind::Acknowledge => self.acknowledge(incarnation),
            CommandKind::Schedule => self.schedule(incarnation),
            CommandKind::Bury => self.bury(incarnation, rules.dead_letter_max_len),
            CommandKind::PutBack => self.touch(Touch::PutBack),
            CommandKind::PutOff => self.touch(Touch::Idle(rules.put_off_idle)),
        };
        for (id, destination) in entries {
            add_entry(&mut cmd, id, destination);
        }
        cmd
    }

    /// Acknowledges and deletes entries, in one step. It is not fenced, because their jobs ran.
    fn acknowledge(&self, incarnation: &str) -> Cmd {
        let mut cmd = evalsha(&ACKNOWLEDGE, &[&self.keys().stream]);
        cmd.arg(GROUP).arg(incarnation);
        cmd
    }

    /// Moves entries that this consumer owns to the scheduled set.
    fn schedule(&self, incarnation: &str) -> Cmd {
        let keys = self.keys();
        let mut cmd = evalsha(&SCHEDULE, &[&keys.stream, &keys.scheduled, &keys.cancel]);
        cmd.arg(GROUP).arg(self.consumer()).arg(incarnation);
        cmd
    }

    /// Moves entries that this consumer owns to the dead letters, of which `max_len` are kept.
    fn bury(&self, incarnation: &str, max_len: u64) -> Cmd {
        let keys = self.keys();
        let mut cmd = evalsha(&BURY, &[&keys.stream, &keys.dead, &keys.cancel]);
        cmd.arg(GROUP).arg(self.consumer());
        cmd.arg(incarnation).arg(max_len);
        cmd
    }
}

/// What an operator has to mend, if that is why a command was refused.
fn refusal(replies: Vec<Value>) -> Option<Error> {
    let error = replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => Some(Error::from(error)),
        _ => None,
    });
    error.filter(|error| error.class == Class::Operator)
}

/// What a command says of one entry.
fn add_entry(cmd: &mut Cmd, id: EntryId, destination: Destination<'_>) {
    match destination {
        Destination::Gone => {
            cmd.arg(id);
        }
        Destination::Delay { json, job } => {
            let to = Move {
                job,
                entry_id: &id.to_string(),
                entry_ms: id.ms(),
                attempt: job.attempt,
                unknown_for_ms: 0,
                // Nobody starts a job before its delay is over.
                was_started: job.attempt > 0,
            };
            let edits = job::moved(json, to)
                .expect("cannot fail because the job was parsed from the same JSON");
            add_move(cmd, id, "entry", job.delay_ms, &edits);
        }
        Destination::Pause { edits, pause } => {
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            add_move(cmd, id, "now", pause_ms, edits);
        }
        Destination::DeadLetters(letter) => add_letter(cmd, id, letter, ""),
        Destination::Expired { letter, at_ms } => add_letter(cmd, id, letter, &at_ms.to_string()),
        Destination::PutBack { deliveries } | Destination::PutOff { deliveries } => {
            cmd.arg(id).arg(deliveries);
        }
    }
}

fn add_letter(cmd: &mut Cmd, id: EntryId, letter: &DeadLetter, expires_at: &str) {
    cmd.arg(id).arg(letter.reason).arg(&letter.error);
    cmd.arg(letter.attempt)
        .arg(letter.deliveries)
        .arg(expires_at);
}

fn add_move(cmd: &mut Cmd, id: EntryId, from: &str, delay_ms: u64, edits: &job::Edits) {
    cmd.arg(id).arg(from).arg(delay_ms);
    cmd.arg(edits.of_bytes).arg(edits.edits.len());
    for edit in &edits.edits {
        cmd.arg(edit.cut.start).arg(edit.cut.end).arg(&edit.text);
    }
}

impl<S> CommandResult<S> {
    /// The result of the command of `part`, which was sent in `epoch`, from its reply.
    fn of(part: Part<S>, reply: Value, epoch: u64, link: &mut Link) -> Self {
        let Part {
            kind, settlements, ..
        } = part;
        let effects = effects_of(kind, settlements.len(), reply);
        match link.judge_in(epoch, kind.name(), effects) {
            Ok(effects) => Self::Settled(CommandEffects {
                settlements,
                effects: effects.each,
                due_in: effects.due_in,
                dropped: effects.dropped,
            }),
            Err(error) => Self::Failed { error, settlements },
        }
    }
}
