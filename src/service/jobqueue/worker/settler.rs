//! Tells Redis how deliveries ended.
//!
//! Group commit: everything that ended while the last batch was on its way goes out
//! together in one round trip, without a timer. Through an outage the outcomes are
//! kept and sent afterwards, so that a job that finished is not run again. What got
//! no reply is sent again: each outcome changes nothing the second time.
//!
//! After an outage it first finds out whether the entries are still the ones that were
//! read, since Redis may have come back without its newest data.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};
use rustc_hash::FxHashSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::held::Held;
use super::outcome::{Delivery, Outcome, Settlement};
use super::promoter::Alarm;
use super::runner::Runners;
use super::trail::{self, Step};
use crate::service::jobqueue::job;
use crate::service::jobqueue::redis::broker::{Broker, Due, Move};
use crate::service::jobqueue::redis::connector::OPERATOR_RETRY;
use crate::service::jobqueue::redis::error::{Class, Error};
use crate::service::jobqueue::redis::link::Link;
use crate::service::jobqueue::redis::reply::{self, Effect, EntryId};
use crate::service::jobqueue::redis::window::{LONG_TRIP, NAME_BYTES, Window};

/// How many outcomes go out in one round trip.
const MAX_BATCH: usize = 1000;
/// How many entries one acknowledgement names: Redis does it in one go.
const MAX_ACKNOWLEDGED: usize = 500;
/// How many entries one script call moves, and how many bytes of jobs.
const MAX_SCRIPTED: usize = 100;
const MAX_SCRIPTED_BYTES: usize = 1024 * 1024;
/// How many bytes Redis moves in a millisecond at least.
const MOVED_BYTES_A_MS: u64 = 50_000;
/// What a script call has on the wire, about.
const SCRIPT_BYTES: usize = 2048;
/// How many outcomes wait for an operator. Those beyond go back to Redis, where they are
/// delivered again after a while: what waits here takes memory and renewals.
const MAX_REFUSED: usize = 4096;
const DROPPED: &str = "dropped the oldest dead letters";
const LOST: &str = "entries that this worker runs are gone from redis: it came back without its \
    newest data, or somebody deleted them";
/// So much of a job's SHA-1 tells it from another one that got its entry id.
const DIGEST_DIGITS: usize = 16;
const MAX_RECOGNISED: usize = 250;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Settler {
    pub(crate) broker: Arc<Broker>,
    pub(crate) held: Arc<Held>,
    pub(crate) runners: Arc<Runners>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) link: Link,
    pub(crate) dead_letter_max_len: u64,
    /// What is put off looks idle for so long, so that others claim it when it is tried
    /// again here.
    pub(crate) put_off_idle: Duration,
    /// Nothing more will end: settle what there is, then return.
    pub(crate) finish: CancellationToken,
    pub(crate) state: Settling,
}

/// What a [`Settler`] keeps.
#[derive(Debug)]
pub(crate) struct Settling {
    /// The epoch in which all that is held was recognised.
    epoch: u64,
    window: Window,
    refused: Refused,
}

/// Outcomes that Redis refuses until an operator mends something. The others go on.
#[derive(Debug)]
struct Refused {
    settlements: Vec<Settlement>,
    /// When to try them again.
    retry_at: Instant,
    /// They have been tried for the last time.
    given_up: bool,
}

