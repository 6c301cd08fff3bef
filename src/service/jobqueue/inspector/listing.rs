//! Lists: parts of the jobs in one state, one after the other.

use super::Inspector;
use super::seen::Seen;
use super::stats::{PENDING_AT_ONCE, PENDING_READS};
use super::view::{Page, State};
use crate::service::jobqueue::redis::looking::{Range, Stored, stream_part};
use crate::service::jobqueue::redis::pending::{Known, entries, pending_part};
use crate::service::jobqueue::redis::scheduled::{Place, scheduled_part};
use crate::service::jobqueue::redis::{Class, EntryId, Error};

/// A page has no more jobs than this.
const MOST_JOBS: usize = 500;

/// Through which jobs one goes, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) state: State,
    /// Of dead and finished jobs, the newest come first.
    pub(super) newest_first: bool,
    /// Only jobs whose entries stand before this one.
    pub(super) before: Option<EntryId>,
    /// Of scheduled, dead and finished jobs only those that have one of these texts, if there are any.
    pub(super) texts: &'a [String],
}

/// A part of the jobs in one state.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) jobs: Vec<Seen>,
    /// At how many it has looked.
    pub(super) looked: u64,
    /// Where the next part begins, unless this is the last one.
    pub(super) next: Option<String>,
}

impl Part {
    fn new(jobs: Vec<Seen>, next: Option<impl ToString>) -> Self {
        let looked = jobs.len() as u64;
        let next = next.map(|next| next.to_string());
        Self { jobs, looked, next }
    }
}

impl Inspector {
    /// One page of the jobs in `state`, from `after` on: waiting, running and scheduled ones in the order in
    /// which their turn comes, dead and done ones with the newest first. A page may have fewer jobs than
    /// `limit` although it is not the last one.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer, and when no page has ended at `after`.
    pub async fn list(
        &mut self,
        state: State,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.link.connect().await;
        let walk = Walk {
            state,
            newest_first: true,
            before: None,
            texts: &[],
        };
        let part = self.part(walk, after, limit).await?;
        Ok(Page {
            jobs: part.jobs.into_iter().map(|seen| seen.view).collect(),
            next: part.next,
        })
    }

    /// The part of a walk that begins at `after`, with up to `most` jobs.
    pub(super) async fn part(
        &mut self,
        walk: Walk<'_>,
        after: Option<&str>,
        most: usize,
    ) -> Result<Part, Error> {
        let most = most.clamp(1, MOST_JOBS);
        match walk.state {
            State::Waiting => self.waiting(walk, place(after)?, most).await,
            State::Running => self.running(walk, place(after)?, most).await,
            State::Dead => {
                let part = self.stream(walk, place(after)?, most, Seen::letter);
                part.await
            }
            State::Done => {
                let part = self.stream(walk, place(after)?, most, |entry| Seen::finished(&entry));
                part.await
            }
            State::Scheduled => {
                let after = place(after)?;
                let link = &mut self.link;
                let part = scheduled_part(link, &self.keys, after.as_ref(), most, walk.texts);
                let part = part.await?;
                let jobs = part.found.into_iter().map(Seen::member);
                let looked = part.looked;
                Ok(Part {
                    looked,
                    ..Part::new(jobs.collect(), part.last)
                })
            }
        }
    }

    /// Dead letters or finished jobs.
    async fn stream(
        &mut self,
        walk: Walk<'_>,
        after: Option<EntryId>,
        most: usize,
        seen: impl Fn(Stored) -> Seen,
    ) -> Result<Part, Error> {
        let key = match walk.state {
            State::Done => &self.keys.done,
            _ => &self.keys.dead,
        };
        let mut range = Range {
            before: walk.before,
            newest_first: walk.newest_first,
            ..Range::default()
        };
        if let Some(after) = after {
            range = range.behind(after);
        }
        let part = stream_part(&mut self.link, key, range, most, walk.texts).await?;
        let looked = part.looked;
        let jobs = part.found.into_iter().map(seen);
        Ok(Part {
            looked,
            ..Part::new(jobs.collect(), part.last)
        })
    }

