//! Entry ids occur again. This happens when Redis is back empty or with older data and its clock is
//! behind, or when an operator deletes the stream, or renames it and renames it back. A worker that
//! still holds the old entries must not mistake the new ones for them: each new job runs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Clock, PATIENCE, Process, Redis, STATE, STREAM, eventually, stays, within};

const HELD: usize = 100;
/// How many bytes a pipe takes before it is full.
const PIPE_BYTES: usize = 65_536;
/// The time in which the new jobs run, from the moment that the worker can go on.
const RUN: Duration = Duration::from_secs(8);
const HOUR_MS: i64 = 3_600_000;
/// The key of the stream while it is renamed.
const AWAY: &str = "jobqueue:{default}:away";

fn job(message: &str) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"{message}"}}}}"#)
}

/// A worker that holds `HELD` jobs. They cannot end before somebody reads the worker's output.
struct Scene {
    clock: Clock,
    redis: Redis,
    worker: Process,
    output: Option<PipeReader>,
    lines: Arc<Mutex<Vec<String>>>,
    ids: Vec<String>,
}

/// A pipe that is full.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let mut filling = vec![b'x'; PIPE_BYTES - 1];
    filling.push(b'\n');
    writer.write_all(&filling).unwrap();
    (reader, writer)
}

impl Scene {
    async fn new() -> Self {
        Self::with_snapshot_behind(0).await
    }

    /// The scene, with a snapshot that has only the first `in_snapshot` of the jobs that are held.
    async fn with_snapshot_behind(in_snapshot: usize) -> Self {
        let mut scene = Self::without_jobs().await;
        scene.hold(0, in_snapshot).await;
        scene.redis.cmd(&["SAVE"]).await;
        scene.hold(in_snapshot, HELD).await;
        scene
    }

    /// The scene, with jobs of a stream that took the place of one that was renamed to `AWAY`.
    async fn while_the_stream_is_away() -> Self {
        let mut scene = Self::without_jobs().await;
        scene.redis.cmd(&["RENAME", STREAM, AWAY]).await;
        scene.hold(0, HELD).await;
        scene
    }

    /// A worker that cannot write a line.
    async fn without_jobs() -> Self {
        let clock = Clock::new();
        let redis = Redis::builder().clock(&clock).start().await;
        let (output, stdout) = full_pipe();
        let worker = Process::jobqueue(&redis)
            .env("APP__JOBQUEUE__CONCURRENCY", &HELD.to_string())
            .stdout_to(stdout)
            .start();
        worker.wait_ready(PATIENCE).await;
        Self {
            clock,
            redis,
            worker,
            output: Some(output),
            lines: Arc::default(),
            ids: Vec::new(),
        }
    }

    /// Adds these jobs and lets the worker fetch them. Each job has a millisecond of its own.
    async fn hold(&mut self, from: usize, to: usize) {
        for n in from..to {
            let id = self.redis.add_job(&job(&format!("old {n}"))).await;
            self.ids.push(id);
        }
        let count = u64::try_from(to).unwrap();
        eventually("they are held", PATIENCE, async || {
            (self.redis.pending().await == count).then_some(())
        })
        .await;
    }

    /// The time in the id of held job `n`.
    fn id_ms(&self, n: usize) -> i64 {
        let (ms, _) = self.ids[n].split_once('-').unwrap();
        ms.parse().unwrap()
    }

