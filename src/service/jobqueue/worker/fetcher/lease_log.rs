//! What an operator is told of leases: once, and not with each look.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::service::jobqueue::redis::broker::{LeaseTimes, Look, Reclaimed};
use crate::service::jobqueue::worker::job_log::JobLog;

const DELETED: &str = "pending jobs had been deleted from the stream by somebody else";
/// Stranded jobs are told no more often than this.
const STRANDED_INTERVAL: Duration = Duration::from_secs(60);

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct LeaseLog {
    different: bool,
    too_short: bool,
    long_hold: bool,
    /// What was found since it was told last.
    stranded: u64,
    stranded_told: Option<Instant>,
}

impl LeaseLog {
    /// After each look.
    pub(crate) fn looked(
        &mut self,
        times: &LeaseTimes,
        look: &Look,
        found: &Reclaimed,
        log: &JobLog,
    ) {
        self.tell_too_short(times, look);
        self.tell_different(look, found.leases);
        self.tell_long_hold(look, found.overdue);
        self.tell_stranded(found.stranded, Instant::now());
        let count = found.deleted;
        if count > 0
            && let Some(suppressed) = log.admit_many(DELETED, "", "", count)
        {
            warn!(count, suppressed, "{DELETED}");
        }
    }

    fn tell_too_short(&mut self, times: &LeaseTimes, look: &Look) {
        if look.lease > times.lease && !self.too_short {
            self.too_short = true;
            warn!(
                lease = ?times.lease,
                used = ?look.lease,
                "redis is too far away for this lease: heartbeats cannot keep it. A longer one \
                 is used; set a longer `jobqueue.lease`"
            );
        }
    }

    fn tell_different(&mut self, look: &Look, leases: (Duration, Duration)) {
        let (shortest, longest) = leases;
        let told = std::mem::replace(&mut self.different, shortest != longest);
        if shortest != longest && !told {
            warn!(
                own = ?look.lease,
                ?shortest,
                ?longest,
                "the workers of this queue have different leases. For each job the lease of \
                 its worker counts, which costs redis more; set the same `jobqueue.lease` for \
                 all of them"
            );
        }
    }

    fn tell_long_hold(&mut self, look: &Look, overdue: Duration) {
        if overdue > look.hold && !self.long_hold {
            self.long_hold = true;
            warn!(
                ?overdue,
                "nobody takes over from dead workers: redis, or the way to it, stands still \
                 again and again"
            );
        }
        self.long_hold &= !overdue.is_zero();
    }

    fn tell_stranded(&mut self, found: u64, now: Instant) {
        self.stranded += found;
        let told = self.stranded_told;
        let silent = told.is_some_and(|told| now - told < STRANDED_INTERVAL);
        // The first look that finds none comes a moment after the one that found the last.
        if self.stranded > 0 && found == 0 && !silent {
            warn!(
                count = self.stranded,
                "found jobs that had been read and were pending for nobody, as XGROUP \
                 DELCONSUMER or XGROUP SETID leave them; they are run"
            );
            self.stranded = 0;
            self.stranded_told = Some(now);
        }
    }
}
