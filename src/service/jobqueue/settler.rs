//! Tells Redis how deliveries ended.
//!
//! Group commit: everything that ended while the last batch was on its way goes out
//! together in one round trip, without a timer. Through an outage the outcomes are
//! kept and sent afterwards, so that a job that finished is not run again. What got
//! no reply is sent again: each outcome changes nothing the second time.

use std::sync::Arc;
use std::time::Instant;

use redis::{Pipeline, Value};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::broker::{Broker, Due, Move};
use super::connection::OPERATOR_RETRY;
use super::error::{Class, Error};
use super::held::{Held, Outcome, Settlement};
use super::job;
use super::link::Link;
use super::promoter::Alarm;
use super::reply::{self, Answer};
use super::worker::Worker;

/// How many outcomes go out in one round trip.
const MAX_BATCH: usize = 1000;
/// How many entries one acknowledgement names: Redis does it in one go.
const MAX_ACKNOWLEDGED: usize = 500;
/// How many entries one script call moves, and how many bytes of jobs; a round trip
/// sends no more bytes either.
const MAX_SCRIPTED: usize = 100;
const MAX_SCRIPTED_BYTES: usize = 1024 * 1024;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Settler {
    pub(crate) broker: Arc<Broker>,
    pub(crate) held: Arc<Held>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) link: Link,
    pub(crate) dead_letter_max_len: u64,
    /// Nothing more will end: settle what there is, then return.
    pub(crate) finish: CancellationToken,
    pub(crate) refused: Refused,
}

/// Outcomes that Redis refuses until an operator mends something. The others go on.
#[derive(Debug)]
pub(crate) struct Refused {
    settlements: Vec<Settlement>,
    /// When to try them again.
    retry_at: Instant,
    /// They have been tried for the last time.
    given_up: bool,
}

impl Refused {
    pub(crate) fn none() -> Self {
        Self {
            settlements: Vec::new(),
            retry_at: Instant::now(),
            given_up: false,
        }
    }
}

/// What settles an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Acknowledge,
    Schedule,
    Bury,
    PutBack,
}

/// Outcomes that one command settles.
#[derive(Debug)]
struct Part {
    command: Command,
    settlements: Vec<Settlement>,
    bytes: usize,
}

