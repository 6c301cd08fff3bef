//! What the fetcher does next.
//!
//! The plan holds the dates at which something is due, and decides from them and from values
//! that it is given. It reads no clock, sends nothing and waits for nothing: the fetcher carries
//! out each action, and tells the plan what came of it.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::service::jobqueue::redis::{Class, EntryId, Error, OPERATOR_RETRY, Reclaimed};
use crate::service::jobqueue::worker::held::Room;
use crate::service::jobqueue::worker::shared::Taking;

/// The longest time that a read blocks. Within this time Redis notices a client that vanished,
/// and a worker notices a stream that was deleted, or a stop when its read could not be ended.
pub(super) const MAX_BLOCK: Duration = Duration::from_secs(1);
/// How long a delivery may wait behind long jobs before it is put back for other workers.
pub(super) const MAX_READY_AGE: Duration = Duration::from_millis(50);
/// How long reads are bounded in bytes after an entry was found that is too large for a reply.
const BOUNDED_READS: Duration = Duration::from_secs(10);
/// The pause after a bounded read that found nothing: such a read cannot wait for entries.
const BOUNDED_READ_INTERVAL: Duration = Duration::from_millis(50);
/// The pause before a reclaim that goes on with mending. Reads come between.
const MEND_PAUSE: Duration = Duration::from_millis(10);

/// What the fetcher does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Look for expired leases, and take over as many entries as there is room for.
    Reclaim { room: usize },
    /// Look for entries whose delivery to this worker was lost.
    RecoverOrphans(OrphanCheck),
    /// Put back what has waited too long behind long jobs, so that other workers get it.
    PutBackReady,
    /// Read as many new entries as there is room for, and wait for the first one.
    Read { room: usize, block: Duration },
    /// Read without waiting, and no more bytes than one reply carries.
    ReadBounded { room: usize },
    /// Do nothing for this long, or until there is more room.
    Wait(Duration),
}

/// A search for entries that are pending for this worker and that it does not hold. It goes
/// through what is pending page by page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OrphanCheck {
    /// The last id of the page before. None for the first page.
    pub(super) after: Option<EntryId>,
    pub(super) cause: Cause,
}

/// Why entries may be pending for this worker that it does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A reply did not come, and it may have brought entries.
    LostReply,
    /// Entries came that this worker may have been given before. They were not taken in.
    OldIds,
}

/// The dates at which something is due.
#[derive(Debug)]
pub(super) struct Plan {
    next_reclaim: Instant,
    /// The next room is for a reclaim, because the last one left something to claim or had no
    /// room to claim anything. Otherwise a busy queue would never take over from a dead worker.
    reclaim_first: bool,
    /// The last reclaim that brought anything brought nothing that runs here.
    brought_nothing: bool,
    /// The last reclaim was not done with mending, and the next one comes soon.
    mends: bool,
    /// The orphan check that is not finished yet.
    orphans: Option<OrphanCheck>,
    /// When a new orphan check begins. A command that failed may still have been on its way to
    /// Redis when the first check was made.
    second_look: Option<Instant>,
    /// Until when reads are bounded in bytes.
    bounded_until: Option<Instant>,
    next_bounded: Instant,
}