    /// Starts Redis again with the clock at a time before held job `n` was added.
    async fn back_before(&self, n: usize, empty: bool) {
        self.redis.kill();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_millis()).unwrap();
        // The start of Redis takes a part of the time until then.
        self.clock.set(self.id_ms(n) - now - 500);
        if empty {
            self.redis.up_empty().await;
        } else {
            self.redis.up().await;
        }
        let behind = i64::try_from(self.redis.now_ms().await).unwrap();
        assert!(behind < self.id_ms(n), "the restart took too long");
    }

    /// Adds jobs until Redis' clock is later than the ids of all held jobs. Some of the new jobs
    /// have an id that the worker holds. Returns how many jobs were added.
    async fn add_past_the_held(&self) -> usize {
        // Ids within one millisecond are counted up from 0. With this many jobs in a millisecond,
        // its old ids occur again.
        const AT_ONCE: usize = 20;
        let (first, last) = (self.id_ms(0) - 20, self.id_ms(HELD - 1) + 20);
        eventually("the clock is about there", PATIENCE, async || {
            (i64::try_from(self.redis.now_ms().await).unwrap() >= first).then_some(())
        })
        .await;
        let (mut added, mut again) = (0, 0);
        loop {
            let jobs = (added..added + AT_ONCE).map(|n| job(&format!("new {n}")));
            let ids = self.redis.add_jobs(jobs).await;
            added += AT_ONCE;
            again += ids.iter().filter(|id| self.ids.contains(id)).count();
            let (ms, _) = ids[AT_ONCE - 1].split_once('-').unwrap();
            if ms.parse::<i64>().unwrap() > last {
                break;
            }
        }
        assert!(again > 0, "no id came again");
        added
    }

    /// Adds a job under each id that the worker holds. Only this test does that.
    async fn add_with_the_held_ids(&self) -> usize {
        let add = "for i = 2, #ARGV do
            redis.call('XADD', KEYS[1], ARGV[i],
                'job', (string.gsub(ARGV[1], 'N', tostring(i - 2))))
        end";
        let template = job("new N");
        let mut command = vec!["EVAL", add, "1", STREAM, &template];
        command.extend(self.ids.iter().map(String::as_str));
        self.redis.cmd(&command).await;
        HELD
    }

    /// Reads the output, and asserts that each new job runs once.
    async fn all_new_jobs_run(&mut self, new: usize) {
        let reader = BufReader::new(self.output.take().unwrap());
        let lines = Arc::clone(&self.lines);
        std::thread::spawn(move || {
            for line in reader.lines() {
                lines.lock().unwrap().push(line.unwrap());
            }
        });
        let ran = within(RUN, async || {
            let stored = self.redis.xlen().await;
            (self.printed("new").len() == new && stored == 0).then_some(())
        });
        if ran.await.is_none() {
            let printed = self.printed("new").len();
            let stored = self.redis.xlen().await;
            panic!("of {new} new jobs {printed} were printed and {stored} are stored");
        }
        let twice = self.printed("new").into_values().filter(|times| *times > 1);
        assert_eq!(twice.count(), 0, "new jobs were printed twice");
        // The old jobs ran before Redis lost them, so their lines are in the output.
        assert_eq!(self.printed("old").len(), HELD);
        assert_eq!(self.redis.dead_letters().await, []);
        assert!(self.worker.exited().is_none());
    }

    fn printed(&self, kind: &str) -> BTreeMap<String, usize> {
        let mut printed = BTreeMap::new();
        for line in &*self.lines.lock().unwrap() {
            if let Some((_, message)) = line.split_once("] ")
                && message.starts_with(kind)
            {
                *printed.entry(message.to_owned()).or_default() += 1;
            }
        }
        printed
    }

    /// Waits until the worker uses Redis again.
    async fn used_again(&self) {
        eventually("the worker keeps the reclaim mark", PATIENCE, async || {
            self.redis
                .state()
                .await
                .contains_key("reclaim_seen_ms")
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_redis_that_is_back_empty_and_behind_loses_no_new_job() {
    let mut scene = Scene::new().await;
    scene.back_before(0, true).await;
    let new = scene.add_past_the_held().await;
    scene.all_new_jobs_run(new).await;
}

#[tokio::test]
async fn a_redis_that_is_back_empty_and_used_before_ids_come_again_loses_no_new_job() {
    let mut scene = Scene::new().await;
    scene.back_before(0, true).await;
    scene.used_again().await;
    let new = scene.add_with_the_held_ids().await;
    scene.all_new_jobs_run(new).await;
}

#[tokio::test]
async fn a_redis_without_its_last_jobs_loses_no_new_one() {
    let mut scene = Scene::new().await;
    scene.back_before(0, false).await;
    let new = scene.add_past_the_held().await;
    scene.all_new_jobs_run(new).await;
}

#[tokio::test]
async fn a_redis_with_some_of_the_held_jobs_loses_no_new_one() {
    let mut scene = Scene::with_snapshot_behind(HELD / 2).await;
    scene.back_before(HELD / 2, false).await;
    let new = scene.add_past_the_held().await;
    scene.all_new_jobs_run(new).await;
}

#[tokio::test]
async fn a_flushed_redis_loses_no_job_that_gets_an_old_id() {
    let mut scene = Scene::new().await;
    scene.redis.cmd(&["FLUSHALL"]).await;
    let new = scene.add_with_the_held_ids().await;
    scene.all_new_jobs_run(new).await;
}

#[tokio::test]
async fn a_deleted_stream_loses_no_job_that_gets_an_old_id() {
    let mut scene = Scene::new().await;
    scene.redis.cmd(&["DEL", STREAM]).await;
    let new = scene.add_with_the_held_ids().await;
    scene.all_new_jobs_run(new).await;
}

#[tokio::test]
async fn a_stream_that_lost_its_state_too_loses_no_job_that_gets_an_old_id() {
    let mut scene = Scene::new().await;
    scene.redis.cmd(&["DEL", STREAM, STATE]).await;
    let new = scene.add_with_the_held_ids().await;
    scene.used_again().await;
    scene.all_new_jobs_run(new).await;
}

#[tokio::test]
async fn a_stream_that_was_renamed_and_renamed_back_loses_no_job_that_gets_an_old_id() {
    let mut scene = Scene::while_the_stream_is_away().await;
    scene.redis.cmd(&["RENAME", AWAY, STREAM]).await;
    let new = scene.add_with_the_held_ids().await;
    scene.all_new_jobs_run(new).await;
}

#[tokio::test]
async fn ids_that_went_back_cost_no_more_than_a_moment() {
    const JOBS: u64 = 300;
    let clock = Clock::new();
    let redis = Redis::builder().clock(&clock).start().await;
    let worker = Process::test_worker(&redis).start();
    redis.add_test_job("sleep", 0, 0).await;
    worker.wait_for_line(|line| line == "end 0", PATIENCE).await;
    redis.kill();
    clock.set(-HOUR_MS);
    redis.up_empty().await;
    redis.wait_for_reader().await;
    // With this job the worker notices that the ids went back.
    redis.add_test_job("sleep", 1, 0).await;
    worker.wait_for_line(|line| line == "end 1", PATIENCE).await;
    stays(
        "one look for what was lost",
        Duration::from_secs(3),
        async || worker.count_log("found jobs whose delivery was lost") <= 1,
    )
    .await;
    let (asked, read) = (
        redis.calls("xpending").await,
        redis.calls("xreadgroup").await,
    );
    for n in 2..JOBS {
        redis.add_test_job("sleep", n, 0).await;
        worker
            .wait_for_line(|line| line == format!("end {n}"), PATIENCE)
            .await;
    }
    let asked = redis.calls("xpending").await - asked;
    let read = redis.calls("xreadgroup").await - read;
    assert!(read > JOBS / 2, "{read} reads");
    assert!(
        asked < read / 10,
        "{asked} times asked what is pending, by {read} reads"
    );
    assert!(worker.count_log("found jobs whose delivery was lost") <= 1);
}
