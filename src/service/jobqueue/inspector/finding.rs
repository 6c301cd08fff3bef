//! Finding one job of all. First it is looked for where it probably is. Then everything is searched in the
//! order in which jobs go, and once more, because the job may have moved past the search meanwhile.

use super::Inspector;
use super::nearby::around;
use super::seen::Seen;
use super::texts;
use super::view::{JobView, State};
use crate::service::jobqueue::redis::looking::{Range, Stored, stream_part};
use crate::service::jobqueue::redis::pending::pending_part;
use crate::service::jobqueue::redis::scheduled::scheduled_part;
use crate::service::jobqueue::redis::{EntryId, Error, Link, Overview, overview};

/// How far a search has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looking {
    /// Where it looks. The whole stream is searched as `Waiting`.
    pub state: State,
    /// At how many it has looked there.
    pub looked: u64,
    /// How many there are.
    pub of: u64,
}

/// One step looks at so many entries at most. Their bytes bound it earlier.
const STEP: usize = 2000;
/// So many steps each of these quick searches makes at most.
const QUICK_STEPS: usize = 15;
/// So many pending entries are looked at at first.
const QUICK_PENDING: usize = 500;
/// How often everything is searched.
const PASSES: usize = 2;

/// How a search ended.
#[derive(Debug)]
pub(super) enum Searched {
    Found(Box<Seen>),
    /// The first is a dead letter with this entry id, and the second is the job that is called so.
    Two(Box<[Seen; 2]>),
    /// It is nowhere. What was looked at.
    Nowhere(String),
}

/// Where an entry id is looked for first. The stream and the dead letters may have the same one.
#[derive(Debug, Clone, Copy)]
pub(super) enum First {
    Stream,
    Dead,
}

/// Who is told how far a search is, and may end it.
pub(super) type Watch<'a> = &'a mut (dyn FnMut(Looking) -> bool + Send);

impl Inspector {
    /// Finds a job by the API's id, or by the id of an entry. `looking` is told how far it is, after each step.
    /// The search ends when `looking` answers false.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer.
    pub async fn find(
        &mut self,
        id: &str,
        looking: &mut (dyn FnMut(Looking) -> bool + Send),
    ) -> Result<Option<JobView>, Error> {
        match self.search(id, First::Stream, looking).await? {
            Searched::Found(seen) => Ok(Some(seen.view)),
            Searched::Two(both) => Ok(both.into_iter().map(|seen| seen.view).next()),
            Searched::Nowhere(_) => Ok(None),
        }
    }

