//! The commands for `redis-cli` and `jobctl` of the documents, run as they are written there, in the shells
//! of users.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Document, root};
use crate::support::{DEAD, LEASE, PATIENCE, Process, Redis, SCHEDULED, letter_of, text};

/// Jobs that the operations page gives as examples: two that are scheduled, and one that runs.
pub(super) const RUN_NOW: &str = "01a21f81-5745-7310-9165-5dee7b2ad352";
pub(super) const CANCELLED: &str = "01a21f81-575a-712a-8da6-5d18178cb165";
pub(super) const CANCELLED_RUNNING: &str = "1795824899856-0";
/// Dead letters of the page, with their reasons.
pub(super) const RETRIED: [&str; 2] = ["1795824897494-0", "1795824897503-0"];
pub(super) const MALFORMED: &str = "1795824897514-0";
const MESSAGE: &str = "it's \"quoted\" \\ 日本語 🎉 $HOME `date` !!";
const SHELLS: [&str; 2] = ["sh", "bash"];
pub(super) const OPERATIONS: &str = "docs/operations.md";

/// Every command of a document that begins with `redis-cli`, in code and in sentences, and every one in
/// code that begins with `jobctl`. In sentences `jobctl` has examples of ids that no test has.
pub(super) fn recipes(document: &str) -> Vec<String> {
    let mut recipes = Vec::new();
    for section in Document::read(document).sections {
        for code in &section.code {
            let code = code.replace("\\\n", " ");
            let is_command = |line: &&str| {
                ["redis-cli ", "jobctl "]
                    .iter()
                    .any(|it| line.starts_with(it))
            };
            recipes.extend(code.lines().filter(is_command).map(str::to_owned));
        }
        for line in &section.text {
            let quotes = line.split('`').skip(1).step_by(2);
            recipes.extend(
                quotes
                    .filter(|it| it.starts_with("redis-cli "))
                    .map(str::to_owned),
            );
        }
    }
    recipes
}

