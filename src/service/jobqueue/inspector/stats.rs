//! The queue as a whole. Its cost does not grow with the number of jobs, but for what is pending and what has
//! finished in the last minute, and both are bounded.

use super::Inspector;
use super::latency::Times;
use super::view::{LastMinute, Stats, Totals};
use super::workers::alive;
use crate::service::jobqueue::redis::looking::{Range, Stored, stream_part};
use crate::service::jobqueue::redis::pending::pending_part;
use crate::service::jobqueue::redis::{EntryId, Error, Overview, overview};

/// So many pending entries are read at once, and so often at most. What is behind them counts as running.
pub(super) const PENDING_AT_ONCE: usize = 1000;
pub(super) const PENDING_READS: usize = 20;
/// So often the finished jobs of the last minute are read on, at most.
const FINISHED_READS: usize = 40;
const FINISHED_AT_ONCE: usize = 500;
const MINUTE_MS: u64 = 60_000;

impl Inspector {
    /// The queue at this moment.
    ///
    /// # Errors
    /// When Redis refuses, or does not answer.
    pub async fn stats(&mut self) -> Result<Stats, Error> {
        self.link.connect().await;
        let overview = overview(&self.keys, &mut self.link).await?;
        let (put_back, first_put_back) = match overview.pending {
            0 => (0, None),
            _ => self.put_back().await?,
        };
        let put_back = put_back.min(overview.pending);
        let running = overview.pending - put_back;
        let oldest = [overview.next, first_put_back].into_iter().flatten().min();
        let workers = alive(&overview);
        Ok(Stats {
            queue: self.queue.clone(),
            // What was deleted while it was pending is still counted as pending.
            waiting: overview.entries.saturating_sub(running),
            running: running.min(overview.entries),
            scheduled: overview.scheduled,
            due: overview.due,
            dead: overview.dead,
            oldest_waiting_ms: oldest.map(|id| overview.now_ms.saturating_sub(id.ms())),
            next_due_ms: overview
                .due_ms
                .map(|due| due.saturating_sub(overview.now_ms)),
            workers: workers.count,
            slots: workers.slots,
            slots_busy: workers.busy,
            paused: overview.paused,
            last_minute: self.last_minute(&overview).await?,
            today: totals(&overview.totals),
        })
    }

    /// How many pending entries were put back, and the first of them.
    async fn put_back(&mut self) -> Result<(u64, Option<EntryId>), Error> {
        let (mut count, mut first, mut after) = (0, None, None);
        for _ in 0..PENDING_READS {
            let part =
                pending_part(&mut self.link, &self.keys, after, PENDING_AT_ONCE, None).await?;
            for row in part.rows.iter().filter(|row| row.is_put_back) {
                count += 1;
                first = first.or(Some(row.id));
            }
            after = part.rows.last().map(|row| row.id);
            if part.rows.len() < PENDING_AT_ONCE {
                break;
            }
        }
        Ok((count, first))
    }

    async fn last_minute(&mut self, overview: &Overview) -> Result<LastMinute, Error> {
        let since = overview.now_ms.saturating_sub(MINUTE_MS);
        let mut range = Range {
            after: Some(EntryId::first_at(since)),
            newest_first: true,
            ..Range::default()
        };
        let mut sum = Sum::default();
        let reads = if overview.done > 0 { FINISHED_READS } else { 0 };
        for _ in 0..reads {
            let done = &self.keys.done;
            let part = stream_part(&mut self.link, done, range, FINISHED_AT_ONCE, &[]).await?;
            part.found.iter().for_each(|entry| sum.add(entry));
            let Some(last) = part.last else { break };
            range = range.behind(last);
        }
        Ok(sum.last_minute(completed(overview)))
    }
}

/// How many jobs were completed in the last 60 seconds. The minute of the clock before this one counts for the
/// part of it that they reach back to, as if its jobs had been spread evenly.
fn completed(overview: &Overview) -> u64 {
    let rest = MINUTE_MS - overview.now_ms % MINUTE_MS;
    let before = overview.minute_before.saturating_mul(rest) / MINUTE_MS;
    overview.this_minute.saturating_add(before)
}

/// The times of the finished jobs of the last minute that are kept.
#[derive(Default)]
struct Sum {
    waits: Times,
    runs: Times,
}

impl Sum {
    fn add(&mut self, entry: &Stored) {
        let number = |name| -> Option<u64> {
            let text = std::str::from_utf8(entry.field(name)?).ok()?;
            text.parse().ok()
        };
        let count = number("count").unwrap_or(1);
        if let Some(started) = number("started_ms") {
            if let Some(due) = number("due_ms") {
                self.waits.add(started.saturating_sub(due), count);
            }
            if let Some(finished) = number("finished_ms") {
                self.runs.add(finished.saturating_sub(started), count);
            }
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "a rate is shown with two digits"
    )]
    fn last_minute(self, completed: u64) -> LastMinute {
        LastMinute {
            completed,
            per_second: completed as f64 / 60.0,
            wait_ms: self.waits.quantiles(),
            run_ms: self.runs.quantiles(),
        }
    }
}

/// The counters of a day, by their names in the hash.
fn totals(counters: &[(String, u64)]) -> Totals {
    let mut totals = Totals::default();
    for (name, count) in counters {
        match name.as_str() {
            "completed" => totals.completed = *count,
            "failed" => totals.failed = *count,
            "retried" => totals.retried = *count,
            "reclaimed" => totals.reclaimed = *count,
            "put_back" => totals.put_back = *count,
            _ => {
                if let Some(reason) = name.strip_prefix("dead.") {
                    totals.dead.insert(reason.to_owned(), *count);
                }
            }
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_a_day_have_their_places() {
        let counters = [
            ("completed", 7),
            ("dead.poison", 2),
            ("dead.a.b", 1),
            ("new", 5),
        ];
        let counters = counters.map(|(name, count)| (name.to_owned(), count));
        let totals = totals(&counters);
        assert_eq!((totals.completed, totals.failed), (7, 0));
        assert_eq!((totals.dead["poison"], totals.dead["a.b"]), (2, 1));
    }

    #[test]
    fn the_last_sixty_seconds_reach_into_the_minute_before() {
        for (now_ms, expected) in [(0, 600), (15_000, 457), (59_999, 10)] {
            let overview = Overview {
                now_ms: 600_000 + now_ms,
                this_minute: if now_ms > 0 { 7 } else { 0 },
                minute_before: if now_ms > 59_000 { 200_000 } else { 600 },
                ..Overview::default()
            };
            assert_eq!(completed(&overview), expected, "{now_ms}");
        }
    }

    #[test]
    fn a_sample_counts_as_what_it_stands_for() {
        let mut sum = Sum::default();
        for (count, started, finished) in [("9", "110", "115"), ("1", "200", "900")] {
            let fields = [
                ("count", count),
                ("due_ms", "100"),
                ("started_ms", started),
                ("finished_ms", finished),
            ];
            let bytes = |(name, value): (&str, &str)| (name.into(), value.into());
            sum.add(&Stored {
                id: "900-0".parse().unwrap(),
                fields: fields.into_iter().map(bytes).collect(),
            });
        }
        let last = sum.last_minute(10);
        let (waits, runs) = (last.wait_ms.unwrap(), last.run_ms.unwrap());
        assert_eq!((waits.p50, waits.max), (10, 100));
        assert_eq!((runs.p50, runs.p95, runs.max), (5, 700, 700));
    }
}
