//! The answer to whether Redis can be used, shared by all who ask within a while.
//!
//! Thousands of health checks a second ask Redis once a second. The question itself is an argument,
//! so this file needs no Redis.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, Shared};

use crate::lock::lock;

/// How long an answer that all is well is shared.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The answer, which may not be there yet: nothing, or the reason why Redis cannot be used.
pub(super) type Health = Shared<BoxFuture<'static, Result<(), String>>>;

/// The last question and its answer.
#[derive(Default)]
pub(super) struct SharedAnswer(Mutex<Option<Question>>);

struct Question {
    /// The generation of the connection on which it was asked.
    generation: u64,
    asked: Instant,
    /// Whether it will be asked again by itself.
    repeats: bool,
    answer: Health,
}

/// What a caller gets.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// The answer of the last question. If `repeat` says so, the question is asked again after
    /// that time.
    Share { repeat: Option<Duration> },
    /// The answer of a new question.
    Ask,
}

/// Decides whether a caller gets the last answer or asks anew. The last question was asked `since`.
/// `is_good` is absent while it has no answer.
///
/// An answer that something is wrong is not shared, because that may be mended by now. An answer
/// that all is well may have become wrong. So Redis is asked again once the answer is too old, even
/// if there is no caller then.
fn decide(since: Duration, is_good: Option<bool>, repeats: bool) -> Decision {
    let left = GOOD_FOR.saturating_sub(since);
    match is_good {
        None => Decision::Share { repeat: None },
        Some(true) if !left.is_zero() => Decision::Share {
            repeat: (!repeats).then_some(left),
        },
        Some(_) => Decision::Ask,
    }
}

impl SharedAnswer {
    /// The answer to the last question, or to a new one. `ask` asks it over a connection of
    /// `generation`, and `repeat` asks again after a time, on its own.
    pub(super) fn get(
        &self,
        generation: u64,
        ask: impl FnOnce() -> Health,
        repeat: impl FnOnce(Duration),
    ) -> Health {
        let mut last = lock(&self.0);
        if let Some(last) = &mut *last
            && last.generation == generation
        {
            let is_good = last.answer.peek().map(Result::is_ok);
            if let Decision::Share { repeat: after } =
                decide(last.asked.elapsed(), is_good, last.repeats)
            {
                if let Some(after) = after {
                    last.repeats = true;
                    repeat(after);
                }
                return last.answer.clone();
            }
        }
        let answer = ask();
        *last = Some(Question {
            generation,
            asked: Instant::now(),
            repeats: false,
            answer: answer.clone(),
        });
        answer
    }

    /// Something has happened since the last question: whoever asks next asks Redis.
    pub(super) fn forget(&self) {
        *lock(&self.0) = None;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn an_answer_is_shared_while_it_is_awaited_or_good() {
        const SHARE: Decision = Decision::Share { repeat: None };
        let (young, old) = (Duration::from_millis(300), GOOD_FOR);
        assert_eq!(decide(old, None, false), SHARE, "it is awaited");
        let repeat = Some(Duration::from_millis(700));
        assert_eq!(
            decide(young, Some(true), false),
            Decision::Share { repeat },
            "the first who shares it has it asked again"
        );
        assert_eq!(decide(young, Some(true), true), SHARE, "that is settled");
        assert_eq!(decide(old, Some(true), true), Decision::Ask);
        assert_eq!(decide(young, Some(false), false), Decision::Ask);
    }

    #[test]
    fn a_new_connection_or_an_event_makes_it_ask_anew() {
        let (shared, asked) = (SharedAnswer::default(), Cell::new(0));
        let get = |generation| {
            let ask = || {
                asked.set(asked.get() + 1);
                let answer = async { Ok(()) }.boxed().shared();
                answer.clone().now_or_never().unwrap().unwrap();
                answer
            };
            drop(shared.get(generation, ask, drop));
            asked.get()
        };
        assert_eq!([get(1), get(1), get(2)], [1, 1, 2]);
        shared.forget();
        assert_eq!(get(2), 3);
    }
}
