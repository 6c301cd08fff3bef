//! Finds entries that are pending for this worker and that it does not hold: the reply that
//! delivered them was lost.
//!
//! `XREADGROUP ... 0` is not used. It counts a delivery for every pending entry, and returns
//! entries whose outcome the settler is sending at the same time.

use std::time::Instant;

use tracing::info;

use super::Fetcher;
use super::plan::{Cause, OrphanCheck};
use super::reply_size::MAX_REPLY;
use crate::service::jobqueue::redis::{EntryId, Error, Take};
use crate::service::jobqueue::worker::trail::Step;

/// How many bytes one reply brings at most. A larger entry may be why its delivery was lost, so
/// it is fetched by itself.
const MAX_BYTES: usize = 64 * 1024;
const FOUND: &str = "found jobs whose delivery was lost on the way";

impl Fetcher {
    /// Takes in the orphans of one page of what is pending for this worker.
    pub(super) async fn recover_orphans(&mut self, check: OrphanCheck) -> Result<(), Error> {
        let page = self
            .broker
            .pending(&mut self.link, check.after, MAX_REPLY)
            .await?;
        let orphans = page.iter().filter(|id| !self.held.contains(**id));
        let found = self.take_orphans(orphans.copied().collect()).await?;
        if found > 0
            && check.cause == Cause::LostReply
            && let Some(suppressed) = self.log.admit_many(FOUND, "", "", found as u64)
        {
            info!(found, suppressed, "{FOUND}");
        }
        let last = page.last().filter(|_| page.len() == MAX_REPLY);
        self.plan.orphan_page_done(check, last.copied());
        Ok(())
    }

    /// Has these entries delivered once more, as many at a time as one reply carries. Answers
    /// how many came: the settler may have settled some of them meanwhile.
    async fn take_orphans(&mut self, mut ids: Vec<EntryId>) -> Result<usize, Error> {
        let mut found = 0;
        while !ids.is_empty() && !self.flags.stop.is_cancelled() {
            let (bytes, time) = self.reply_size.bytes_and_time();
            let take = Take {
                lease: self.times.lease,
                time,
                max_bytes: bytes.min(MAX_BYTES),
                counts: false,
            };
            let began = Instant::now();
            let took = self.broker.take(&mut self.link, take, &ids).await;
            if took.is_err() {
                // So much was asked for, and the next reply is to be half as large.
                self.reply_size.asked_for_bytes(take.max_bytes);
            }
            let (looked_at, entries) = took?;
            self.measure(self.reply_size.asked(), &entries, began);
            self.remember(&entries);
            found += entries.len();
            // The script looks at one id at least: it takes an entry that fits nowhere as well.
            ids.drain(..looked_at.clamp(1, ids.len()));
            let cancelled = self.cancelled(&entries).await?;
            self.triage
                .deliver_again(Step::Delivered, entries, &cancelled, self.epoch);
        }
        Ok(found)
    }
}