impl Settler {
    /// Settles until [`Self::finish`] and nothing is left that Redis takes. Dropped
    /// earlier, it leaves outcomes unsettled, as [`Held::unsettled`] tells.
    pub(crate) async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.link.connect().await;
            self.settle(batch).await;
        }
    }

    async fn next_batch(&mut self) -> Option<Vec<Settlement>> {
        loop {
            let finishing = self.finish.is_cancelled();
            let mut batch = self.held.take_outcomes(MAX_BATCH);
            if self.refused.retry_at <= Instant::now() || (finishing && !self.refused.given_up) {
                batch.append(&mut self.refused.settlements);
                self.refused.given_up = finishing;
            }
            if !batch.is_empty() {
                return Some(batch);
            }
            if finishing {
                return None;
            }
            let retry = tokio::time::sleep_until(self.refused.retry_at.into());
            tokio::select! {
                () = self.held.wait_for_outcomes() => {}
                () = retry, if !self.refused.settlements.is_empty() => {}
                () = self.finish.cancelled() => {}
            }
        }
    }

    async fn settle(&mut self, batch: Vec<Settlement>) {
        for parts in round_trips(split(batch)) {
            self.settle_parts(parts).await;
        }
    }

    async fn settle_parts(&mut self, parts: Vec<Part>) {
        let mut pipeline = Pipeline::new();
        for part in &parts {
            self.write(part, &mut pipeline);
        }
        match self.link.send(&pipeline).await {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                for part in parts {
                    let answer = self.read(&part, replies.next().unwrap_or_default());
                    let answer = answer.and_then(|answers| part.complete(answers));
                    let answer = self.link.judge(part.command.name(), answer);
                    self.conclude(part, answer);
                }
            }
            Err(error) => {
                for part in parts {
                    self.conclude(part, Err(error.clone()));
                }
            }
        }
    }

    fn write(&self, part: &Part, pipeline: &mut Pipeline) {
        let settlements = part.settlements.iter();
        match part.command {
            Command::Acknowledge => {
                let ids: Vec<_> = settlements.map(|settlement| settlement.id).collect();
                self.broker.acknowledge(pipeline, &ids);
            }
            Command::Schedule => {
                let moves: Vec<Move> = settlements.filter_map(to_move).collect();
                self.broker.schedule(pipeline, &moves);
            }
            Command::Bury => {
                let letters = settlements.filter_map(|settlement| match &settlement.outcome {
                    Outcome::Dead(letter) => Some((settlement.id, letter)),
                    _ => None,
                });
                self.broker
                    .bury(pipeline, self.dead_letter_max_len, letters);
            }
            Command::PutBack => {
                let counts = settlements.filter_map(|settlement| match settlement.outcome {
                    Outcome::PutBack { deliveries } => Some((settlement.id, deliveries)),
                    _ => None,
                });
                self.broker.put_back(pipeline, counts);
            }
        }
    }

    /// What became of each of the part's outcomes.
    fn read(&self, part: &Part, reply: Value) -> Result<Vec<Answer>, Error> {
        if let Value::ServerError(error) = &reply {
            return Err(Error::from(error));
        }
        let moved = |owned: bool| {
            if owned {
                Answer::Applied
            } else {
                Answer::NotOwned
            }
        };
        match part.command {
            Command::Acknowledge => {
                reply::acknowledged(&reply)?;
                // Whoever owned them: the jobs ran.
                Ok(vec![Answer::Applied; part.settlements.len()])
            }
            Command::Schedule => {
                let (moved, due_in) = reply::scheduled(reply)?;
                if let Some(due_in) = due_in {
                    self.alarm.set(due_in);
                }
                Ok(moved)
            }
            Command::Bury => {
                let (owned, dropped) = reply::buried(reply)?;
                if dropped > 0 {
                    let kept = self.dead_letter_max_len;
                    warn!(dropped, kept, "dropped the oldest dead letters");
                }
                Ok(owned.into_iter().map(moved).collect())
            }
            Command::PutBack => Ok(reply::owned(reply)?.into_iter().map(moved).collect()),
        }
    }

    fn conclude(&mut self, part: Part, answer: Result<Vec<Answer>, Error>) {
        let outcomes = match answer {
            Ok(outcomes) => outcomes,
            Err(error) if error.class == Class::Operator => {
                self.refused.settlements.extend(part.settlements);
                self.refused.retry_at = Instant::now() + OPERATOR_RETRY;
                return;
            }
            Err(_) => return self.held.unsettle(part.settlements),
        };
        let mut settled = Vec::with_capacity(part.settlements.len());
        for (settlement, moved) in part.settlements.into_iter().zip(outcomes) {
            match (moved, settlement.outcome) {
                (Answer::Due, Outcome::Park(delivery)) => {
                    let now = Instant::now();
                    let called_for = self.held.resume(*delivery, now);
                    if self.worker.stop.is_cancelled() {
                        self.held.put_back_ready(now);
                    }
                    self.worker.start_runner(called_for);
                }
                // Not owned is settled as well: the lease was lost and the entry is
                // another worker's, or this is the answer to a repeated command.
                _ => settled.push(settlement.id),
            }
        }
        self.held.settled(settled.into_iter());
    }
}

impl Part {
    /// The answers, when there is one for each outcome.
    fn complete(&self, answers: Vec<Answer>) -> Result<Vec<Answer>, Error> {
        if answers.len() == self.settlements.len() {
            Ok(answers)
        } else {
            Err(Error::unexpected_reply(self.command.name()))
        }
    }
}

impl Command {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Acknowledge,
            Outcome::Park(_) | Outcome::Retry { .. } => Self::Schedule,
            Outcome::Dead(_) => Self::Bury,
            Outcome::PutBack { .. } => Self::PutBack,
        }
    }

    /// As the log calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Schedule => "schedule",
            Self::Bury => "bury",
            Self::PutBack => "put back",
        }
    }

    fn max_entries(self) -> usize {
        match self {
            Self::Acknowledge => MAX_ACKNOWLEDGED,
            _ => MAX_SCRIPTED,
        }
    }
}