impl Plan {
    /// A plan that begins with a reclaim.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_reclaim: now,
            reclaim_first: false,
            brought_nothing: false,
            mends: false,
            orphans: None,
            second_look: None,
            bounded_until: None,
            next_bounded: now,
        }
    }

    /// The most urgent action at `now`.
    pub(super) fn next_action(&self, now: Instant, taking: Taking, room: Room) -> Action {
        let entries = match taking {
            Taking::Nothing => 0,
            Taking::All | Taking::NothingNew => room.entries,
        };
        if self.next_reclaim <= now || (self.reclaim_first && entries > 0) {
            return Action::Reclaim { room: entries };
        }
        if let Some(check) = self.due_orphan_check(now) {
            return Action::RecoverOrphans(check);
        }
        let too_old = room.waiting_since.map(|since| since + MAX_READY_AGE);
        if too_old.is_some_and(|at| at <= now) {
            return Action::PutBackReady;
        }
        let to_read = if taking == Taking::All { entries } else { 0 };
        self.read_or_wait(now, to_read, too_old)
    }

    /// The first page of a second look whose time has come, or the next page of a check that is
    /// not finished.
    fn due_orphan_check(&self, now: Instant) -> Option<OrphanCheck> {
        let second_look = self.second_look.filter(|at| *at <= now);
        let second_look = second_look.map(|_| OrphanCheck::new(Cause::LostReply));
        second_look.or(self.orphans)
    }

    /// A read, or a pause, that ends when the next thing is due. `too_old` is when a delivery
    /// that is ready has waited too long.
    fn read_or_wait(&self, now: Instant, room: usize, too_old: Option<Instant>) -> Action {
        let bounded = self.bounded_until.is_some_and(|until| now < until);
        let next_bounded = (bounded && room > 0).then_some(self.next_bounded);
        let dates = [
            Some(self.next_reclaim),
            self.second_look,
            too_old,
            next_bounded,
        ];
        let next = dates.into_iter().flatten().min();
        let until_next = next.map_or(MAX_BLOCK, |at| at.saturating_duration_since(now));
        let block = until_next.min(MAX_BLOCK);
        if room == 0 || (bounded && now < self.next_bounded) {
            Action::Wait(block)
        } else if bounded {
            Action::ReadBounded { room }
        } else {
            Action::Read { room, block }
        }
    }

    /// A reclaim that had this room ended at `now`.
    pub(super) fn reclaimed(
        &mut self,
        now: Instant,
        interval: Duration,
        room: usize,
        reclaimed: &Result<Reclaimed, Error>,
    ) {
        let pause = match reclaimed {
            Ok(found) => {
                self.reclaim_first = found.more || room == 0;
                self.mends = found.unmended;
                if found.unmended {
                    interval.min(MEND_PAUSE)
                } else {
                    interval
                }
            }
            // Reading goes on while a broken state hash waits for its operator.
            Err(error) if error.class == Class::Operator => {
                self.reclaim_first = false;
                OPERATOR_RETRY
            }
            Err(_) => interval,
        };
        self.next_reclaim = now + pause;
    }

    /// A reclaim brought entries. `all_put_back` says that this worker can run none of them, and that
    /// they were put back for others.
    ///
    /// After two such reclaims, with nothing between them that runs here, the next look is the others'.
    /// One pass in an interval is for all workers. If this one always began it, it would claim the same
    /// entries again and again. The others also go on where its last look ended.
    pub(super) fn brought(&mut self, now: Instant, interval: Duration, all_put_back: bool) {
        if all_put_back && self.brought_nothing && !self.mends {
            self.reclaim_first = false;
            self.next_reclaim = now + interval * 2;
        }
        self.brought_nothing = all_put_back;
    }

    /// Entries may be pending for this worker that it does not hold.
    pub(super) fn look_for_orphans(&mut self, now: Instant, cause: Cause) {
        self.orphans = Some(OrphanCheck::new(cause));
        self.look_again(now);
    }

    /// An entry may be lost soon: a command that failed may still be on its way to Redis. So the
    /// next check begins a moment later.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.second_look = Some(now + MAX_BLOCK);
    }

    /// The orphan check that [`Self::next_action`] chose at `now` begins or goes on.
    pub(super) fn orphan_check_began(&mut self, now: Instant) {
        self.second_look = self.second_look.filter(|at| *at > now);
    }

    /// A page of `check` is done. The next page is beyond `after`, if there is one.
    pub(super) fn orphan_page_done(&mut self, check: OrphanCheck, after: Option<EntryId>) {
        let after = after.map(Some);
        self.orphans = after.map(|after| OrphanCheck { after, ..check });
    }

    /// A reply had an entry that was too large for it. There may be more of them.
    pub(super) fn found_too_large(&mut self, now: Instant) {
        self.bounded_until = Some(now + BOUNDED_READS);
    }

    /// A bounded read found nothing.
    pub(super) fn bounded_read_was_empty(&mut self, now: Instant) {
        self.next_bounded = now + BOUNDED_READ_INTERVAL;
    }
}

impl OrphanCheck {
    fn new(cause: Cause) -> Self {
        Self { after: None, cause }
    }
}
