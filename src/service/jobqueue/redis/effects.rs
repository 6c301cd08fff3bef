//! What a command that settles entries did to each of them, as its reply tells.

use std::time::Duration;

use redis::Value;

use super::destination::CommandKind;
use super::error::Error;
use super::reply::{array, flags, int, items, micros};

/// What a settlement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The entry is where the settlement sends it.
    Applied,
    /// Nothing. Another worker owns the entry, because the lease was lost. Or the settlement was
    /// sent before, and its reply was lost. Or the entry was deleted, or has another job than the
    /// one that was read.
    NotOwner,
    /// Nothing. The job's delay is over, or it has not expired, so it stays where it is, to be run.
    Runs,
    /// Nothing. Somebody wants the job cancelled, so it does not move for another attempt.
    Cancelled,
}

/// What one command's reply says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Effects {
    /// Of each settlement, in their order.
    pub(super) each: Vec<Effect>,
    /// When the earliest job that went to the scheduled set is due, if no other one is earlier.
    pub(super) due_in: Option<Duration>,
    /// How many of the oldest dead letters made room.
    pub(super) dropped: u64,
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

/// Reads the reply to a command of this kind that settles `count` entries. A reply that tells of
/// more or fewer entries is an error: nobody can say which of them it is about.
pub(super) fn effects_of(kind: CommandKind, count: usize, reply: Value) -> Result<Effects, Error> {
    if let Value::ServerError(error) = &reply {
        return Err(Error::from(error));
    }
    match kind {
        CommandKind::Acknowledge => acknowledged(&reply, count),
        CommandKind::Schedule => scheduled(reply, count),
        CommandKind::Bury => buried(reply, count),
        CommandKind::PutBack | CommandKind::PutOff => {
            let owned = flags(reply, count, "the touch script")?;
            Ok(Effects::new(moved(owned)))
        }
    }
}

/// The script tells how many entries were still pending. All count as settled, whoever owned
/// them: the jobs ran.
fn acknowledged(reply: &Value, count: usize) -> Result<Effects, Error> {
    let _pending = int(reply).ok_or_else(|| Error::unexpected_reply("the acknowledge script"))?;
    Ok(Effects::new(vec![Effect::Applied; count]))
}

/// The reply of the schedule script.
fn scheduled(reply: Value, count: usize) -> Result<Effects, Error> {
    let shape = || Error::unexpected_reply("the schedule script");
    let [outcomes, due_in] = array(reply).ok_or_else(shape)?;
    Ok(Effects {
        due_in: micros(&due_in),
        ..Effects::new(outcomes_of(outcomes, count).ok_or_else(shape)?)
    })
}

/// The reply of the bury script.
fn buried(reply: Value, count: usize) -> Result<Effects, Error> {
    let shape = || Error::unexpected_reply("the bury script");
    let [outcomes, dropped] = array(reply).ok_or_else(shape)?;
    let dropped = int(&dropped).and_then(|count| count.try_into().ok());
    Ok(Effects {
        dropped: dropped.unwrap_or(0),
        ..Effects::new(outcomes_of(outcomes, count).ok_or_else(shape)?)
    })
}

/// What a script says of each of `count` entries.
fn outcomes_of(outcomes: Value, count: usize) -> Option<Vec<Effect>> {
    let outcomes = items(outcomes).filter(|outcomes| outcomes.len() == count)?;
    let effect = |outcome| match int(outcome) {
        Some(1) => Effect::Applied,
        Some(2) => Effect::Runs,
        Some(3) => Effect::Cancelled,
        _ => Effect::NotOwner,
    };
    Some(outcomes.iter().map(effect).collect())
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

    fn numbers(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().copied().map(Value::Int).collect())
    }

    /// A reply of this kind that tells of these entries, 1 for each that was this consumer's.
    fn reply(kind: CommandKind, each: &[i64], rest: i64) -> Value {
        match kind {
            CommandKind::Acknowledge => Value::Int(rest),
            CommandKind::Schedule | CommandKind::Bury => {
                Value::Array(vec![numbers(each), Value::Int(rest)])
            }
            CommandKind::PutBack | CommandKind::PutOff => numbers(each),
        }
    }

    #[test]
    fn each_settlement_has_the_effect_that_stands_in_its_place() {
        use Effect::{Applied, NotOwner, Runs};
        let read = |kind, each: &[i64], rest| effects_of(kind, 3, reply(kind, each, rest)).unwrap();
        let scheduled = read(CommandKind::Schedule, &[1, 0, 2], 1500);
        assert_eq!(scheduled.each, [Applied, NotOwner, Runs]);
        assert_eq!(scheduled.due_in, Some(Duration::from_micros(1500)));
        assert_eq!(read(CommandKind::Schedule, &[1, 1, 1], -1).due_in, None);
        let buried = read(CommandKind::Bury, &[0, 1, 1], 7);
        assert_eq!(buried.each, [NotOwner, Applied, Applied]);
        assert_eq!(buried.dropped, 7);
        let put_back = read(CommandKind::PutBack, &[1, 1, 0], 0);
        assert_eq!(put_back.each, [Applied, Applied, NotOwner]);
        let finished = read(CommandKind::Acknowledge, &[], 2);
        assert_eq!(finished.each, [Applied; 3], "whoever owned them");
    }

    #[test]
    fn a_reply_that_does_not_tell_of_each_settlement_is_an_error() {
        for kind in [
            CommandKind::Schedule,
            CommandKind::Bury,
            CommandKind::PutBack,
            CommandKind::PutOff,
        ] {
            for each in [&[1, 1][..], &[1, 1, 1, 1]] {
                let read = effects_of(kind, 3, reply(kind, each, 0));
                assert_eq!(read.unwrap_err().class, Class::Operator, "{kind:?}");
            }
            let missing = effects_of(kind, 3, Value::Nil);
            assert_eq!(missing.unwrap_err().class, Class::Operator, "{kind:?}");
        }
        let missing = effects_of(CommandKind::Acknowledge, 3, Value::Nil);
        assert_eq!(missing.unwrap_err().class, Class::Operator);
    }
}