    /// Entries that were put back, whose turn comes first, and then those that were never delivered.
    async fn waiting(
        &mut self,
        walk: Walk<'_>,
        after: Option<EntryId>,
        most: usize,
    ) -> Result<Part, Error> {
        let (mut at, mut jobs) = (after, Vec::new());
        let mut read_up_to = None;
        for read in 0..=PENDING_READS {
            if read == PENDING_READS {
                return Ok(Part::new(jobs, at));
            }
            let part = pending_part(&mut self.link, &self.keys, at, PENDING_AT_ONCE, None).await?;
            read_up_to = part.read_up_to;
            let put_back = part.rows.iter().filter(|row| row.is_put_back);
            let ids: Vec<_> = put_back.map(|row| row.id).collect();
            for ids in ids.chunks(most) {
                let known = entries(&mut self.link, &self.keys, ids).await?;
                let still = known.found.into_iter().map(Seen::entry);
                jobs.extend(still.filter(|seen| seen.view.state == State::Waiting));
                if known.looked < ids.len() || jobs.len() >= most {
                    return Ok(Part::new(jobs, ids[..known.looked].last()));
                }
            }
            at = part.rows.last().map(|row| row.id);
            if part.rows.len() < PENDING_AT_ONCE {
                break;
            }
        }
        let range = Range {
            after: after.max(read_up_to),
            before: walk.before,
            newest_first: false,
        };
        let left = most.saturating_sub(jobs.len()).max(1);
        let part = stream_part(&mut self.link, &self.keys.stream, range, left, &[]).await?;
        jobs.extend(part.found.into_iter().map(Seen::waiting));
        Ok(Part::new(jobs, part.last))
    }

    async fn running(
        &mut self,
        walk: Walk<'_>,
        after: Option<EntryId>,
        most: usize,
    ) -> Result<Part, Error> {
        let mut at = after;
        for _ in 0..PENDING_READS {
            let part = pending_part(&mut self.link, &self.keys, at, most, None).await?;
            let is_in = |id: EntryId| walk.before.is_none_or(|before| id < before);
            let last = part.rows.last().map(|row| row.id);
            // Behind the last row there may be more, unless that is beyond the end of the walk.
            let more = last.filter(|last| part.rows.len() == most && is_in(*last));
            let rows = part
                .rows
                .iter()
                .filter(|row| is_in(row.id) && !row.is_put_back);
            let ids: Vec<_> = rows.map(|row| row.id).collect();
            let known = entries(&mut self.link, &self.keys, &ids).await?;
            let jobs = known.found.into_iter().map(Seen::entry);
            let jobs: Vec<_> = jobs
                .filter(|seen| seen.view.state == State::Running)
                .collect();
            if known.looked < ids.len() {
                return Ok(Part::new(jobs, ids[..known.looked].last()));
            }
            if more.is_none() || !jobs.is_empty() {
                return Ok(Part::new(jobs, more));
            }
            at = more;
        }
        Ok(Part::new(Vec::new(), at))
    }

    /// The entries of the stream with these ids, without those that are gone.
    pub(super) async fn entries(&mut self, mut ids: &[EntryId]) -> Result<Vec<Known>, Error> {
        let mut found = Vec::new();
        while !ids.is_empty() {
            let part = entries(&mut self.link, &self.keys, ids).await?;
            found.extend(part.found);
            ids = &ids[part.looked.clamp(1, ids.len())..];
        }
        Ok(found)
    }
}

impl State {
    /// Whether a list of jobs in this state can go on at a place that is called so.
    pub fn has_place(self, after: &str) -> bool {
        match self {
            Self::Scheduled => place::<Place>(Some(after)).is_ok(),
            _ => place::<EntryId>(Some(after)).is_ok(),
        }
    }
}

/// Where a page begins.
fn place<T: std::str::FromStr>(after: Option<&str>) -> Result<Option<T>, Error> {
    let place = after.map(|text| {
        text.parse().map_err(|_| {
            let expected = "expected as its beginning what another page had as `next`";
            Error::new(Class::Operator, format!("{expected}, found {text}"))
        })
    });
    place.transpose()
}