impl Settling {
    pub(crate) fn new() -> Self {
        Self {
            epoch: 0,
            window: Window::new(LONG_TRIP),
            refused: Refused {
                settlements: Vec::new(),
                retry_at: Instant::now(),
                given_up: false,
            },
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
    PutOff,
}

/// Outcomes that one command settles.
#[derive(Debug)]
struct Part {
    command: Command,
    settlements: Vec<Settlement>,
    /// What the command moves within Redis.
    moved_bytes: usize,
    /// What the command has on the wire.
    sent_bytes: usize,
}

impl Settler {
    /// Settles until [`Self::finish`] and nothing is left that Redis takes. Dropped
    /// earlier, it leaves outcomes unsettled, as [`Held::unsettled`] tells.
    pub(crate) async fn run(mut self) {
        while self.wait_for_work().await {
            self.link.connect().await;
            if self.link.epoch() != self.state.epoch && self.recognise().await.is_err() {
                continue;
            }
            let batch = self.next_batch();
            self.settle(batch).await;
            self.count_refused();
        }
    }

    /// Waits until there are outcomes to settle, or something else to do. False at the end.
    async fn wait_for_work(&mut self) -> bool {
        loop {
            let recognised = self.link.epoch() == self.state.epoch;
            if !recognised || self.held.has_outcomes() || self.refused_are_due() {
                return true;
            }
            if self.finish.is_cancelled() {
                return false;
            }
            let refused = &self.state.refused;
            let retry = tokio::time::sleep_until(refused.retry_at.into());
            tokio::select! {
                () = self.held.wait_for_outcomes() => {}
                () = retry, if !refused.settlements.is_empty() => {}
                () = self.finish.cancelled() => {}
                () = self.link.next_epoch() => return true,
            }
        }
    }

    fn refused_are_due(&self) -> bool {
        let refused = &self.state.refused;
        let last_time = self.finish.is_cancelled() && !refused.given_up;
        !refused.settlements.is_empty() && (refused.retry_at <= Instant::now() || last_time)
    }

    fn next_batch(&mut self) -> Vec<Settlement> {
        let mut batch = self.held.take_outcomes(MAX_BATCH);
        if self.refused_are_due() {
            batch.append(&mut self.state.refused.settlements);
            self.state.refused.given_up = self.finish.is_cancelled();
        }
        batch
    }

    /// Finds out which of what is held is still the entry of its id.
    async fn recognise(&mut self) -> Result<(), Error> {
        let epoch = self.link.epoch();
        self.held
            .unsettle(std::mem::take(&mut self.state.refused.settlements));
        self.held.set_refused(0);
        let deliveries = self.held.begin_epoch(epoch);
        let mut same = FxHashSet::default();
        for chunk in deliveries.chunks(MAX_RECOGNISED) {
            let digests: Vec<(EntryId, String)> = chunk.iter().map(|one| digest(one)).collect();
            let answers = self.broker.recognise(&mut self.link, &digests).await;
            if let Err(error) = &answers
                && error.class == Class::Operator
            {
                tokio::time::sleep(OPERATOR_RETRY).await;
            }
            let answered = chunk.iter().zip(answers?).filter(|(_, same)| *same);
            same.extend(answered.map(|(delivery, _)| delivery.id));
        }
        let lost = self.held.recognised(epoch, &same);
        if lost > 0
            && let Some(suppressed) = self.runners.log.admit_many(LOST, "", "", lost as u64)
        {
            warn!(lost, suppressed, "{LOST}");
        }
        self.state.epoch = epoch;
        self.state.window.connected();
        Ok(())
    }

    async fn settle(&mut self, batch: Vec<Settlement>) {
        let mut parts: VecDeque<Part> = split(batch, self.state.window.bytes()).into();
        while !parts.is_empty() {
            let trip = next_trip(&mut parts, self.state.window.bytes());
            if !self.settle_parts(trip).await {
                let left = parts.into_iter().rev();
                return left.for_each(|part| self.held.unsettle(part.settlements));
            }
        }
    }

    /// False when Redis did not answer.
    async fn settle_parts(&mut self, parts: Vec<Part>) -> bool {
        let mut pipeline = Pipeline::new();
        for part in &parts {
            self.write(part, &mut pipeline);
        }
        let bytes = parts.iter().map(|part| part.sent_bytes).sum();
        let moved = parts.iter().map(|part| part.moved_bytes as u64);
        let time = self.state.window.time(bytes)
            + Duration::from_millis(moved.sum::<u64>() / MOVED_BYTES_A_MS);
        let began = Instant::now();
        match self.link.send(&pipeline, time).await {
            Ok(replies) => {
                self.state.window.passed(bytes, began.elapsed());
                let mut replies = replies.into_iter();
                for part in parts {
                    let answer = self.read(&part, replies.next().unwrap_or_default());
                    let answer = answer.and_then(|answers| part.complete(answers));
                    let answer = self.link.judge(part.command.name(), answer);
                    self.conclude(part, answer);
                }
                true
            }
            Err(_) => {
                self.state.window.lost(bytes);
                for part in parts.into_iter().rev() {
                    self.held.unsettle(part.settlements);
                }
                false
            }
        }
    }

    fn write(&self, part: &Part, pipeline: &mut Pipeline) {
        let settlements = part.settlements.iter();
        let incarnation = self.link.incarnation();
        match part.command {
            Command::Acknowledge => {
                let ids: Vec<_> = settlements.map(|settlement| settlement.id).collect();
                self.broker.acknowledge(pipeline, incarnation, &ids);
            }
            Command::Schedule => {
                let moves: Vec<Move> = settlements.filter_map(to_move).collect();
                self.broker.schedule(pipeline, incarnation, &moves);
            }
            Command::Bury => {
                let deaths = settlements.filter_map(|settlement| match &settlement.outcome {
                    Outcome::Dead(death) => Some((settlement.id, death)),
                    _ => None,
                });
                self.broker
                    .bury(pipeline, incarnation, self.dead_letter_max_len, deaths);
            }
            Command::PutBack | Command::PutOff => {
                let counts = settlements.filter_map(|settlement| match settlement.outcome {
                    Outcome::PutBack { deliveries } | Outcome::PutOff { deliveries } => {
                        Some((settlement.id, deliveries))
                    }
                    _ => None,
                });
                let off = part.command == Command::PutOff;
                let idle = off.then_some(self.put_off_idle);
                self.broker.put_back(pipeline, idle, counts);
            }
        }
    }

    /// What became of each of the part's outcomes.
    fn read(&self, part: &Part, reply: Value) -> Result<Vec<Effect>, Error> {
        if let Value::ServerError(error) = &reply {
            return Err(Error::from(error));
        }
        let moved = |owned: bool| {
            if owned {
                Effect::Applied
            } else {
                Effect::NotOwner
            }
        };
        match part.command {
            Command::Acknowledge => {
                reply::acknowledged(&reply)?;
                // Whoever owned them: the jobs ran.
                Ok(vec![Effect::Applied; part.settlements.len()])
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
                    self.tell_dropped(dropped.unsigned_abs());
                }
                Ok(owned.into_iter().map(moved).collect())
            }
            Command::PutBack | Command::PutOff => {
                Ok(reply::owned(reply)?.into_iter().map(moved).collect())
            }
        }
    }

    fn tell_dropped(&self, dropped: u64) {
        if let Some(suppressed) = self.runners.log.admit_many(DROPPED, "", "", dropped) {
            let kept = self.dead_letter_max_len;
            warn!(dropped, kept, suppressed, "{DROPPED}");
        }
    }

    fn conclude(&mut self, part: Part, answer: Result<Vec<Effect>, Error>) {
        let answers = match answer {
            Ok(answers) => answers,
            Err(error) if error.class == Class::Operator => return self.refuse(part),
            Err(_) => return self.held.unsettle(part.settlements),
        };
        let mut settled = Vec::with_capacity(part.settlements.len());
        let tells = trail::is_on();
        for (settlement, answer) in part.settlements.into_iter().zip(answers) {
            match &settlement.outcome {
                Outcome::Park(delivery) if answer == Effect::AlreadyDue => {
                    let now = Instant::now();
                    let called_for = self.held.resume(Arc::clone(delivery), now);
                    if self.runners.stop.is_cancelled() {
                        self.held.put_back_ready(now);
                    }
                    self.runners.start_runner(called_for);
                }
                // Not owned is settled as well: the lease was lost and the entry is
                // another worker's, or this is the answer to a repeated command.
                _ => {
                    if tells {
                        self.tell(&settlement, answer);
                    }
                    settled.push(settlement);
                }
            }
        }
        self.held.settled(settled.into_iter());
    }

    /// What Redis has confirmed of a job, or refused.
    fn tell(&self, settlement: &Settlement, answer: Effect) {
        let step = match (&settlement.outcome, answer) {
            // Its end was told, and counts whoever owns it.
            (Outcome::Done, _) => return,
            // Told with its job when it was decided.
            (Outcome::LeaveToOthers { .. }, Effect::Applied) => return,
            (_, Effect::NotOwner | Effect::AlreadyDue) => Step::LeaseLost,
            (Outcome::Park(_), _) => Step::Parked,
            (Outcome::Retry { .. }, _) => Step::Retried,
            (Outcome::Dead(_), _) => Step::Buried,
            (Outcome::PutBack { .. } | Outcome::PutOff { .. }, _) => Step::PutBack,
        };
        match self.held.delivery_of(settlement) {
            Some(delivery) => delivery.tell(step),
            None => {
                let job_id = match &settlement.outcome {
                    Outcome::Dead(death) => death.job_id.as_deref(),
                    _ => None,
                };
                step.tell_of_entry(settlement.id, job_id);
            }
        }
    }

    /// Keeps what an operator must mend something for, and puts off what is beyond the
    /// bound: it is delivered again and ends in the same way, until that is mended. But the
    /// fact that a job ran is kept in any case, and stops the fetching when there are many.
    fn refuse(&mut self, part: Part) {
        let refused = &mut self.state.refused;
        refused.retry_at = Instant::now() + OPERATOR_RETRY;
        let room = match part.command {
            Command::Acknowledge => part.settlements.len(),
            _ => MAX_REFUSED.saturating_sub(refused.settlements.len()),
        };
        let mut kept = part.settlements;
        let beyond = kept.split_off(room.min(kept.len()));
        refused.settlements.extend(kept);
        match part.command {
            // Their leases run out.
            Command::PutBack | Command::PutOff => self.held.settled(beyond.into_iter()),
            _ => self.held.put_off(beyond),
        }
    }

    /// Tells how many outcomes wait for an operator and hold up nothing.
    fn count_refused(&self) {
        let refused = self.state.refused.settlements.iter();
        let ran = |settlement: &&Settlement| matches!(settlement.outcome, Outcome::Done);
        self.held
            .set_refused(refused.filter(|one| !ran(one)).count());
    }
}

impl Part {
    fn new(command: Command) -> Self {
        Self {
            command,
            settlements: Vec::new(),
            moved_bytes: 0,
            sent_bytes: SCRIPT_BYTES,
        }
    }