    /// The same, with what an action needs to know of the job.
    pub(super) async fn search(
        &mut self,
        id: &str,
        first: First,
        looking: Watch<'_>,
    ) -> Result<Searched, Error> {
        self.link.connect().await;
        let sizes = overview(&self.keys, &mut self.link).await?;
        let texts = texts::of(id);
        let mut tour = Tour {
            id,
            texts: &texts,
            sizes: &sizes,
            looking,
            ended: false,
        };
        let (entry, letter) = self.exact_look(id).await?;
        let mut ended = match (first, entry, letter) {
            (First::Stream, Some(entry), _) => return Ok(Searched::Found(Box::new(entry))),
            (First::Dead, _, Some(letter)) => return self.or_its_namesake(letter, &mut tour).await,
            (_, _, letter) => letter,
        };
        if let Some(seen) = self.quick_look(id, &texts, sizes.done).await? {
            // An id of version 7 names one job. Another one may name one that has ended, and one that has not.
            let is_over = matches!(seen.view.state, State::Dead | State::Done);
            let is_wanted = matches!((first, seen.view.state), (First::Dead, State::Dead));
            if !is_over || is_wanted || !around(id).is_empty() {
                return Ok(Searched::Found(Box::new(seen)));
            }
            ended = Some(seen);
        }
        'passes: for _ in 0..PASSES {
            for state in [State::Waiting, State::Scheduled, State::Dead, State::Done] {
                if let Some(seen) = self.look_through(&mut tour, state).await? {
                    return Ok(Searched::Found(Box::new(seen)));
                }
                if tour.ended {
                    break 'passes;
                }
            }
        }
        Ok(match ended {
            Some(seen) => Searched::Found(Box::new(seen)),
            None if tour.ended => Searched::Nowhere("the search was ended early".to_owned()),
            None => Searched::Nowhere(looked(&sizes)),
        })
    }

    /// A dead letter that was found by its entry id, unless that is also the id of another dead job.
    async fn or_its_namesake(
        &mut self,
        letter: Seen,
        tour: &mut Tour<'_>,
    ) -> Result<Searched, Error> {
        if letter.is_named(tour.id) {
            return Ok(Searched::Found(Box::new(letter)));
        }
        Ok(match self.look_through(tour, State::Dead).await? {
            Some(named) => Searched::Two(Box::new([letter, named])),
            None => Searched::Found(Box::new(letter)),
        })
    }

    /// Looks where the job probably is. So many jobs are known that have finished.
    async fn quick_look(
        &mut self,
        id: &str,
        texts: &[String],
        done: u64,
    ) -> Result<Option<Seen>, Error> {
        for range in around(id) {
            let key = self.keys.stream.clone();
            let seen = quick_search(&mut self.link, &key, range, id, texts, Seen::waiting).await?;
            if let Some(seen) = seen {
                return self.with_its_delivery(seen).await.map(Some);
            }
        }
        let pending = pending_part(&mut self.link, &self.keys, None, QUICK_PENDING, None).await?;
        let ids: Vec<_> = pending.rows.iter().map(|row| row.id).collect();
        for ids in ids.chunks(QUICK_PENDING / 5) {
            let known = self.entries(ids).await?.into_iter().map(Seen::entry);
            if let Some(seen) = known.into_iter().find(|seen| seen.is_named(id)) {
                return Ok(Some(seen));
            }
        }
        let newest = Range {
            newest_first: true,
            ..Range::default()
        };
        let dead = self.keys.dead.clone();
        let seen = quick_search(&mut self.link, &dead, newest, id, texts, Seen::letter).await?;
        // Where there is none, the key may be anything.
        if seen.is_some() || done == 0 {
            return Ok(seen);
        }
        let (finished, key) = (|entry| Seen::finished(&entry), self.keys.done.clone());
        quick_search(&mut self.link, &key, newest, id, texts, finished).await
    }

    /// The entry and the dead letter with this id.
    async fn exact_look(&mut self, id: &str) -> Result<(Option<Seen>, Option<Seen>), Error> {
        let Ok(entry) = id.parse::<EntryId>() else {
            return Ok((None, None));
        };
        let known = self.entries(&[entry]).await?.pop().map(Seen::entry);
        let part = stream_part(&mut self.link, &self.keys.dead, Range::only(entry), 1, &[]).await?;
        Ok((known, part.found.into_iter().next().map(Seen::letter)))
    }

    /// The same job with what is known of its delivery. A job that is gone meanwhile stays as it was seen.
    async fn with_its_delivery(&mut self, seen: Seen) -> Result<Seen, Error> {
        let id: Option<EntryId> = seen.view.entry_id.as_ref().and_then(|id| id.parse().ok());
        let known = match id {
            Some(id) => self.entries(&[id]).await?.pop(),
            None => None,
        };
        Ok(known.map_or(seen, Seen::entry))
    }

    /// Searches one place from one end to the other.
    async fn look_through(
        &mut self,
        tour: &mut Tour<'_>,
        state: State,
    ) -> Result<Option<Seen>, Error> {
        if state == State::Scheduled {
            return self.look_through_scheduled(tour).await;
        }
        if state == State::Done && tour.sizes.done == 0 {
            return Ok(None);
        }
        let keys = &self.keys;
        let (key, seen): (_, fn(Stored) -> Seen) = match state {
            State::Dead => (keys.dead.clone(), Seen::letter),
            State::Done => (keys.done.clone(), |entry| Seen::finished(&entry)),
            _ => (keys.stream.clone(), Seen::waiting),
        };
        let mut range = Range {
            newest_first: matches!(state, State::Dead | State::Done),
            ..Range::default()
        };
        let mut looked = 0;
        loop {
            let part = stream_part(&mut self.link, &key, range, STEP, tour.texts).await?;
            let found = part.found.into_iter().map(seen);
            if let Some(seen) = found.into_iter().find(|seen| seen.is_named(tour.id)) {
                return match state {
                    State::Waiting => self.with_its_delivery(seen).await.map(Some),
                    _ => Ok(Some(seen)),
                };
            }
            looked += part.looked;
            tour.tell(state, looked);
            match part.last {
                Some(last) if !tour.ended => range = range.behind(last),
                _ => return Ok(None),
            }
        }
    }

    async fn look_through_scheduled(&mut self, tour: &mut Tour<'_>) -> Result<Option<Seen>, Error> {
        let (mut after, mut looked) = (None, 0);
        loop {
            let link = &mut self.link;
            let part = scheduled_part(link, &self.keys, after.as_ref(), STEP, tour.texts).await?;
            let found = part.found.into_iter().map(Seen::member);
            if let Some(seen) = found.into_iter().find(|seen| seen.is_named(tour.id)) {
                return Ok(Some(seen));
            }
            looked += part.looked;
            tour.tell(State::Scheduled, looked);
            match part.last {
                Some(last) if !tour.ended => after = Some(last),
                _ => return Ok(None),
            }
        }
    }
}

/// A search through everything.
struct Tour<'a> {
    id: &'a str,
    texts: &'a [String],
    sizes: &'a Overview,
    looking: Watch<'a>,
    /// Whoever is told of it wants no more.
    ended: bool,
}

impl Tour<'_> {
    fn tell(&mut self, state: State, looked: u64) {
        let of = match state {
            State::Waiting | State::Running => self.sizes.entries,
            State::Scheduled => self.sizes.scheduled,
            State::Dead => self.sizes.dead,
            State::Done => self.sizes.done,
        };
        let of = of.max(looked);
        self.ended |= !(self.looking)(Looking { state, looked, of });
    }
}

/// Searches the beginning of a range.
async fn quick_search(
    link: &mut Link,
    key: &String,
    mut range: Range,
    id: &str,
    texts: &[String],
    seen: fn(Stored) -> Seen,
) -> Result<Option<Seen>, Error> {
    for _ in 0..QUICK_STEPS {
        let part = stream_part(link, key, range, STEP, texts).await?;
        let found = part.found.into_iter().map(seen);
        if let Some(seen) = found.into_iter().find(|seen| seen.is_named(id)) {
            return Ok(Some(seen));
        }
        match part.last {
            Some(last) => range = range.behind(last),
            None => break,
        }
    }
    Ok(None)
}

fn looked(sizes: &Overview) -> String {
    format!(
        "{} waiting or running jobs, {} scheduled ones, {} dead letters and {} finished jobs",
        sizes.entries, sizes.scheduled, sizes.dead, sizes.done
    )
}
