//! Redis refuses the outcomes of hundreds and thousands of jobs, because a key has a wrong type or
//! a permission is missing. The other jobs run as if nothing were wrong. The refused outcomes are
//! settled as soon as the cause is mended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{
    CANCEL, DEAD, PATIENCE, Process, ProcessBuilder, Redis, SCHEDULED, STATE, STREAM, eventually,
    hello, text, within,
};

const GOOD: usize = 1_000;
/// The longest time that the good jobs take, with or without the others.
const FULL_RATE: Duration = Duration::from_secs(2);
/// Refused outcomes are tried again at least once within this time.
const RETRIED: Duration = Duration::from_secs(6);

struct Scene {
    redis: Redis,
    worker: Process,
    refused: usize,
}

impl Scene {
    /// Breaks a queue with these commands, and adds jobs whose outcomes are then refused.
    async fn new(
        refused: usize,
        job: impl Fn(usize) -> String,
        breaks: &[&[&str]],
        setting: impl Fn(ProcessBuilder) -> ProcessBuilder,
    ) -> Self {
        let redis = Redis::start().await;
        for command in breaks {
            redis.cmd(command).await;
        }
        let worker = setting(Process::jobqueue(&redis)).start();
        worker.wait_for_log("connected to redis", PATIENCE).await;
        redis.add_jobs((0..refused).map(job)).await;
        worker.wait_for_log("redis refuses", PATIENCE).await;
        let scene = Self {
            redis,
            worker,
            refused,
        };
        eventually("all of them have been delivered", PATIENCE, async || {
            (scene.redis.pending().await == u64::try_from(refused).unwrap()).then_some(())
        })
        .await;
        scene
    }

    fn printed(&self, what: &str) -> BTreeMap<String, usize> {
        let mut printed = BTreeMap::new();
        for line in self.worker.stdout() {
            let (_, message) = line.text.split_once("] ").unwrap();
            if message.starts_with(what) {
                *printed.entry(message.to_owned()).or_default() += 1;
            }
        }
        printed
    }

    /// Asserts that other jobs run while outcomes are refused and tried again.
    async fn others_go_on(&self) {
        let began = Instant::now();
        let mut good = 0;
        while began.elapsed() < RETRIED {
            let round = Instant::now();
            self.redis.add_jobs((good..good + GOOD).map(hello)).await;
            good += GOOD;
            let ran = within(FULL_RATE, async || {
                (self.printed("hello").len() == good).then_some(())
            });
            if ran.await.is_none() {
                let count = self.printed("hello").len();
                panic!("{count} of {good} good jobs are printed");
            }
            eventually("the next round", PATIENCE, async || {
                (round.elapsed() > FULL_RATE).then_some(())
            })
            .await;
        }
        let twice = self
            .printed("hello")
            .into_values()
            .filter(|count| *count > 1);
        assert_eq!(twice.count(), 0, "good jobs were printed twice");
        eventually("only the refused ones are left", PATIENCE, async || {
            (self.redis.xlen().await == u64::try_from(self.refused).unwrap()).then_some(())
        })
        .await;
    }

    /// Runs `mend`, and asserts that everything is settled within the deadline.
    async fn mended(&self, mend: &[&str], deadline: Duration) {
        self.redis.cmd(mend).await;
        self.redis.drained(deadline).await;
        let lines = self.worker.stderr().len();
        // The worker logs one line for each job that is buried, and one more line for a job that
        // was put back.
        assert!(lines <= 2 * self.refused + 50, "{lines} lines were logged");
    }

    /// Asserts that each of the refused jobs was buried with its own reason.
    async fn all_buried(&self) {
        let letters = self.redis.dead_letters().await;
        assert_eq!(letters.len(), self.refused);
        let reasons: Vec<&str> = letters
            .iter()
            .map(|(_, letter)| text(letter, "reason"))
            .collect();
        assert!(
            reasons.iter().all(|reason| *reason == "malformed"),
            "{reasons:?}"
        );
    }
}

const NO_DEAD_LETTERS: &[&[&str]] = &[&["SET", DEAD, "a string"]];
const NO_SCHEDULE: &[&[&str]] = &[&["SET", SCHEDULED, "a string"]];

async fn refused_burials(count: usize, settled: Duration) {
    let malformed = |n| format!(r#"{{"type":{n}}}"#);
    let scene = Scene::new(count, malformed, NO_DEAD_LETTERS, |worker| worker).await;
    scene.others_go_on().await;
    scene.mended(&["DEL", DEAD], settled).await;
    scene.all_buried().await;
}

#[tokio::test]
async fn hundreds_of_jobs_that_cannot_be_buried_do_not_stop_the_others() {
    refused_burials(600, RETRIED).await;
}

#[tokio::test]
async fn thousands_of_jobs_that_cannot_be_buried_do_not_stop_the_others() {
    refused_burials(6_000, 5 * RETRIED).await;
}

async fn refused_parks(count: usize, settled: Duration) {
    let late = |n| {
        let job = hello(n).replace("hello", "late");
        job.replacen('{', r#"{"delay_ms":1000,"#, 1)
    };
    let scene = Scene::new(count, late, NO_SCHEDULE, |worker| worker).await;
    scene.others_go_on().await;
    scene.mended(&["DEL", SCHEDULED], settled).await;
    let late = scene.printed("late");
    assert_eq!(late.len(), count);
    assert!(late.into_values().all(|times| times == 1));
    assert_eq!(scene.redis.dead_letters().await, []);
}

#[tokio::test]
async fn hundreds_of_jobs_that_cannot_be_parked_do_not_stop_the_others() {
    refused_parks(600, RETRIED).await;
}

#[tokio::test]
async fn thousands_of_jobs_that_cannot_be_parked_do_not_stop_the_others() {
    refused_parks(6_000, 5 * RETRIED).await;
}

#[tokio::test]
async fn hundreds_of_jobs_that_may_not_be_buried_do_not_stop_the_others() {
    let keys = [STREAM, SCHEDULED, STATE, CANCEL].map(|key| format!("~{key}"));
    let (may_read, may_write) = (format!("%R~{DEAD}"), format!("~{DEAD}"));
    let mut user = vec![
        "ACL", "SETUSER", "worker", "on", ">secret", "+@all", &may_read,
    ];
    user.extend(keys.iter().map(String::as_str));
    let as_worker = |worker: ProcessBuilder| {
        worker.envs(&[
            ("APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME", "worker"),
            ("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD", "secret"),
        ])
    };
    let malformed = |n| format!(r#"{{"type":{n}}}"#);
    let scene = Scene::new(600, malformed, &[&user], as_worker).await;
    scene.others_go_on().await;
    scene
        .mended(&["ACL", "SETUSER", "worker", &may_write], RETRIED)
        .await;
    scene.all_buried().await;
}