    /// Whether another outcome fits, when a round trip may have `window` bytes.
    fn has_room(&self, moved: usize, sent: usize, window: usize) -> bool {
        self.settlements.is_empty()
            || (self.settlements.len() < self.command.max_entries()
                && self.moved_bytes + moved <= MAX_SCRIPTED_BYTES
                && self.sent_bytes + sent <= window)
    }

    /// The answers, when there is one for each outcome.
    fn complete(&self, answers: Vec<Effect>) -> Result<Vec<Effect>, Error> {
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
            Outcome::Park(_) | Outcome::Retry { .. } | Outcome::LeaveToOthers { .. } => {
                Self::Schedule
            }
            Outcome::Dead(_) => Self::Bury,
            Outcome::PutBack { .. } => Self::PutBack,
            Outcome::PutOff { .. } => Self::PutOff,
        }
    }

    /// As the log calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Schedule => "schedule",
            Self::Bury => "bury",
            Self::PutBack | Self::PutOff => "put back",
        }
    }

    fn max_entries(self) -> usize {
        match self {
            Self::Acknowledge => MAX_ACKNOWLEDGED,
            _ => MAX_SCRIPTED,
        }
    }
}

/// Sorts outcomes by the command that settles them, within the commands' limits and the
/// `window` of a round trip.
fn split(batch: Vec<Settlement>, window: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for settlement in batch {
        let command = Command::of(&settlement.outcome);
        let (moved, sent) = bytes(&settlement.outcome);
        // The latest part of a kind is the one that may have room.
        let latest = parts.iter().rposition(|part| part.command == command);
        let open = latest.filter(|latest| parts[*latest].has_room(moved, sent, window));
        let open = open.unwrap_or_else(|| {
            parts.push(Part::new(command));
            parts.len() - 1
        });
        let part = &mut parts[open];
        part.settlements.push(settlement);
        part.moved_bytes += moved;
        part.sent_bytes += sent;
    }
    parts
}

