//! Takes over entries whose lease ran out, as far as there is room for them.
//!
//! A claim also returns entries of this very worker whose lease ran out. They are held already
//! and must not be started again, so their claim is taken back.

use std::time::Instant;

use rustc_hash::FxHashSet;

use super::Fetcher;
use crate::service::jobqueue::redis::{Class, Entry, EntryId, Error, Touch};
use crate::service::jobqueue::worker::tally::Event;
use crate::service::jobqueue::worker::trail::Step;

impl Fetcher {
    /// Shows Redis that this worker looks for expired leases, and takes over up to `room`
    /// entries. The reply also says whether the queue is paused.
    pub(super) async fn reclaim(&mut self, room: usize) -> Result<(), Error> {
        // What is held before the claim. The settler may settle some of it before the reply is
        // here, and an entry that was claimed before that would look like a new delivery.
        let held = self.held.ids();
        let asked = self.reply_size.ask(room);
        let began = Instant::now();
        let look = self.rhythm.look(began, &self.times);
        let (bytes, time) = self.reply_size.bytes_and_time();
        let reclaim = self
            .broker
            .reclaim(&mut self.link, &look, asked.count, bytes, time);
        let reclaimed = reclaim.await;
        let interval = self.times.interval;
        self.plan
            .reclaimed(Instant::now(), interval, room, &reclaimed);
        let reclaimed = match reclaimed {
            // It is tried again later. Until then reads go on.
            Err(error) if error.class == Class::Operator => return Ok(()),
            reclaimed => reclaimed?,
        };
        self.rhythm.answered(began.elapsed());
        self.lease_log
            .looked(&self.times, &look, &reclaimed, &self.log);
        self.measure(asked, &reclaimed.entries, began);
        self.remember(&reclaimed.entries);
        self.flags.set_paused(reclaimed.paused);
        self.link.found_paused(reclaimed.paused);
        let (mine, others): (Vec<_>, Vec<_>) = reclaimed
            .entries
            .into_iter()
            .partition(|entry| held.contains(&entry.id));
        let put_back = self.take_back_claims(mine).await;
        let lost = others.iter().filter(|entry| entry.deliveries > 1).count();
        self.tally.count(Event::Reclaimed, lost as u64);
        let cancelled = self.cancelled(&others).await?;
        let left = self
            .triage
            .deliver_again(Step::TakenOver, others, &cancelled, self.epoch);
        if left.to_others || left.here || put_back {
            self.plan.brought(Instant::now(), interval, !left.here);
        }
        Ok(())
    }

    /// Which of these entries somebody wants to be cancelled. They were another process', or a reply with
    /// them was lost: so no heartbeat of this worker has asked. After an error they are not started, and
    /// found again as orphans.
    pub(super) async fn cancelled(
        &mut self,
        entries: &[Entry],
    ) -> Result<FxHashSet<EntryId>, Error> {
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
        self.broker.cancelled(&mut self.link, &ids).await
    }

    /// Takes back the delivery that a claim counted for entries that this worker held before
    /// the claim, and does not start them again. Entries whose handler still runs keep their
    /// lease. Entries that hang, or that ended while the claim was on its way, are put back, so
    /// that another worker can claim them: then the answer is true.
    async fn take_back_claims(&mut self, mine: Vec<Entry>) -> bool {
        if mine.is_empty() {
            return false;
        }
        self.held.claimed_again(mine.iter().map(|entry| entry.id));
        let living = self.held.renewable(Instant::now());
        let living: FxHashSet<EntryId> = living.iter().map(|lease| lease.id).collect();
        let counts = mine
            .iter()
            .map(|entry| (entry.id, entry.deliveries.saturating_sub(1)));
        let (keep, leave): (Vec<_>, Vec<_>) = counts.partition(|(id, _)| living.contains(id));
        self.broker
            .recount(&mut self.link, Touch::Renew, &keep)
            .await;
        self.broker
            .recount(&mut self.link, Touch::PutBack, &leave)
            .await;
        // An entry that was put back a moment before the claim has a fresh lease now, and
        // nobody holds it once its settlement is confirmed.
        self.plan.look_again(Instant::now());
        !leave.is_empty()
    }
}
