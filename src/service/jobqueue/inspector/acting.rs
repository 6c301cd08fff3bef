//! Doing something to one job, or to some that were found together.

use super::Inspector;
use super::action::{Acted, Action, is_cancelled_already, keeps_moving, why_not};
use super::finding::{First, Looking, Searched};
use super::seen::{Handle, Seen};
use crate::service::jobqueue::job::anew::{CannotRun, Known, retried, run_now};
use crate::service::jobqueue::redis::looking::SHOWN_BYTES;
use crate::service::jobqueue::redis::scheduled::Member;
use crate::service::jobqueue::redis::steering::{self, Cancelled, Revival};
use crate::service::jobqueue::redis::{EntryId, Error};

/// A job that has moved before the action came is looked for again, so often.
const TRIES: usize = 3;

/// What became of one job.
#[derive(Debug)]
pub(super) enum Deed {
    Done,
    /// Its worker is to end it.
    Asked,
    /// It cannot be done to this job.
    Refused(String),
    /// The job is not there any more.
    Gone,
}

/// Two dead letters are called `id`, and only one can be meant.
fn is_ambiguous(id: &str, [letter, named]: [Seen; 2]) -> Acted {
    let of = |seen: &Seen| seen.view.entry_id.clone().unwrap_or_default();
    let why = format!(
        "two dead letters are called so: that of the job {}, which has this entry id, and that of the job \
         {id}, whose entry id is {}; name the one by its job id, and the other by its entry id",
        letter.view.job_id,
        of(&named)
    );
    let job = letter.view;
    Acted::Refused { job, why }
}

impl Inspector {
    /// Finds a job and does `action` to it.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer. Then it may have been done.
    pub async fn act(
        &mut self,
        action: Action,
        id: &str,
        looking: &mut (dyn FnMut(Looking) -> bool + Send),
    ) -> Result<Acted, Error> {
        let first = match action {
            Action::RunNow | Action::Cancel => First::Stream,
            Action::Retry | Action::Delete => First::Dead,
        };
        let mut seen = match self.search(id, first, looking).await? {
            Searched::Found(seen) => seen,
            Searched::Two(both) => return Ok(is_ambiguous(id, *both)),
            Searched::Nowhere(looked) => return Ok(Acted::Missing { looked }),
        };
        let job_id = seen.view.job_id.clone();
        for _ in 0..TRIES {
            let deed = self.do_to(action, &[&seen]).await?.pop();
            match deed.unwrap_or(Deed::Gone) {
                Deed::Done => return Ok(Acted::Done(seen.view)),
                Deed::Asked => return Ok(Acted::Asked(seen.view)),
                Deed::Refused(why) => {
                    let job = seen.view;
                    return Ok(Acted::Refused { job, why });
                }
                Deed::Gone => {}
            }
            seen = match self.search(id, first, looking).await? {
                Searched::Found(seen) if seen.view.job_id == job_id => seen,
                // What was meant is gone. It may be done to no other job that is called so.
                Searched::Found(_) => {
                    let looked = "another job, which is called so too".to_owned();
                    return Ok(Acted::Missing { looked });
                }
                Searched::Two(both) => return Ok(is_ambiguous(id, *both)),
                Searched::Nowhere(looked) => return Ok(Acted::Missing { looked }),
            };
        }
        let why = match allows(action, &seen) {
            true => keeps_moving(&seen.view),
            false => why_not(action, &seen.view),
        };
        let job = seen.view;
        Ok(Acted::Refused { job, why })
    }

    /// Does `action` to jobs that were found, in one step for those of one place. Answers for each what became
    /// of it.
    pub(super) async fn do_to(
        &mut self,
        action: Action,
        jobs: &[&Seen],
    ) -> Result<Vec<Deed>, Error> {
        let mut deeds: Vec<Deed> = jobs
            .iter()
            .map(|seen| Deed::Refused(why_not(action, &seen.view)))
            .collect();
        let mut work = Work::default();
        for (at, seen) in jobs
            .iter()
            .enumerate()
            .filter(|(_, seen)| allows(action, seen))
        {
            if let Err(why) = work.add(action, at, &seen.handle) {
                deeds[at] = Deed::Refused(why);
            }
        }
        for (at, deed) in self.carry_out(&work).await? {
            deeds[at] = deed;
        }
        Ok(deeds)
    }

