//! What the log says of leases: each trouble once, and not at each look for expired leases.

use std::mem::replace;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::service::jobqueue::redis::{LeaseTimes, Look, Reclaimed};
use crate::service::jobqueue::worker::job_log::JobLog;

const DELETED: &str = "pending jobs had been deleted from the stream by somebody else";
/// Stranded jobs are logged no more often than this.
const STRANDED_INTERVAL: Duration = Duration::from_secs(60);

/// What was logged, and what still is the case.
#[derive(Debug, Default)]
pub(super) struct LeaseLog {
    /// The workers of the queue have different leases.
    different: bool,
    /// Redis is too far away for the configured lease. This is logged once in a worker's life.
    too_short: bool,
    /// Nobody has claimed for longer than a hold.
    long_hold: bool,
    /// How many stranded jobs were found since they were logged last.
    stranded: u64,
    stranded_logged: Option<Instant>,
}

impl LeaseLog {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Logs what is new after a look.
    pub(super) fn looked(
        &mut self,
        times: &LeaseTimes,
        look: &Look,
        found: &Reclaimed,
        log: &JobLog,
    ) {
        if self.too_short_is_new(times.lease, look.lease) {
            warn!(
                lease = ?times.lease,
                used = ?look.lease,
                "redis is too far away for this lease: heartbeats cannot keep it. A longer one \
                 is used; set a longer `jobqueue.lease`"
            );
        }
        let (shortest, longest) = found.leases;
        if self.different_is_new(shortest, longest) {
            warn!(
                own = ?look.lease,
                ?shortest,
                ?longest,
                "the workers of this queue have different leases. For each job the lease of \
                 its worker counts, which costs redis more; set the same `jobqueue.lease` for \
                 all of them"
            );
        }
        let overdue = found.overdue;
        if self.long_hold_is_new(look.hold, overdue) {
            warn!(
                ?overdue,
                "nobody takes over from dead workers: redis, or the way to it, stands still \
                 again and again"
            );
        }
        if let Some(count) = self.stranded_to_log(found.stranded, Instant::now()) {
            warn!(
                count,
                "found jobs that had been read and were pending for nobody, as XGROUP \
                 DELCONSUMER or XGROUP SETID leave them; they are run"
            );
        }
        let count = found.deleted;
        if count > 0
            && let Some(suppressed) = log.admit_many(DELETED, "", "", count)
        {
            warn!(count, suppressed, "{DELETED}");
        }
    }

    fn too_short_is_new(&mut self, configured: Duration, used: Duration) -> bool {
        used > configured && !replace(&mut self.too_short, true)
    }

    /// New again once all leases were the same in between.
    fn different_is_new(&mut self, shortest: Duration, longest: Duration) -> bool {
        let different = shortest != longest;
        let before = replace(&mut self.different, different);
        different && !before
    }

    /// New again once somebody has claimed in between.
    fn long_hold_is_new(&mut self, hold: Duration, overdue: Duration) -> bool {
        if overdue.is_zero() {
            self.long_hold = false;
        }
        overdue > hold && !replace(&mut self.long_hold, true)
    }

    /// How many stranded jobs to log now. They are found over several looks, a moment apart, so
    /// the first look that finds none logs the sum.
    fn stranded_to_log(&mut self, found: u64, now: Instant) -> Option<u64> {
        self.stranded += found;
        let logged = self.stranded_logged;
        let is_silent = logged.is_some_and(|logged| now - logged < STRANDED_INTERVAL);
        if self.stranded == 0 || found > 0 || is_silent {
            return None;
        }
        self.stranded_logged = Some(now);
        Some(replace(&mut self.stranded, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_lease_that_is_too_short_is_logged_once() {
        let mut log = LeaseLog::new();
        assert!(!log.too_short_is_new(secs(15), secs(15)));
        assert!(log.too_short_is_new(secs(15), secs(30)));
        assert!(!log.too_short_is_new(secs(15), secs(15)));
        assert!(!log.too_short_is_new(secs(15), secs(30)));
    }

    #[test]
    fn different_leases_are_logged_whenever_they_begin_to_differ() {
        let mut log = LeaseLog::new();
        for (longest, is_new) in [
            (15, false),
            (30, true),
            (30, false),
            (15, false),
            (30, true),
        ] {
            assert_eq!(log.different_is_new(secs(15), secs(longest)), is_new);
        }
    }

    #[test]
    fn a_long_hold_is_logged_again_only_after_somebody_has_claimed() {
        let mut log = LeaseLog::new();
        for (overdue, is_new) in [(7, false), (8, true), (9, false), (1, false), (9, false)] {
            assert_eq!(
                log.long_hold_is_new(secs(7), secs(overdue)),
                is_new,
                "{overdue}"
            );
        }
        assert!(!log.long_hold_is_new(secs(7), secs(0)));
        assert!(log.long_hold_is_new(secs(7), secs(8)));
    }

    #[test]
    fn stranded_jobs_are_summed_up_and_logged_once_a_minute() {
        let (mut log, now) = (LeaseLog::new(), Instant::now());
        assert_eq!(log.stranded_to_log(0, now), None);
        assert_eq!(log.stranded_to_log(100, now), None);
        assert_eq!(log.stranded_to_log(20, now), None);
        assert_eq!(log.stranded_to_log(0, now), Some(120));
        assert_eq!(log.stranded_to_log(0, now), None);
        assert_eq!(log.stranded_to_log(3, now + secs(1)), None);
        assert_eq!(log.stranded_to_log(0, now + secs(59)), None);
        assert_eq!(log.stranded_to_log(0, now + STRANDED_INTERVAL), Some(3));
    }
}
