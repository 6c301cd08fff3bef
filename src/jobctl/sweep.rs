//! What is done to all jobs of a state that match a filter, with a question first.

use serde::Serialize;

use super::ask::confirm;
use super::deed::Deed;
use super::desk::Desk;
use super::failure::Failure;
use super::progress::Progress;
use super::words::{clean, count, jobs, span};
use crate::service::jobqueue::inspector::{Extent, Filter, State, Swept};

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Sweep {
    action: &'static str,
    state: State,
    done: u64,
    refused: u64,
    looked: u64,
    of: u64,
    /// Whether all jobs were looked at.
    complete: bool,
}

/// Does it to all jobs in `state` that match.
pub(super) async fn run(
    desk: &mut Desk,
    deed: Deed,
    state: State,
    filter: &Filter,
) -> Result<(), Failure> {
    // What is asked about and what is done are the same jobs, also when others come meanwhile.
    let extent = desk.way.call(desk.inspector.extent(state)).await?;
    if deed.asks_for_all() && !desk.console.yes {
        ask(desk, deed, state, &extent, filter).await?;
    }
    let mut progress = Progress::new(&desk.console, &desk.way);
    let mut sweeping = |at| progress.sweeping(deed.done_to(state), state, at);
    let all = desk
        .inspector
        .act_on_all(deed.action(), &extent, filter, &mut sweeping);
    let ended = desk.way.call(all).await;
    let swept = *ended.as_ref().unwrap_or(&progress.swept());
    drop(progress);
    let done = summary(deed, state, swept);
    if let Err(failure) = ended {
        if swept.looked > 0 {
            desk.console.note(&format!("so far: {done}"));
        }
        return Err(failure);
    }
    let complete = !desk.way.is_interrupted();
    if desk.console.json {
        desk.console.document(&Sweep {
            action: deed.name(),
            state,
            done: swept.done,
            refused: swept.refused,
            looked: swept.looked,
            of: swept.of,
            complete,
        })?;
    }
    if !complete {
        return Err(Failure::Interrupted(done));
    }
    match swept {
        Swept {
            done: 0,
            refused: 0,
            ..
        } => Err(nothing(state)),
        Swept { done: 0, .. } => Err(Failure::NotDone(done)),
        _ if desk.console.json => Ok(()),
        _ => desk.console.say(&done),
    }
}

/// Counts what matches, and asks whether to do it.
async fn ask(
    desk: &mut Desk,
    deed: Deed,
    state: State,
    extent: &Extent,
    filter: &Filter,
) -> Result<(), Failure> {
    let mut progress = Progress::new(&desk.console, &desk.way);
    let mut counting = |at| progress.sweeping("found", state, at);
    let found = desk
        .way
        .call(desk.inspector.count(extent, filter, &mut counting))
        .await?;
    drop(progress);
    if desk.way.is_interrupted() {
        return Err(Failure::Interrupted("nothing was changed".to_owned()));
    }
    if found.done == 0 {
        return Err(nothing(state));
    }
    let question = format!(
        "{} {}{}?",
        deed.verb(),
        jobs(found.done, state),
        words(filter)
    );
    confirm(&desk.console, &desk.way, &question).await
}

fn nothing(state: State) -> Failure {
    let none = jobs(0, state);
    Failure::NotDone(format!("nothing matches: {none}"))
}

/// What was done, for people.
fn summary(deed: Deed, state: State, swept: Swept) -> String {
    let mut text = format!("{} {}", jobs(swept.done, state), deed.done_to(state));
    if swept.refused > 0 {
        text.push_str(&format!(
            "; {} match and stay: it cannot be done to them, or something else came first",
            count(swept.refused)
        ));
    }
    if swept.looked < swept.of {
        text.push_str(&format!(
            "; {} of {} looked at",
            count(swept.looked),
            count(swept.of)
        ));
    }
    text
}

/// A filter in the words of the question.
fn words(filter: &Filter) -> String {
    let mut text = String::new();
    let mut add = |before: &str, value: Option<&str>| {
        if let Some(value) = value {
            text.push_str(&format!(" {before} {}", clean(value)));
        }
    };
    add("of type", filter.job_type.as_deref());
    add("of the reason", filter.reason.as_deref());
    let age = filter
        .older
        .map(|age| span(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    add("older than", age.as_deref());
    add("with the text", filter.text.as_deref());
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::jobqueue::inspector::Action;

    #[test]
    fn the_question_has_the_whole_filter() {
        let filter = Filter {
            reason: Some("poison".to_owned()),
            job_type: Some("a\u{1b}b".to_owned()),
            older: Some(Duration::from_secs(7 * 24 * 3600)),
            text: Some("x y".to_owned()),
        };
        assert_eq!(
            words(&filter),
            " of type a\\u{1b}b of the reason poison older than 7d with the text x y"
        );
        assert_eq!(words(&Filter::default()), "");
    }

    #[test]
    fn the_summary_says_what_was_not_done() {
        let swept = Swept {
            looked: 1500,
            of: 2000,
            done: 1234,
            refused: 2,
        };
        assert_eq!(
            summary(Deed(Action::Delete), State::Dead, swept),
            "1,234 dead letters deleted; 2 match and stay: it cannot be done to them, or something else \
             came first; 1,500 of 2,000 looked at"
        );
    }
}
