//! What is wrong with the arguments or the settings is told before Redis is asked.

use std::fs;
use std::process::Command;

use dm_jobqueue::VERSION;

use super::{Said, finished, jobctl};
use crate::support::{Process, Redis};

#[tokio::test]
async fn what_is_wrong_with_the_arguments_is_told_without_redis() {
    let away = Redis::reserve();
    let long = "x".repeat(201);
    for arguments in [
        &[][..],
        &["stat"],
        &["show"],
        &["show", ""],
        &["show", "a\u{1b}[2Jb"],
        &["show", &long],
        &["run", "a", "--all"],
        &["cancel", "--all"],
        &["cancel", "--state", "done", "--all"],
        &["dead"],
        &["dead", "delete"],
        &["dead", "delete", "--older", "7"],
        &["dead", "delete", "--text", "", "--yes"],
        &["dead", "retry", "--reason", ""],
        &["cancel", "--state", "waiting", "--type", ""],
        &["list", "dead", "--worker", ""],
        &["list", "lost"],
        &["list", "dead", "--limit", "0"],
        &["stats", "--queue", "a b"],
        &["stats", "--watch", "0"],
        &["stats", "--color", "green"],
    ] {
        let said = jobctl(&away, arguments).await.ends(2);
        assert!(!said.err.is_empty() && said.out.is_empty(), "{said:?}");
        assert!(!said.err.contains('\u{1b}'), "{said:?}");
        assert!(!said.err.contains("not shown"), "{said:?}");
    }
}

#[tokio::test]
async fn a_setting_as_an_argument_is_a_hint_and_a_secret_is_not_shown() {
    let away = Redis::reserve();
    let said = jobctl(&away, &["stats", "--addr", "redis:6379"])
        .await
        .ends(2);
    assert!(
        said.err
            .contains("APP__CACHE_SERVER__REDIS__JOBQUEUE__ADDR"),
        "{said:?}"
    );
    let said = jobctl(&away, &["stats", "--password=s3cret-word"])
        .await
        .ends(2);
    assert!(!said.err.contains("s3cret"), "{said:?}");
}

#[tokio::test]
async fn a_wrong_setting_is_told_as_the_other_programs_tell_it() {
    let wrong = [("APP__JOBQUEUE__LEASE", "soon")];
    let away = Redis::reserve();
    let said = finished(Process::jobctl(&away).envs(&wrong).args(&["stats"]))
        .await
        .ends(78);
    let worker = finished(Process::jobqueue(&away).envs(&wrong))
        .await
        .ends(78);
    assert!(said.err.contains("APP__JOBQUEUE__LEASE"), "{said:?}");
    assert_eq!(said.err, worker.err);
}

#[tokio::test]
async fn help_and_version_need_nothing() {
    let nothing = |argument| {
        let program = Process::jobctl(&Redis::reserve()).env("CONFIG_DIR", "/nonexistent");
        finished(program.args(&[argument]))
    };
    let version = nothing("--version").await.ends(0);
    assert_eq!(version.out, format!("jobctl {VERSION}"));
    let help = nothing("--help").await.ends(0);
    // What a newcomer looks for, in the words of a newcomer.
    for question in [
        "backlog",
        "live workers, and what each runs",
        "find a job",
        "when it will run",
        "why it died",
        "cancel it",
        "run a scheduled job now",
        "run a dead letter again",
        "run all of one reason again",
        "older than a week",
        "pause",
        "throughput and latency",
        "finished lately",
    ] {
        assert!(help.out.contains(question), "{question}: {}", help.out);
    }
}

/// The examples of the help, as they are written there.
fn examples(help: &Said) -> Vec<String> {
    let lines = help
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("  jobctl "));
    let command = |line: &str| line.split("  ").next().unwrap().to_owned();
    lines.map(command).collect()
}

#[tokio::test]
async fn every_example_of_the_help_is_understood() {
    let redis = Redis::start().await;
    let help = jobctl(&redis, &["--help"]).await.ends(0);
    let examples = examples(&help);
    assert!(examples.len() > 8, "{examples:?}");
    for example in examples {
        let shell = Command::new("sh")
            .args([
                "-c",
                &format!("\"$0\" {example}"),
                env!("CARGO_BIN_EXE_jobctl"),
            ])
            .env("REDIS_JOBQUEUE_ADDR", redis.addr())
            .output()
            .unwrap();
        let status = shell.status.code().unwrap();
        // Nothing is in the queue, so most of them find nothing.
        assert!([0, 1].contains(&status), "{example}: {shell:?}");
    }
}

#[tokio::test]
async fn completions_are_scripts_that_a_shell_loads() {
    let nothing = Redis::reserve();
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = jobctl(&nothing, &["completions", shell]).await.ends(0);
        assert!(said.out.contains("jobctl"), "{shell}");
    }
    let script = home.path().join("jobctl.bash");
    fs::write(
        &script,
        jobctl(&nothing, &["completions", "bash"]).await.out,
    )
    .unwrap();
    // The words that bash would offer behind `jobctl dead `.
    let ask = format!(
        "source {} && COMP_WORDS=(jobctl dead '') COMP_CWORD=2 && _jobctl jobctl '' dead && \
         echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let bash = Command::new("bash").args(["-euc", &ask]).output().unwrap();
    let offered = String::from_utf8(bash.stdout).unwrap();
    assert!(
        offered.contains("retry") && offered.contains("delete"),
        "{offered}{:?}",
        bash.stderr
    );
}
