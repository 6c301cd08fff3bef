//! The commands for redis-cli of the README and of the Japanese guide, run as they are written
//! there, in the shells of users.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{DEAD, PATIENCE, Process, Redis, eventually};

/// The id that the README gives as an example.
const EXAMPLE: &str = "1764201600000-0";
const MESSAGE: &str = "it's \"quoted\" \\ 日本語 🎉 $HOME `date` !!";

/// Every command that begins with `redis-cli`, in indented lines and in sentences.
fn recipes(document: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(path).unwrap().replace("\\\n", " ");
    let of_line = |line: &str| -> Vec<String> {
        let code = match line.strip_prefix("    ") {
            Some(code) => vec![code],
            None => line.split('`').skip(1).step_by(2).collect(),
        };
        let code = code
            .into_iter()
            .filter(|code| code.starts_with("redis-cli "));
        code.map(str::to_owned).collect()
    };
    text.lines().flat_map(of_line).collect()
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
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", path)
        .output()
        .unwrap_or_else(|error| panic!("{shell}: {error}"));
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{shell}: {command}\n{said}");
    said
}

#[tokio::test]
async fn every_command_of_the_readme_works_in_shells() {
    every_command_works("README.md", &["old", "new"], 3).await;
}

#[tokio::test]
async fn every_command_of_the_japanese_guide_works_in_shells() {
    let passwords = ["古いパスワード", "新しいパスワード"];
    every_command_works("docs/ja/Queue-Job.md", &passwords, 2).await;
}

/// Runs all commands of a document. They change the password of a user `app` from the first one to
/// the second one, and this many jobs are printed.
async fn every_command_works(document: &str, passwords: &[&str; 2], jobs: usize) {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).start();
    let home = tempfile::tempdir().unwrap();
    let job = serde_json::json!({"type": "demo:delay_print", "payload": {"message": MESSAGE}});
    let job_file = home.path().join("job.json");
    fs::write(&job_file, job.to_string()).unwrap();
    worker.wait_ready(PATIENCE).await;
    redis
        .add_job(r#"{"type":"demo:delay_print","delay_ms":3600000}"#)
        .await;
    eventually("it is scheduled", PATIENCE, async || {
        (redis.scheduled().await == 1).then_some(())
    })
    .await;

    let recipes = recipes(document);
    assert!(recipes.len() >= 12, "{recipes:#?}");
    for shell in ["sh", "bash"] {
        redis.cmd(&["DEL", DEAD]).await;
        redis
            .cmd(&["XADD", DEAD, EXAMPLE, "job", &job.to_string()])
            .await;
        let [old, new] = passwords;
        let old_password = format!(">{old}");
        redis
            .cmd(&[
                "ACL",
                "SETUSER",
                "app",
                "reset",
                "on",
                "+ping",
                &old_password,
            ])
            .await;
        for recipe in &recipes {
            let command = recipe.replace("job.json", job_file.to_str().unwrap());
            let said = run(shell, &command, &redis, home.path());
            if recipe.contains("--json XRANGE") {
                let letters: Value = serde_json::from_str(&said).unwrap();
                assert_eq!(letters[0][1][1], job.to_string());
            }
            if recipe.contains("paused 1") {
                assert_eq!(redis.state().await["paused"], "1");
            }
        }
        assert!(redis.dead_letters().await.is_empty());
        assert!(!redis.state().await.contains_key("paused"));
        let logs_in = |password: &str| {
            let ping = format!("redis-cli --user app --pass '{password}' PING 2>&1 || true");
            // A redis-cli that is refused goes on as the default user.
            !run(shell, &ping, &redis, home.path()).contains("WRONGPASS")
        };
        assert!(logs_in(new) && !logs_in(old), "{shell}");
    }
    let printed = worker.wait_for_lines(2 * jobs, PATIENCE).await;
    // One job has its message in the command. The others come from a file and from the dead letter.
    let printed = printed.iter().filter(|line| line.text.ends_with(MESSAGE));
    assert_eq!(printed.count(), 2 * (jobs - 1));
}
