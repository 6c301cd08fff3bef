//! Who holds which entry, and taking entries over by hand. Any client of Redis could do the same
//! beside the workers.

use std::time::Duration;

use super::{GROUP, PATIENCE, Pending, Process, Redis, STREAM, eventually, within};

/// An idle time, in ms, after which every lease has ended.
pub(crate) const LONG_IDLE: u64 = 3_600_000;

/// Asserts that a condition holds during the whole time.
///
/// # Panics
///
/// When it does not hold at one of the looks.
pub(crate) async fn stays(what: &str, window: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let broken = within(window, async || (!holds().await).then_some(())).await;
    assert!(broken.is_none(), "within {window:?} no longer: {what}");
}

impl Redis {
    /// The delivered entry with this id, or nothing when it was settled.
    pub(crate) async fn pending_entry(&self, id: &str) -> Option<Pending> {
        let mut entries = self.pending_entries().await;
        entries.retain(|entry| entry.id == id);
        entries.pop()
    }

    /// Makes `consumer` the owner of a delivered entry. The entry then looks untouched for
    /// `idle_ms`. Its delivery count does not change.
    pub(crate) async fn hand_over(&self, id: &str, consumer: &str, idle_ms: u64) {
        let idle_ms = idle_ms.to_string();
        let claim = [
            "XCLAIM", STREAM, GROUP, consumer, "0", id, "IDLE", &idle_ms, "JUSTID",
        ];
        let claimed: Vec<String> = self.query(&claim).await;
        assert_eq!(claimed, [id], "it was pending");
    }

    /// Adds jobs that look as if a consumer that is not a worker had received them and died. They
    /// look as if they had been delivered `deliveries` times. All is one step, because a waiting
    /// worker would otherwise get the jobs.
    pub(crate) async fn add_abandoned(&self, jobs: &[String], deliveries: u64) -> Vec<String> {
        let script = "local ids = {}
            redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
            for i = 4, #ARGV do
                ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', 'job', ARGV[i])
                redis.call('XREADGROUP', 'GROUP', ARGV[1], 'gone', 'STREAMS', KEYS[1], '>')
                redis.call('XCLAIM', KEYS[1], ARGV[1], 'gone', 0, ids[#ids], 'IDLE', ARGV[3],
                    'RETRYCOUNT', ARGV[2], 'JUSTID')
            end
            return ids";
        let (deliveries, idle_ms) = (deliveries.to_string(), LONG_IDLE.to_string());
        let mut args = vec!["EVAL", script, "1", STREAM, GROUP, &deliveries, &idle_ms];
        args.extend(jobs.iter().map(String::as_str));
        self.query(&args).await
    }

    /// Halts `worker`, which is the only one, in its blocking read, and adds a job. Redis then has
    /// delivered the job to the worker, but the worker has not seen it.
    pub(crate) async fn add_unseen(&self, worker: &Process, job: &str) -> String {
        eventually("a halted worker is given a job", PATIENCE, async || {
            self.wait_for_reader().await;
            worker.stop();
            let id = self.add_job(job).await;
            if self.pending_entry(&id).await.is_some() {
                return Some(id);
            }
            // The blocking read had ended a moment before, so the job was not delivered.
            self.cmd(&["XDEL", STREAM, &id]).await;
            worker.cont();
            None
        })
        .await
    }

    /// Waits until the stream is empty and this many jobs are scheduled and dead.
    pub(crate) async fn settled(&self, scheduled: u64, dead: u64) {
        let what = format!("nothing runs, {scheduled} scheduled, {dead} dead");
        eventually(what, PATIENCE, async || {
            let backlog = self.backlog().await;
            let places = (backlog.stream, backlog.scheduled, backlog.dead);
            (places == (0, scheduled, dead)).then_some(())
        })
        .await;
    }
}
