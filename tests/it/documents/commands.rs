//! The commands for redis-cli of the documents, run as they are written there, in the shells of
//! users.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Document, root};
use crate::support::{DEAD, PATIENCE, Process, Redis, STREAM, eventually};

/// The id of a dead letter that the documents give as an example.
const EXAMPLE: &str = "1795778040149-0";
const MESSAGE: &str = "it's \"quoted\" \\ 日本語 🎉 $HOME `date` !!";
const SHELLS: [&str; 2] = ["sh", "bash"];
const OPERATIONS: &str = "docs/operations.md";

/// Every command of a document that begins with `redis-cli`, in code and in sentences.
fn recipes(document: &str) -> Vec<String> {
    let mut recipes = Vec::new();
    for section in Document::read(document).sections {
        for code in &section.code {
            let code = code.replace("\\\n", " ");
            recipes.extend(code.lines().map(str::to_owned));
        }
        for line in &section.text {
            recipes.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    recipes.retain(|code| code.starts_with("redis-cli "));
    recipes
}

/// Runs a command in a shell where `redis-cli` uses this Redis.
fn run(shell: &str, command: &str, redis: &Redis, home: &Path) -> String {
    let wrapper = home.join("redis-cli");
    if !wrapper.exists() {
        let script = format!(
            "#!/bin/sh\nPATH=${{PATH#*:}} exec redis-cli -e -p {} \"$@\"\n",
            redis.port()
        );
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
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
    let recipes = recipes(document);
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
async fn every_command_of_the_operations_page_works_in_shells() {
    // The second Redis is the one to which the page moves a queue.
    let (redis, second) = tokio::join!(Redis::start(), Redis::start());
    let worker = Process::test_worker(&redis)
        .env("APP__JOBQUEUE__CONCURRENCY", "1")
        .start();
    let home = tempfile::tempdir().unwrap();
    // One job runs, one waits for the only slot, and one waits for its time.
    redis
        .add_job(r#"{"type":"demo:delay_print","delay_ms":3600000}"#)
        .await;
    eventually("it is scheduled", PATIENCE, async || {
        (redis.scheduled().await == 1).then_some(())
    })
    .await;
    redis.add_test_job("sleep", 1, 600_000).await;
    worker
        .wait_for_line(|line| line == "start 1", PATIENCE)
        .await;
    redis.add_test_job("sleep", 2, 0).await;

    let recipes = recipes(OPERATIONS);
    assert!(recipes.len() >= 30, "{recipes:#?}");
    for shell in SHELLS {
        redis.cmd(&["DEL", DEAD]).await;
        redis.cmd(&["XADD", DEAD, EXAMPLE, "job", &job()]).await;
        let waiting = redis.xlen().await;
        for recipe in &recipes {
            let command = recipe
                .replace("-p 6380", &format!("-p {}", second.port()))
                .replace("localhost 6379", &format!("127.0.0.1 {}", redis.port()));
            let said = run(shell, &command, &redis, home.path());
            check(recipe, &said, &redis).await;
        }
        assert!(redis.dead_letters().await.is_empty());
        assert!(!redis.state().await.contains_key("paused"));
        assert_eq!(
            redis.xlen().await,
            waiting + 2,
            "the dead letter runs again, and so does the job that replaces another one"
        );
        let logs_in = |password: &str| {
            // A redis-cli that is refused goes on as the default user, and says so.
            let ping = format!("redis-cli --user jobqueue --pass {password} PING 2>&1 || true");
            !run(shell, &ping, &redis, home.path()).contains("WRONGPASS")
        };
        assert!(logs_in("new") && !logs_in("secret"), "{shell}");
    }
}

/// Checks that a command did what the page says, where that is more than not to fail.
async fn check(recipe: &str, said: &str, redis: &Redis) {
    if recipe.contains("--json XRANGE") {
        let letters: Value = serde_json::from_str(said).unwrap();
        assert_eq!(letters[0][1][1], job());
    }
    if recipe.contains(&format!(", {EXAMPLE}")) {
        assert!(said.contains("runs again"), "{said}");
        let entries = redis.entries().await;
        assert!(entries.len() > 1, "{STREAM}: {entries:?}");
    }
    if recipe.contains("paused") {
        let is_paused = redis.state().await.contains_key("paused");
        assert_eq!(is_paused, recipe.contains("HSET"), "{recipe}");
    }
    if recipe.contains("XPENDING") {
        // One job runs. The other may have been fetched for a moment and put back: pending as well.
        let is_empty = said.trim().is_empty() || said.starts_with('0');
        assert!(!is_empty, "one job runs: {said}");
    }
    if recipe.ends_with("ZCARD 'jobqueue:{default}:scheduled'") && !recipe.contains("-p") {
        assert_eq!(said.trim(), "1", "{recipe}");
    }
}

#[tokio::test]
async fn the_user_of_the_operations_page_may_do_what_the_programs_do_and_no_more() {
    let redis = Redis::start().await;
    let home = tempfile::tempdir().unwrap();
    let recipes = recipes(OPERATIONS);
    let user = recipes.iter().find(|it| it.contains("'~jobqueue:*'"));
    run("sh", user.unwrap(), &redis, home.path());
    let user = [
        ("APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME", "jobqueue"),
        ("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD", "secret"),
        ("APP__JOBQUEUE__RETRY__INITIAL", "50ms"),
    ];
    let server = Process::server(&redis).envs(&user).start();
    let worker = Process::test_worker(&redis).envs(&user).start();
    redis.run_each_kind(&worker).await;
    server.wait_ready(PATIENCE).await;
    assert_eq!(worker.count_log("NOPERM") + server.count_log("NOPERM"), 0);
    for forbidden in ["FLUSHALL", "KEYS *", "CONFIG GET dir", "GET other"] {
        let ask = format!("redis-cli ACL DRYRUN jobqueue {forbidden}").replace('*', "'*'");
        let said = run("sh", &ask, &redis, home.path());
        assert!(said.contains("no permission"), "{forbidden}: {said}");
    }
}