/// Runs a command in a shell where `redis-cli` and `jobctl` use this Redis.
pub(super) fn run(shell: &str, command: &str, redis: &Redis, home: &Path) -> String {
    let redis_cli = format!("PATH=${{PATH#*:}} exec redis-cli -e -p {}", redis.port());
    let jobctl = format!(
        "REDIS_JOBQUEUE_ADDR={} exec {}",
        redis.addr(),
        env!("CARGO_BIN_EXE_jobctl")
    );
    for (name, starts) in [("redis-cli", redis_cli), ("jobctl", jobctl)] {
        let wrapper = home.join(name);
        if !wrapper.exists() {
            fs::write(&wrapper, format!("#!/bin/sh\n{starts} \"$@\"\n")).unwrap();
            fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
    let output = Command::new(shell)
        .args(["-c", command])
        .current_dir(root())
        .env("PATH", path)
        .output()
        .unwrap_or_else(|error| panic!("{shell}: {error}"));
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{shell}: {command}\n{said}");
    said
}

/// The JSON of a job that prints [`MESSAGE`].
fn job() -> String {
    let job = serde_json::json!({"type": "demo:delay_print", "payload": {"message": MESSAGE}});
    job.to_string()
}

#[tokio::test]
async fn every_command_of_the_readme_works_in_shells() {
    commands_that_register_jobs_work("README.md", 2).await;
}

#[tokio::test]
async fn every_command_of_the_japanese_guide_works_in_shells() {
    commands_that_register_jobs_work("docs/ja/Queue-Job.md", 2).await;
}

/// Runs all commands of a document. Each of them registers a job, the last one from a file.
async fn commands_that_register_jobs_work(document: &str, jobs: usize) {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    let home = tempfile::tempdir().unwrap();
    let job_file = home.path().join("job.json");
    fs::write(&job_file, job()).unwrap();
    let mut recipes = recipes(document);
    recipes.retain(|it| it.starts_with("redis-cli "));
    assert_eq!(recipes.len(), jobs, "{recipes:#?}");
    for shell in SHELLS {
        for recipe in &recipes {
            let command = recipe.replace("job.json", job_file.to_str().unwrap());
            run(shell, &command, &redis, home.path());
        }
    }
    let printed = worker.wait_for_lines(2 * jobs, PATIENCE).await;
    let from_file = printed.iter().filter(|line| line.text.ends_with(MESSAGE));
    assert_eq!(from_file.count(), 2);
}

#[tokio::test]
async fn every_command_for_operators_of_the_readme_works() {
    let redis = Redis::start().await;
    let home = tempfile::tempdir().unwrap();
    let mut recipes = recipes("README.md");
    recipes.retain(|it| it.starts_with("jobctl "));
    assert_eq!(recipes.len(), 3, "{recipes:#?}");
    let (_, id) = recipes[1].split_once("show ").unwrap();
    let letter = ["job", &named(id), "reason", "retries used up"];
    redis
        .cmd(&[&["XADD", DEAD, "*"], &letter[..]].concat())
        .await;
    for recipe in &recipes {
        run("sh", recipe, &redis, home.path());
    }
    assert_eq!(redis.entries().await.len(), 1, "the dead letter runs again");
}

#[tokio::test]
async fn every_command_of_the_operations_page_works_in_sh() {
    commands_of_operators_work("sh").await;
}

#[tokio::test]
async fn every_command_of_the_operations_page_works_in_bash() {
    commands_of_operators_work("bash").await;
}

async fn commands_of_operators_work(shell: &str) {
    // The second Redis is the one to which the page moves a queue.
    let (redis, second) = tokio::join!(Redis::start(), Redis::start());
    let home = tempfile::tempdir().unwrap();
    let one_slot = ("APP__JOBQUEUE__CONCURRENCY", "1");
    let worker = Process::test_worker(&redis)
        .envs(&[LEASE, one_slot])
        .start();
    let running = examples(&redis, &worker).await;
    let recipes = recipes(OPERATIONS);
    let of_jobctl = recipes.iter().filter(|it| it.starts_with("jobctl "));
    assert!(
        of_jobctl.count() >= 20 && recipes.len() >= 50,
        "{recipes:#?}"
    );
    for recipe in &recipes {
        // These tests run without jq.
        let command = recipe.split(" | jq").next().unwrap();
        let command = command
            .replace("-p 6380", &format!("-p {}", second.port()))
            .replace("localhost 6379", &format!("127.0.0.1 {}", redis.port()));
        let said = run(shell, &command, &redis, home.path());
        check(recipe, &said, &redis).await;
        if recipe.starts_with("jobctl cancel 17") {
            let letter = letter_of(&redis, &running).await;
            assert_eq!(text(&letter, "reason"), "cancelled");
        }
    }
    let left = redis.dead_letters().await;
    assert_eq!(
        left.len(),
        2,
        "the cancelled one, and one that no command names: {left:?}"
    );
    assert!(!redis.state().await.contains_key("paused"));
    let jobs = redis.entries().await;
    let jobs: Vec<_> = jobs
        .iter()
        .map(|(_, job)| String::from_utf8_lossy(&job["job"]))
        .collect();
    for id in [RUN_NOW, RETRIED[0], RETRIED[1], MALFORMED] {
        let found = jobs.iter().filter(|job| job.contains(id));
        assert_eq!(found.count(), 1, "{id} is to run, once: {jobs:#?}");
    }
    let logs_in = |password: &str| {
        // A redis-cli that is refused goes on as the default user, and says so.
        let ping = format!("redis-cli --user jobqueue --pass {password} PING 2>&1 || true");
        !run(shell, &ping, &redis, home.path()).contains("WRONGPASS")
    };
    assert!(logs_in("new") && !logs_in("secret"), "{shell}");
}

/// Makes the jobs of the page. One runs, and its entry id is the answer. Another one takes its place when it
/// is cancelled, so all others stay where they are.
pub(super) async fn examples(redis: &Redis, worker: &Process) -> String {
    let sleeps = format!(
        r#"{{"id":"{CANCELLED_RUNNING}","type":"test:sleep","payload":{{"n":1,"ms":600000}}}}"#
    );
    let running = redis.add_job(&sleeps).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis.add_test_job("sleep", 2, 600_000).await;
    let now = redis.now_ms().await;
    let due = (now + 3_600_000).to_string();
    for (n, id) in [RUN_NOW, CANCELLED, "another"].iter().enumerate() {
        let member = format!("{now}-{n}:{}", named(id));
        redis.cmd(&["ZADD", SCHEDULED, &due, &member]).await;
    }
    let week = (now - 8 * 86_400_000).to_string();
    let [first, second] = RETRIED.map(named);
    for (at, field, value, reason) in [
        (week.as_str(), "job", named("old"), "poison"),
        ("*", "job", first, "retries used up"),
        ("*", "job", second, "retries used up"),
        ("*", "job", named(MALFORMED), "malformed"),
        ("*", "entry.text", "no job".to_owned(), "malformed"),
        ("*", "job", job(), "poison"),
    ] {
        redis
            .cmd(&[
                "XADD",
                DEAD,
                at,
                field,
                &value,
                "reason",
                reason,
                "died_from",
                "1-1",
            ])
            .await;
    }
    running
}

/// The JSON of a job with this id.
fn named(id: &str) -> String {
    format!(r#"{{"id":"{id}","type":"demo:delay_print"}}"#)
}

/// Checks that a command did what the page says, where that is more than not to fail.
async fn check(recipe: &str, said: &str, redis: &Redis) {
    if recipe.contains("--json XRANGE") {
        let letters: Value = serde_json::from_str(said).unwrap();
        let letters = letters.as_array().unwrap();
        assert!(letters.iter().any(|letter| letter[1][1] == job()), "{said}");
    }
    for (command, says) in [
        ("jobctl run", "sent to run now"),
        ("jobctl cancel 01", "cancelled (it was scheduled)"),
        ("jobctl cancel 17", "is to end it with the next heartbeat"),
        ("jobctl dead retry", "sent to run again"),
        ("jobctl dead delete", "deleted"),
        ("jobctl health", "is well"),
        ("jobctl list scheduled", RUN_NOW),
        ("jobctl list running", CANCELLED_RUNNING),
        ("jobctl list dead", "retries used up"),
    ] {
        assert!(
            !recipe.starts_with(command) || said.contains(says),
            "{recipe}: {said}"
        );
    }
    if recipe.contains("paused") || ["jobctl pause", "jobctl resume"].contains(&recipe) {
        let is_paused = redis.state().await.contains_key("paused");
        let pauses = recipe.contains("HSET") || recipe == "jobctl pause";
        assert_eq!(is_paused, pauses, "{recipe}");
    }
    if recipe.contains("XPENDING") {
        // One job runs. The other may have been fetched for a moment and put back: pending as well.
        let is_empty = said.trim().is_empty() || said.starts_with('0');
        assert!(!is_empty, "one job runs: {said}");
    }
    if recipe.ends_with("ZCARD 'jobqueue:{default}:scheduled'") && !recipe.contains("-p") {
        assert_eq!(said.trim(), redis.scheduled().await.to_string(), "{recipe}");
        assert_ne!(said.trim(), "0", "{recipe}");
    }
}
