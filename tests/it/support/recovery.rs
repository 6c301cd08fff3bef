//! Helpers of the tests that hand jobs from one worker to another: settings that show whether a job
//! was put back or its lease ran out, and jobs in bulk.

use redis::RedisResult;

use super::{PATIENCE, Redis, STREAM, eventually};

/// Frequent reclaims and a lease that is much longer. When another worker runs a job within a few
/// seconds, the job was put back and its lease did not end.
pub(crate) const LONG_LEASE: [(&str, &str); 3] = [
    ("APP__JOBQUEUE__LEASE", "15s"),
    ("APP__JOBQUEUE__HEARTBEAT", "1s"),
    ("APP__JOBQUEUE__RECLAIM_INTERVAL", "300ms"),
];

impl Redis {
    /// Waits until a worker keeps the reclaim mark and no hold stops reclaims. A hold lasts for a
    /// while after the first worker's start.
    pub(crate) async fn reclaiming(&self) {
        eventually("reclaims are not held back", PATIENCE, async || {
            let state = self.state().await;
            let hold_ms: u64 = state.get("reclaim_hold_ms")?.parse().unwrap();
            (hold_ms < self.now_ms().await).then_some(())
        })
        .await;
    }

    /// Adds jobs in one write, and returns their entry ids.
    pub(crate) async fn add_jobs(&self, jobs: impl IntoIterator<Item = String>) -> Vec<String> {
        self.try_add_jobs(jobs).await.unwrap()
    }

    /// Adds jobs to a Redis that may not answer. After an error nobody knows which jobs were added.
    pub(crate) async fn try_add_jobs(
        &self,
        jobs: impl IntoIterator<Item = String>,
    ) -> RedisResult<Vec<String>> {
        let mut pipeline = redis::pipe();
        for job in jobs {
            pipeline
                .cmd("XADD")
                .arg(STREAM)
                .arg("*")
                .arg("job")
                .arg(job);
        }
        let mut connection = self.connect().await?;
        pipeline.query_async(&mut connection).await
    }

    /// Adds an entry with any fields, and returns its id.
    pub(crate) async fn add_entry(&self, fields: &[(&[u8], &[u8])]) -> String {
        let mut args: Vec<&[u8]> = vec![b"XADD", STREAM.as_bytes(), b"*"];
        for (field, value) in fields {
            args.extend([*field, *value]);
        }
        self.query(&args).await
    }
}