/// Takes the parts that go out together: as many as the `window` allows, and one at least.
/// What is sent in one go has to arrive within the time that one reply may take, or it
/// would be sent again for ever.
fn next_trip(parts: &mut VecDeque<Part>, window: usize) -> Vec<Part> {
    let mut bytes = 0;
    let fits = |part: &&Part| {
        bytes += part.sent_bytes;
        bytes <= window
    };
    let count = parts.iter().take_while(fits).count().max(1);
    parts.drain(..count.min(parts.len())).collect()
}

/// How many bytes an outcome moves within Redis, and about how many it has on the wire.
fn bytes(outcome: &Outcome) -> (usize, usize) {
    let (moved, sent) = match outcome {
        Outcome::Done | Outcome::PutBack { .. } | Outcome::PutOff { .. } => (0, 0),
        // Its edits take its delay away, and may name it.
        Outcome::Park(delivery) => (delivery.json.len(), 4 * NAME_BYTES),
        Outcome::Retry { edits, .. } | Outcome::LeaveToOthers { edits, .. } => {
            let texts = edits.edits.iter().map(|edit| NAME_BYTES + edit.text.len());
            (edits.of_bytes, NAME_BYTES + texts.sum::<usize>())
        }
        Outcome::Dead(death) => (death.bytes, 2 * NAME_BYTES + death.error.len()),
    };
    (moved, NAME_BYTES + sent)
}