    async fn carry_out(&mut self, work: &Work<'_>) -> Result<Vec<(usize, Deed)>, Error> {
        let (link, keys) = (&mut self.link, &self.keys);
        let mut deeds = Vec::new();
        let done = |done| if done { Deed::Done } else { Deed::Gone };
        if !work.run_now.is_empty() {
            let moved = steering::run_now(link, keys, &work.run_now.1).await?;
            deeds.extend(
                work.run_now
                    .with(moved.into_iter().map(|id| done(id.is_some()))),
            );
        }
        if !work.scheduled.is_empty() {
            let gone = steering::cancel_scheduled(link, keys, &work.scheduled.1).await?;
            deeds.extend(work.scheduled.with(gone.into_iter().map(done)));
        }
        if !work.stream.is_empty() {
            let cancelled = steering::cancel(link, keys, &work.stream.1).await?;
            deeds.extend(work.stream.with(cancelled.into_iter().map(
                |cancelled| match cancelled {
                    Cancelled::Gone => Deed::Gone,
                    Cancelled::Deleted => Deed::Done,
                    Cancelled::Asked { .. } => Deed::Asked,
                    Cancelled::AskedBefore { worker } => {
                        Deed::Refused(is_cancelled_already(&worker))
                    }
                },
            )));
        }
        if !work.retry.is_empty() {
            let moved = steering::retry(link, keys, &work.retry.1).await?;
            deeds.extend(
                work.retry
                    .with(moved.into_iter().map(|id| done(id.is_some()))),
            );
        }
        if !work.delete.is_empty() {
            let deleted = steering::delete_dead(link, keys, &work.delete.1).await?;
            deeds.extend(work.delete.with(deleted.into_iter().map(done)));
        }
        Ok(deeds)
    }
}

/// Jobs for one script, and where each stands among those that were given.
#[derive(Debug)]
struct Step<T>(Vec<usize>, Vec<T>);

impl<T> Default for Step<T> {
    fn default() -> Self {
        Self(Vec::new(), Vec::new())
    }
}

impl<T> Step<T> {
    fn push(&mut self, at: usize, job: T) {
        self.0.push(at);
        self.1.push(job);
    }

    fn is_empty(&self) -> bool {
        self.1.is_empty()
    }

    fn with(&self, deeds: impl Iterator<Item = Deed>) -> impl Iterator<Item = (usize, Deed)> {
        self.0.iter().copied().zip(deeds)
    }
}

/// What is to be sent, sorted by the script that does it.
#[derive(Debug, Default)]
struct Work<'a> {
    run_now: Step<(&'a [u8], Vec<u8>)>,
    scheduled: Step<&'a [u8]>,
    stream: Step<(EntryId, &'a [u8])>,
    retry: Step<Revival<'a>>,
    delete: Step<EntryId>,
}

impl<'a> Work<'a> {
    /// # Errors
    /// Why it cannot be done.
    fn add(&mut self, action: Action, at: usize, handle: &'a Handle) -> Result<(), String> {
        match (action, handle) {
            (Action::RunNow, Handle::Member(member)) => {
                let job = whole(member).and_then(|()| {
                    let (entry, json) = member.parts();
                    let id = entry.map(|id| id.to_string());
                    run_now(json, known(id.as_deref()))
                });
                let job = job.map_err(|why| format!("it cannot run now: {why}"))?;
                self.run_now.push(at, (&member.bytes, job));
            }
            (Action::Cancel, Handle::Member(member)) => {
                whole(member).map_err(|why| format!("it cannot be named to Redis: {why}"))?;
                self.scheduled.push(at, &member.bytes);
            }
            (Action::Cancel, Handle::Entry { id, value }) => self.stream.push(at, (*id, value)),
            (Action::Retry, Handle::Letter { id, job, died_from }) => {
                let cannot = |why: CannotRun| format!("it cannot run again: {why}");
                let was = job.as_deref().ok_or_else(|| cannot(CannotRun::Foreign))?;
                let died_from = died_from.as_deref().filter(|id| is_entry(id));
                let job = retried(was, known(died_from)).map_err(cannot)?;
                self.retry.push(at, Revival { id: *id, was, job });
            }
            (Action::Delete, Handle::Letter { id, .. }) => self.delete.push(at, *id),
            _ => {}
        }
        Ok(())
    }
}

/// Whether a job at this place can have this done to it.
fn allows(action: Action, seen: &Seen) -> bool {
    matches!(
        (action, &seen.handle),
        (Action::RunNow, Handle::Member(_))
            | (Action::Cancel, Handle::Member(_) | Handle::Entry { .. })
            | (Action::Retry | Action::Delete, Handle::Letter { .. })
    )
}

/// What is known of a job by the entry that it left.
fn known(entry: Option<&str>) -> Known<'_> {
    let id: Option<EntryId> = entry.and_then(|id| id.parse().ok());
    Known {
        entry,
        registered_ms: id.map(EntryId::ms),
    }
}

fn is_entry(id: &str) -> bool {
    // Written as Redis writes it, so nothing else gets into the JSON.
    id.parse::<EntryId>()
        .is_ok_and(|entry| entry.to_string() == id)
}

/// A member that was cut cannot be named to Redis.
fn whole(member: &Member) -> Result<(), CannotRun> {
    match member.bytes.len() < SHOWN_BYTES {
        true => Ok(()),
        false => Err(CannotRun::TooLarge),
    }
}
