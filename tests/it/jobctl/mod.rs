//! `jobctl` shows what is in the queue and steers it, says how each command ended, and is safe in every
//! terminal and pipe.

mod arguments;
mod finding;
mod long_work;
mod looking;
mod outages;
mod pipes;
mod steering;
mod sweeping;
mod terminals;
mod top;

use serde_json::Value;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis, SCHEDULED, eventually};

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Said {
    /// The document on stdout.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    fn ends(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// Runs a command to its end.
async fn finished(builder: ProcessBuilder) -> Said {
    let process = builder.start();
    let status = process.wait_exit(PATIENCE).await.code();
    let text = |lines: Vec<String>| lines.join("\n");
    Said {
        status: status.expect("it was not ended by a signal"),
        out: text(process.stdout().into_iter().map(|line| line.text).collect()),
        err: text(process.stderr().into_iter().map(|line| line.text).collect()),
    }
}

/// Runs `jobctl` with these arguments.
async fn jobctl(redis: &Redis, arguments: &[&str]) -> Said {
    finished(Process::jobctl(redis).args(arguments)).await
}

/// The JSON of a job of the test worker that the API could have registered.
fn job(kind: &str, id: &str, ms: u64) -> String {
    format!(r#"{{"id":"{id}","type":"test:{kind}","payload":{{"n":1,"ms":{ms}}}}}"#)
}

/// Puts a job into the scheduled set as a worker does. It is due in `seconds`.
async fn schedule(redis: &Redis, id: &str, seconds: u64) {
    let now = redis.now_ms().await;
    let due = (now + seconds * 1000).to_string();
    let member = format!("{now}-0:{}", job("sleep", id, 0));
    redis.cmd(&["ZADD", SCHEDULED, &due, &member]).await;
}

/// A worker with one slot, which runs the job of this id. It ends within a second when it is cancelled.
async fn busy_worker(redis: &Redis, id: &str) -> Process {
    let worker = Process::test_worker(redis)
        .env("APP__JOBQUEUE__CONCURRENCY", "1")
        .env("APP__JOBQUEUE__LEASE", "2s")
        .start();
    redis.add_job(&job("sleep", id, 60_000)).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    worker
}

/// Waits until a command's document is as wanted.
async fn eventually_json(
    redis: &Redis,
    arguments: &[&str],
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    eventually(
        format!("{arguments:?} is as wanted"),
        PATIENCE,
        async || {
            let said = jobctl(redis, arguments).await;
            let json = serde_json::from_str(&said.out).ok()?;
            wanted(&json).then_some(json)
        },
    )
    .await
}
