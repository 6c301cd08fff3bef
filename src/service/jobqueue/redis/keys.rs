//! The keys of one queue in Redis, and the field of a stream entry.

/// The field of a stream entry that holds the job.
pub(super) const JOB_FIELD: &str = "job";

/// The keys of one queue. Their common hash tag keeps them in one cluster slot.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Stream: jobs that wait or run.
    pub stream: String,
    /// Sorted set: jobs that are not due yet.
    pub scheduled: String,
    /// Stream: dead letters.
    pub dead: String,
    /// Hash: the schema's version, the mark of the stream, and what the workers know together.
    pub state: String,
    /// Sorted set: the lease of each worker, in milliseconds.
    pub leases: String,
    /// Hash: what each worker tells of itself, as JSON.
    pub workers: String,
    /// Stream: the newest jobs that have finished, or a sample of them.
    pub done: String,
    /// Hash: how often what happened on which day.
    pub totals: String,
    /// Hash: the entries of running jobs that are to be cancelled, and since when.
    pub cancel: String,
}

impl Keys {
    /// The keys of the queue named `queue`.
    pub fn new(queue: &str) -> Self {
        let stream = format!("jobqueue:{{{queue}}}");
        Self {
            scheduled: format!("{stream}:scheduled"),
            dead: format!("{stream}:dead"),
            state: format!("{stream}:state"),
            leases: format!("{stream}:leases"),
            workers: format!("{stream}:workers"),
            done: format!("{stream}:done"),
            totals: format!("{stream}:totals"),
            cancel: format!("{stream}:cancel"),
            stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_queue_share_one_hash_tag() {
        let keys = Keys::new("mail");
        for key in [
            &keys.stream,
            &keys.scheduled,
            &keys.dead,
            &keys.state,
            &keys.leases,
            &keys.workers,
            &keys.done,
            &keys.totals,
            &keys.cancel,
        ] {
            assert!(key.starts_with("jobqueue:{mail}"), "{key}");
        }
    }
}