/// Sorts outcomes by the command that settles them, within the commands' limits.
fn split(batch: Vec<Settlement>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for settlement in batch {
        let command = Command::of(&settlement.outcome);
        let bytes = bytes(&settlement.outcome);
        // The latest part of a kind is the one that may have room.
        let open = parts.iter_mut().rev().find(|part| part.command == command);
        match open {
            Some(part)
                if part.settlements.len() < command.max_entries()
                    && part.bytes + bytes <= MAX_SCRIPTED_BYTES =>
            {
                part.settlements.push(settlement);
                part.bytes += bytes;
            }
            _ => parts.push(Part {
                command,
                settlements: vec![settlement],
                bytes,
            }),
        }
    }
    parts
}

/// Parts that go out together: as many as their bytes allow. What is sent in one go has
/// to arrive within the time that one reply may take, or it would be sent again for ever.
fn round_trips(parts: Vec<Part>) -> Vec<Vec<Part>> {
    let mut trips: Vec<Vec<Part>> = Vec::new();
    let mut bytes = 0;
    for part in parts {
        bytes += part.bytes;
        match trips.last_mut() {
            Some(trip) if bytes <= MAX_SCRIPTED_BYTES => trip.push(part),
            _ => {
                bytes = part.bytes;
                trips.push(vec![part]);
            }
        }
    }
    trips
}

/// How many bytes of a job or a dead letter an outcome sends.
fn bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Park(delivery) => delivery.json.len(),
        Outcome::Retry { job, .. } => job.len(),
        Outcome::Dead(letter) => letter
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum(),
        Outcome::Done | Outcome::PutBack { .. } => 0,
    }
}

fn to_move(settlement: &Settlement) -> Option<Move> {
    let id = settlement.id;
    match &settlement.outcome {
        Outcome::Park(delivery) => Some(Move {
            id,
            due: Due::AfterEntry(delivery.job.delay_ms),
            job: job::moved(&delivery.json, &id.to_string(), delivery.job.attempt)
                .expect("cannot fail because the job was parsed from the same JSON"),
        }),
        Outcome::Retry { job, backoff } => Some(Move {
            id,
            due: Due::AfterNow(u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX)),
            job: job.clone(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settlements(count: u64, outcome: impl Fn() -> Outcome) -> Vec<Settlement> {
        let one = |n: u64| Settlement {
            id: format!("{n}-0").parse().unwrap(),
            outcome: outcome(),
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn an_acknowledgement_names_at_most_five_hundred_entries() {
        let sizes = |count| -> Vec<usize> {
            let parts = split(settlements(count, || Outcome::Done));
            parts.iter().map(|part| part.settlements.len()).collect()
        };
        assert_eq!(sizes(500), [500]);
        assert_eq!(sizes(501), [500, 1]);
    }

    #[test]
    fn a_script_call_moves_a_bounded_number_of_bytes() {
        let large = || Outcome::Retry {
            job: vec![b'x'; MAX_SCRIPTED_BYTES / 2],
            backoff: Duration::ZERO,
        };
        let parts = split(settlements(5, large));
        let sizes: Vec<usize> = parts.iter().map(|part| part.settlements.len()).collect();
        assert_eq!(sizes, [2, 2, 1]);
        let mut batch = settlements(5, large);
        batch.extend(settlements(3, || Outcome::Done));
        let trips = round_trips(split(batch));
        let sizes: Vec<usize> = trips.iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 2], "what has no bytes goes along");
    }

    #[test]
    fn outcomes_of_one_kind_share_a_command_whatever_lies_between() {
        let mut batch = settlements(3, || Outcome::Done);
        batch.extend(settlements(2, || Outcome::PutBack { deliveries: 1 }));
        batch.extend(settlements(3, || Outcome::Done));
        let parts = split(batch);
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].settlements.len(), 6);
    }
}
