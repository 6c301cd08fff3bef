//! What an operator may ask of a queue and do to it, on a real Redis: what is shown is what is there, each action
//! is done to the one job that was meant, and no size of the backlog makes it slow.

mod acting;
mod lists;
mod overview;
mod searching;
mod sizes;
mod sweeping;

use dm_jobqueue::RedisConfig;
use dm_jobqueue::program::inside::{self, Acted, Action, Filter, Inspector, JobView, State, Swept};
use redis::Value;

use crate::support::{DEAD, GROUP, Redis, SCHEDULED, STREAM};

const DONE: &str = "jobqueue:{default}:done";
const CANCEL: &str = "jobqueue:{default}:cancel";
const TOTALS: &str = "jobqueue:{default}:totals";
const WORKERS: &str = "jobqueue:{default}:workers";

/// An inspector of the queue `default`.
fn inspect(redis: &Redis) -> Inspector {
    let config = RedisConfig {
        addr: redis.addr(),
        ..RedisConfig::default()
    };
    inside::inspector(&config, "default").unwrap()
}

async fn find(inspector: &mut Inspector, id: &str) -> Option<JobView> {
    inspector.find(id, &mut |_| true).await.unwrap()
}

async fn act(inspector: &mut Inspector, action: Action, id: &str) -> Acted {
    inspector.act(action, id, &mut |_| true).await.unwrap()
}

async fn sweep(inspector: &mut Inspector, action: Action, state: State, filter: &Filter) -> Swept {
    let go_on = &mut |_| true;
    let extent = inspector.extent(state).await.unwrap();
    let swept = inspector.act_on_all(action, &extent, filter, go_on).await;
    swept.unwrap()
}

/// What the queue holds, made by hand.
impl Redis {
    async fn make_group(&self) {
        self.cmd(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"])
            .await;
    }

    /// Delivers up to `count` entries to a consumer, and returns their ids.
    async fn deliver(&self, consumer: &str, count: u64) -> Vec<String> {
        let count = count.to_string();
        let read = [
            "XREADGROUP",
            "GROUP",
            GROUP,
            consumer,
            "COUNT",
            &count,
            "STREAMS",
            STREAM,
            ">",
        ];
        type Streams = Vec<(String, Vec<(String, Value)>)>;
        let streams: Option<Streams> = self.query(&read).await;
        let entries = streams.into_iter().flatten().flat_map(|stream| stream.1);
        entries.map(|entry| entry.0).collect()
    }

    /// Leaves a delivered entry for anybody to claim, as a worker does that shuts down.
    async fn put_back(&self, id: &str) {
        let claim = [
            "XCLAIM", STREAM, GROUP, "gone", "0", id, "TIME", "1", "JUSTID",
        ];
        self.cmd(&claim).await;
    }

    async fn schedule(&self, due_ms: u64, member: &str) {
        self.cmd(&["ZADD", SCHEDULED, &due_ms.to_string(), member])
            .await;
    }

    async fn add_letter(&self, job: &str, reason: &str, died_from: &str) -> String {
        self.add_letter_as("*", job, reason, died_from).await
    }

    /// A dead letter with this id.
    async fn add_letter_as(&self, id: &str, job: &str, reason: &str, died_from: &str) -> String {
        let letter = [
            "XADD",
            DEAD,
            id,
            "job",
            job,
            "reason",
            reason,
            "error",
            "it broke",
            "attempt",
            "3",
            "deliveries",
            "1",
            "died_from",
            died_from,
        ];
        self.query(&letter).await
    }

    async fn finish(&self, job_id: &str, count: u64, times: [u64; 3]) {
        let [due, started, finished] = times.map(|ms| ms.to_string());
        let count = count.to_string();
        let entry = [
            "XADD",
            DONE,
            "*",
            "job_id",
            job_id,
            "type",
            "x",
            "attempt",
            "1",
            "registered_ms",
            &due,
            "due_ms",
            &due,
            "started_ms",
            &started,
            "finished_ms",
            &finished,
            "consumer",
            "w1",
            "count",
            &count,
        ];
        self.cmd(&entry).await;
    }
}

/// The JSON of a job with this id.
fn named(id: &str) -> String {
    format!(r#"{{"id":"{id}","type":"x","payload":{{"n":1}}}}"#)
}
