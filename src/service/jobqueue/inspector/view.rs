//! What an operator sees of a queue. The names of these fields are those of `jobctl --json`, which
//! scripts read: they stay. Times are milliseconds since 1970 by Redis' clock, unless a field says that
//! it is a span of time.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In the stream, for any worker to take. A job that was put back waits too.
    Waiting,
    /// In the stream, and delivered to a worker.
    Running,
    /// In the scheduled set, until it is due.
    Scheduled,
    /// In the dead letters.
    Dead,
    /// It has run. Only the newest ones are kept, and at a high rate a sample of them.
    Done,
}

/// A queue at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Its name.
    pub queue: String,
    /// Jobs that any worker may take.
    pub waiting: u64,
    /// Jobs that were delivered to a worker.
    pub running: u64,
    /// Jobs with a time before which they do not run, those that are due included.
    pub scheduled: u64,
    /// Scheduled jobs whose time has come.
    pub due: u64,
    /// Dead letters.
    pub dead: u64,
    /// How long the oldest waiting job has been in the stream, in milliseconds; null when none waits.
    pub oldest_waiting_ms: Option<u64>,
    /// How long until the next scheduled job is due, in milliseconds; 0 when one is due, null when there is none.
    pub next_due_ms: Option<u64>,
    /// Workers that live.
    pub workers: u64,
    /// How many jobs they can run at once.
    pub slots: u64,
    /// How many they run.
    pub slots_busy: u64,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// Since midnight (UTC).
    pub today: Totals,
    /// The last 60 seconds. The times are those of the finished jobs that are kept.
    pub last_minute: LastMinute,
}

/// How often something happened on one day (UTC).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Jobs that ran to their end.
    pub completed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Failed jobs that were scheduled for another attempt.
    pub retried: u64,
    /// Jobs that became dead letters, by reason.
    pub dead: BTreeMap<String, u64>,
    /// Jobs that were taken over from workers that are gone.
    pub reclaimed: u64,
    /// Jobs that a worker has given back without a result.
    pub put_back: u64,
}

/// How fast jobs have run lately. Latencies are absent when nothing finished, or the finished jobs are not kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LastMinute {
    /// Jobs that ran to their end.
    pub completed: u64,
    /// The same, a second.
    pub per_second: f64,
    /// From the moment when a job could run until it was started.
    pub wait_ms: Option<Quantiles>,
    /// From its start to its end.
    pub run_ms: Option<Quantiles>,
}

/// How long something took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Half of them took no longer.
    pub p50: u64,
    /// 95 of a hundred took no longer.
    pub p95: u64,
    /// The longest.
    pub max: u64,
}

/// One job. What does not apply to its state, or is not known, is absent.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    /// Where it is.
    pub state: State,
    /// The id that the API answered, or that of the job's first entry. It stays the same for the job's whole life.
    pub job_id: String,
    /// The id of its entry in the stream or among the dead letters, or of the entry that it left
    /// for the scheduled set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<String>,
    /// Absent when the entry is no job.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// How many attempts have failed.
    pub attempt: u32,
    /// How many times a failed attempt is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retry: Option<u32>,
    /// When it was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered_ms: Option<u64>,
    /// When it may run: of a scheduled job, and of a waiting one that no worker has parked yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<u64>,
    /// When it is too late to start it for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// The worker that has it, or that ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// How often its entry was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<u64>,
    /// Somebody has asked for its end, and its worker has not ended it yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
    /// When its last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// Of a finished job: how many finished jobs this one stands for, itself included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<u64>,
    /// When it became a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died_ms: Option<u64>,
    /// Why it is a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What its handler gets, as the producer wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// The fields of an entry that is no job, as text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

impl JobView {
    /// A job of which no more is known than where it is and what it is called.
    pub(super) fn new(state: State, job_id: String) -> Self {
        Self {
            state,
            job_id,
            entry_id: None,
            job_type: None,
            attempt: 0,
            max_retry: None,
            registered_ms: None,
            due_ms: None,
            expires_at_ms: None,
            worker: None,
            deliveries: None,
            cancelling: false,
            started_ms: None,
            finished_ms: None,
            stands_for: None,
            died_ms: None,
            reason: None,
            error: None,
            payload: None,
            fields: BTreeMap::new(),
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// The jobs, in the order of the list.
    pub jobs: Vec<JobView>,
    /// Where the next page begins: what to give as `after`. Null when this is the last one.
    pub next: Option<String>,
}

/// One worker. Workers of versions before 0.2 tell nothing of themselves but their name.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerView {
    /// Its name in the group.
    pub name: String,
    /// Whether it has renewed its leases lately.
    pub alive: bool,
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its process there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Which version it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it has told of itself last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_ms: Option<u64>,
    /// How many jobs it can run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// How many it ran then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// How many it had then, those included that it has fetched ahead or not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// How many jobs Redis has delivered to it that are not settled.
    pub pending: u64,
    /// The oldest of these jobs.
    pub jobs: Vec<JobView>,
}
