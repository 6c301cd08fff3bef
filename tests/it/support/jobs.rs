//! Jobs of the test worker, and how to read its output.

use super::{PATIENCE, Process, Redis, eventually};

/// The JSON of a job of the test worker: type `test:{kind}`, payload `{"n":…,"ms":…}`.
pub(crate) fn test_job(kind: &str, n: u64, ms: u64) -> String {
    format!(r#"{{"type":"test:{kind}","payload":{{"n":{n},"ms":{ms}}}}}"#)
}

/// A lease that is short enough for a test. It makes the heartbeat 667 ms, the reclaim interval 333
/// ms, and the reclaim hold at most 2.2 s.
pub(crate) const LEASE: (&str, &str) = ("APP__JOBQUEUE__LEASE", "2s");

impl Redis {
    /// Adds a job of the test worker, and returns its entry id.
    pub(crate) async fn add_test_job(&self, kind: &str, n: u64, ms: u64) -> String {
        self.add_job(&test_job(kind, n, ms)).await
    }

    /// Runs a job with a delay, one that is retried and one that is buried by this test worker.
    pub(crate) async fn run_each_kind(&self, worker: &Process) {
        let delayed = r#"{"type":"test:sleep","payload":{"n":1},"delay_ms":300}"#;
        self.add_job(delayed).await;
        self.add_test_job("fail", 2, 1).await;
        self.add_test_job("malformed", 3, 0).await;
        for end in ["end 1", "end 2"] {
            worker.wait_for_line(|line| line == end, PATIENCE).await;
        }
        self.drained(PATIENCE).await;
        assert_eq!(self.dead_letters().await.len(), 1);
    }

    /// Waits until a worker has a blocking read in Redis.
    pub(crate) async fn wait_for_reader(&self) {
        eventually("a worker waits for a job", PATIENCE, async || {
            let list: String = self.query(&["CLIENT", "LIST"]).await;
            let reads = |line: &str| line.contains("flags=b") && line.contains("jobqueue-fetch");
            list.lines().any(reads).then_some(())
        })
        .await;
    }
}

impl Process {
    /// The number of lines on stdout that equal `line`.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.stdout()
            .iter()
            .filter(|each| each.text == line)
            .count()
    }

    /// The number of lines on stderr that contain `part`. A program writes its log from a thread of
    /// its own, so a line may come a moment after the event that it tells of. A test that expects a
    /// line waits for it first.
    pub(crate) fn count_log(&self, part: &str) -> usize {
        self.stderr()
            .iter()
            .filter(|each| each.text.contains(part))
            .count()
    }
}
