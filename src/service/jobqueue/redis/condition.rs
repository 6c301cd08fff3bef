//! What an operator should know of a Redis that can be used: that the queue is paused, that
//! Redis may drop jobs or lose them, that its memory is full.
//!
//! Each change is told once in the log, and what stands is told by `/ready`. What an ACL or a
//! managed server does not answer is left out. What makes Redis unfit for the queue is told by
//! the outage log instead. Nothing here asks Redis or reads a reply.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use humantime::{Rfc3339Timestamp, format_rfc3339_seconds};
use tracing::{info, warn};

use super::findings::{self, Matter};
use super::keys::Keys;
use super::questions::{Question, Said};

/// How often what stands is told again.
const REMINDER: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Standing {
    text: String,
    since: Rfc3339Timestamp,
    told: Instant,
}

/// What stands, and since when. Takes the time as an argument.
#[derive(Debug)]
pub(super) struct Condition {
    /// The address of the Redis, without secrets.
    redis: String,
    state_key: String,
    /// What is not asked again on this connection, because Redis refused to answer.
    refused: BTreeSet<Question>,
    asked: Option<Instant>,
    standing: BTreeMap<Matter, Standing>,
}

impl Condition {
    pub(super) fn new(redis: String, keys: &Keys) -> Self {
        Self {
            redis,
            state_key: keys.state.clone(),
            refused: BTreeSet::new(),
            asked: None,
            standing: BTreeMap::new(),
        }
    }

    /// A connection is new, perhaps as another user or to another server.
    pub(super) fn connected(&mut self) {
        self.refused.clear();
    }

    /// When Redis was asked last.
    pub(super) fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// What is to be asked now.
    pub(super) fn questions(&mut self, now: Instant) -> Vec<Question> {
        self.asked = Some(now);
        let questions = Question::ALL.into_iter();
        questions
            .filter(|question| !self.refused.contains(question))
            .collect()
    }

    /// Takes in what Redis answered.
    pub(super) fn answered(&mut self, question: Question, said: Said<'_>, now: Instant) {
        match said {
            Said::OutOfMemory(full) => {
                self.set(Matter::OutOfMemory, full.then(findings::out_of_memory), now);
            }
            Said::Paused(paused) => self.paused(paused, now),
            Said::Info(text) => {
                let was_nearly_full = self.standing.contains_key(&Matter::MemoryNearlyFull);
                for (matter, text) in findings::of_info(&text, was_nearly_full) {
                    self.set(matter, text, now);
                }
            }
            Said::Refused => {
                self.refused.insert(question);
            }
            Said::Nothing => {}
        }
    }

    /// The queue was found to be paused, or not to be.
    pub(super) fn paused(&mut self, paused: bool, now: Instant) {
        let text = paused.then(|| findings::paused(&self.state_key));
        self.set(Matter::Paused, text, now);
    }

    /// Whether Redis has no memory for another job.
    pub(super) fn is_full(&self) -> Option<String> {
        let full = self.standing.get(&Matter::OutOfMemory)?;
        Some(format!("Redis at {} is {}", self.redis, full.text))
    }

    /// All troubles that last, each with the time since when it was seen.
    pub(super) fn warnings(&self) -> Vec<String> {
        let standing = self.standing.values();
        standing
            .map(|Standing { text, since, .. }| format!("{text}, since {since}"))
            .collect()
    }

    /// Tells again what has been standing for long.
    pub(super) fn remind(&mut self, now: Instant) {
        for standing in self.standing.values_mut() {
            if now - standing.told >= REMINDER {
                standing.told = now;
                let Standing { text, since, .. } = standing;
                warn!(redis = %self.redis, %since, "still: {text}");
            }
        }
    }

    fn set(&mut self, matter: Matter, text: Option<String>, now: Instant) {
        match (text, self.standing.get_mut(&matter)) {
            // Its figures may have changed.
            (Some(text), Some(standing)) => standing.text = text,
            (Some(text), None) => {
                warn!(redis = %self.redis, "{text}");
                let standing = Standing {
                    text,
                    since: format_rfc3339_seconds(SystemTime::now()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn condition() -> Condition {
        Condition::new("localhost:6379".to_owned(), &Keys::new("mail"))
    }

    #[test]
    fn what_info_tells_stands_until_it_is_over() {
        let (mut condition, now) = (condition(), Instant::now());
        for (role, stands) in [("slave", 1), ("slave", 1), ("master", 0)] {
            let said = Said::Info(format!("role:{role}\r\n").into());
            condition.answered(Question::Info, said, now);
            assert_eq!(condition.warnings().len(), stands, "{role}");
        }
    }

    #[test]
    fn a_full_memory_is_full_until_there_is_room() {
        let (mut condition, now) = (condition(), Instant::now());
        condition.answered(Question::Memory, Said::OutOfMemory(true), now);
        let full = condition.is_full().unwrap();
        assert!(full.contains("localhost:6379 is out of memory"), "{full}");
        assert_eq!(condition.warnings().len(), 1);
        condition.answered(Question::Memory, Said::OutOfMemory(false), now);
        assert_eq!(condition.is_full(), None);
        assert_eq!(condition.warnings(), [""; 0]);
    }

    #[test]
    fn what_is_refused_is_asked_again_on_the_next_connection_only() {
        let (mut condition, now) = (condition(), Instant::now());
        assert_eq!(condition.questions(now), Question::ALL);
        condition.answered(Question::Info, Said::Refused, now);
        condition.answered(Question::Memory, Said::OutOfMemory(true), now);
        let others = [Question::Memory, Question::Paused];
        assert_eq!(condition.questions(now), others);
        condition.connected();
        assert_eq!(condition.questions(now), Question::ALL);
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
