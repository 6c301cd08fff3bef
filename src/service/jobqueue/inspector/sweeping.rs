//! Doing something to many jobs, in steps that hold Redis for a moment each.

use super::Inspector;
use super::acting::Deed;
use super::action::Action;
use super::filter::Filter;
use super::listing::Walk;
use super::seen::{Handle, Seen};
use super::view::State;
use crate::service::jobqueue::redis::looking::{Range, stream_part};
use crate::service::jobqueue::redis::{EntryId, Error, overview};

/// How far a bulk action has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many jobs were looked at.
    pub looked: u64,
    /// How many there were when it began.
    pub of: u64,
    /// To how many it was done. When they are only counted: how many match.
    pub done: u64,
    /// How many match and stay: those that cannot run again, or that another action has taken.
    pub refused: u64,
}

/// The jobs that are in a state at one moment. Those that come later are not in it.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    state: State,
    /// How many there are.
    of: u64,
    /// The place behind the newest one. None when there is none.
    end: Option<EntryId>,
    now_ms: u64,
}

/// One step is for so many jobs and bytes at most.
const STEP_JOBS: usize = 100;
const STEP_BYTES: usize = 256 * 1024;
/// So many are looked at at once.
const AT_ONCE: usize = 500;

impl Inspector {
    /// The jobs that are in `state` now.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer.
    pub async fn extent(&mut self, state: State) -> Result<Extent, Error> {
        self.link.connect().await;
        let now = overview(&self.keys, &mut self.link).await?;
        let of = match state {
            State::Waiting => now.entries.saturating_sub(now.pending),
            State::Running => now.pending,
            State::Scheduled => now.scheduled,
            State::Dead => now.dead,
            State::Done => now.done,
        };
        let end = match state {
            // A job in the scheduled set is there with the id of an entry that it had before.
            State::Scheduled => Some(EntryId::first_at(now.now_ms.saturating_add(1))),
            _ => self.end_of(state).await?,
        };
        Ok(Extent {
            state,
            of,
            end,
            now_ms: now.now_ms,
        })
    }

    /// How many jobs of `extent` match `filter`. `sweeping` is told after each step how far it is, and may
    /// answer false to end it.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer.
    pub async fn count(
        &mut self,
        extent: &Extent,
        filter: &Filter,
        sweeping: &mut (dyn FnMut(Swept) -> bool + Send),
    ) -> Result<Swept, Error> {
        self.sweep(None, extent, filter, sweeping).await
    }

    /// Does `action` to all jobs of `extent` that match `filter` and are still there, in steps. `sweeping` is told
    /// after each step how far it is, and may answer false to end it.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer. What was done until then stays done.
    pub async fn act_on_all(
        &mut self,
        action: Action,
        extent: &Extent,
        filter: &Filter,
        sweeping: &mut (dyn FnMut(Swept) -> bool + Send),
    ) -> Result<Swept, Error> {
        self.sweep(Some(action), extent, filter, sweeping).await
    }

    async fn sweep(
        &mut self,
        action: Option<Action>,
        extent: &Extent,
        filter: &Filter,
        sweeping: &mut (dyn FnMut(Swept) -> bool + Send),
    ) -> Result<Swept, Error> {
        self.link.connect().await;
        let Extent {
            state,
            of,
            end,
            now_ms,
        } = *extent;
        if end.is_none() {
            return Ok(Swept::default());
        }
        let texts = filter.texts();
        let walk = Walk {
            state,
            newest_first: false,
            before: end,
            texts: &texts,
        };
        let (mut swept, mut after) = (
            Swept {
                of,
                ..Swept::default()
            },
            None,
        );
        loop {
            let part = self.part(walk, after.as_deref(), AT_ONCE).await?;
            swept.looked += part.looked;
            swept.of = swept.of.max(swept.looked);
            let matching = part
                .jobs
                .iter()
                .filter(|seen| !is_new(seen, end) && filter.matches(&seen.view, now_ms));
            let matching: Vec<&Seen> = matching.collect();
            for step in steps(&matching) {
                match action {
                    Some(action) => tally(&mut swept, &self.do_to(action, step).await?),
                    None => swept.done += step.len() as u64,
                }
            }
            // The scheduled set has no order of coming, so jobs that come meanwhile would be followed for ever.
            let is_over = state == State::Scheduled && swept.looked >= of.saturating_mul(2);
            after = part.next;
            if !sweeping(swept) || after.is_none() || is_over {
                return Ok(swept);
            }
        }
    }

    /// The place behind the newest entry that is there now.
    async fn end_of(&mut self, state: State) -> Result<Option<EntryId>, Error> {
        let key = match state {
            State::Dead => &self.keys.dead,
            State::Done => &self.keys.done,
            _ => &self.keys.stream,
        };
        let newest = Range {
            newest_first: true,
            ..Range::default()
        };
        let part = stream_part(&mut self.link, key, newest, 1, &[]).await?;
        Ok(part.found.first().map(|entry| entry.id.next()))
    }
}

fn tally(swept: &mut Swept, deeds: &[Deed]) {
    for deed in deeds {
        match deed {
            Deed::Done | Deed::Asked => swept.done += 1,
            Deed::Refused(_) | Deed::Gone => swept.refused += 1,
        }
    }
}

/// Whether a scheduled job has left its entry after the sweep began.
fn is_new(seen: &Seen, end: Option<EntryId>) -> bool {
    let Handle::Member(member) = &seen.handle else {
        return false;
    };
    let left = member.parts().0;
    left.zip(end).is_some_and(|(left, end)| left >= end)
}

/// The jobs in steps that are not too large.
fn steps<'a, 'b>(mut jobs: &'a [&'b Seen]) -> impl Iterator<Item = &'a [&'b Seen]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = jobs.iter().take(STEP_JOBS).take_while(|seen| {
            let is_first = bytes == 0;
            bytes += seen.bytes() + 1;
            is_first || bytes <= STEP_BYTES
        });
        let (step, rest) = jobs.split_at(fits.count());
        jobs = rest;
        (!step.is_empty()).then_some(step)
    })
}