fn to_move(settlement: &Settlement) -> Option<Move> {
    let id = settlement.id;
    match &settlement.outcome {
        Outcome::Park(delivery) => Some(Move {
            id,
            due: Due::AfterEntry(delivery.job.delay_ms),
            edits: job::moved(&delivery.json, &id.to_string(), delivery.job.attempt, 0)
                .expect("cannot fail because the job was parsed from the same JSON"),
        }),
        Outcome::Retry {
            edits,
            backoff: wait,
        }
        | Outcome::LeaveToOthers { edits, pause: wait } => Some(Move {
            id,
            due: Due::AfterNow(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            edits: edits.clone(),
        }),
        _ => None,
    }
}

/// What tells the job of an entry from another one that gets the same id.
fn digest(delivery: &Delivery) -> (EntryId, String) {
    let mut digest = sha1_smol::Sha1::from(&delivery.json).digest().to_string();
    digest.truncate(DIGEST_DIGITS);
    (delivery.id, digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::job::Edits;
    use crate::service::jobqueue::worker::held::Admission;

    const WINDOW: usize = 1024 * 1024;

    fn settlements(outcomes: Vec<Outcome>) -> Vec<Settlement> {
        let held = Held::new(1);
        let mut admission = Admission::default();
        for (n, outcome) in outcomes.into_iter().enumerate() {
            let id = format!("{n}-0").parse().unwrap();
            admission.settled.push((id, 1, outcome));
        }
        assert!(!held.admit(admission, 0, Instant::now()));
        held.take_outcomes(usize::MAX)
    }

    fn done(count: usize) -> Vec<Outcome> {
        (0..count).map(|_| Outcome::Done).collect()
    }

    fn retries(count: usize, of_bytes: usize) -> Vec<Outcome> {
        let edits = Edits {
            of_bytes,
            edits: Vec::new(),
        };
        let backoff = Duration::ZERO;
        let retry = |_| Outcome::Retry {
            edits: edits.clone(),
            backoff,
        };
        (0..count).map(retry).collect()
    }

    fn sizes(parts: &[Part]) -> Vec<usize> {
        parts.iter().map(|part| part.settlements.len()).collect()
    }

    #[test]
    fn an_acknowledgement_names_at_most_five_hundred_entries() {
        let sizes = |count| sizes(&split(settlements(done(count)), WINDOW));
        assert_eq!(sizes(500), [500]);
        assert_eq!(sizes(501), [500, 1]);
    }

    #[test]
    fn a_script_call_moves_a_bounded_number_of_bytes() {
        let large = retries(5, MAX_SCRIPTED_BYTES / 2);
        assert_eq!(sizes(&split(settlements(large), WINDOW)), [2, 2, 1]);
        let larger = retries(2, 2 * MAX_SCRIPTED_BYTES);
        assert_eq!(sizes(&split(settlements(larger), WINDOW)), [1, 1]);
    }

    #[test]
    fn a_round_trip_has_no_more_bytes_than_the_line_carries() {
        let window = SCRIPT_BYTES + 10 * NAME_BYTES;
        let mut outcomes = done(25);
        outcomes.extend(retries(1, 0));
        let mut parts: VecDeque<Part> = split(settlements(outcomes), window).into();
        let trip = next_trip(&mut parts, window);
        assert_eq!(sizes(&trip), [10]);
        let trip = next_trip(&mut parts, 10);
        assert_eq!(sizes(&trip), [10], "one part at least");
        let trip = next_trip(&mut parts, 3 * window);
        assert_eq!(sizes(&trip), [5, 1], "parts of all kinds go together");
        assert!(parts.is_empty());
    }

    #[test]
    fn outcomes_of_one_kind_share_a_command_whatever_lies_between() {
        let mut batch = done(3);
        batch.extend((0..2).map(|_| Outcome::PutBack { deliveries: 1 }));
        batch.extend(done(3));
        let parts = split(settlements(batch), WINDOW);
        assert_eq!(sizes(&parts), [6, 2]);
    }
}
