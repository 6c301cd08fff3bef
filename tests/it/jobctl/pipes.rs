//! What jobctl writes is safe in pipes and for the programs that read it.

use std::fs::File;
use std::io::pipe;
use std::process::Stdio;

use super::{finished, job, jobctl};
use crate::support::{DEAD, PATIENCE, Process, Redis};

/// A type and an error that would clear a terminal, name its window, and turn its text around.
const HOSTILE: &str = "\\u001b[2J\\u001b]0;gone\\u0007\\u009b31m\\u202e\\r\\nforged";

#[tokio::test]
async fn a_reader_that_has_enough_is_no_trouble() {
    let redis = Redis::start().await;
    for n in 0..50 {
        redis.add_job(&job("sleep", &format!("w{n}"), 0)).await;
    }
    for arguments in [
        &["list", "waiting"][..],
        &["stats"],
        &["--help"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let said = finished(Process::jobctl(&redis).args(arguments).stdout_to(writer))
            .await
            .ends(0);
        assert_eq!(said.err, "", "{arguments:?}");
    }
    let watch = Process::jobctl(&redis).args(&["stats", "--watch"]);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    assert_eq!(
        watch
            .stdout_to(writer)
            .start()
            .wait_exit(PATIENCE)
            .await
            .code(),
        Some(0)
    );
}

#[tokio::test]
async fn a_full_disk_is_told() {
    let redis = Redis::start().await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let said = finished(
        Process::jobctl(&redis)
            .args(&["stats"])
            .stdout_to(Stdio::from(full)),
    )
    .await
    .ends(74);
    assert!(said.err.contains("cannot write to stdout"), "{said:?}");
}

#[tokio::test]
async fn foreign_text_never_reaches_the_terminal_as_a_command() {
    let redis = Redis::start().await;
    let raw: String = serde_json::from_str(&format!("\"{HOSTILE}\"")).unwrap();
    let job = format!(r#"{{"id":"{HOSTILE}","type":"{HOSTILE}","payload":{{"m":"{raw}"}}}}"#);
    // The payload's raw control characters are no JSON, so this one is malformed, and shown as text.
    redis
        .cmd(&[
            "XADD", DEAD, "*", "job", &job, "reason", &raw, "error", &raw,
        ])
        .await;
    let valid = format!(r#"{{"id":"{HOSTILE}","type":"{HOSTILE}","payload":"\u009b\u202e"}}"#);
    let entry: String = redis
        .query(&[
            "XADD", DEAD, "*", "job", &valid, "reason", &raw, "error", &raw,
        ])
        .await;
    redis
        .cmd(&["XADD", crate::support::STREAM, "*", "job", &valid])
        .await;
    for arguments in [
        &["list", "dead"][..],
        &["list", "dead", "--json"],
        &["list", "waiting"],
        &["show", &entry],
        &["show", &entry, "--json"],
        &["dead", "retry", &entry],
        &["cancel", "--state", "waiting", "--type", "x"],
    ] {
        let said = jobctl(&redis, arguments).await;
        let text = format!("{}{}", said.out, said.err);
        let hostile = text
            .chars()
            .find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(hostile, None, "{arguments:?}: {text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("forged")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_pipe_gets_whole_lines_without_colours() {
    let redis = Redis::start().await;
    let message = "x".repeat(500);
    let long = format!(r#"{{"id":"w","type":"test:sleep","payload":"{message}"}}"#);
    redis.add_job(&long).await;
    let piped = Process::jobctl(&redis)
        .env_remove("NO_COLOR")
        .env("TERM", "xterm-256color");
    let said = finished(piped.args(&["list", "waiting"])).await.ends(0);
    assert!(
        said.out.contains(&message) && !said.out.contains('\u{1b}'),
        "{said:?}"
    );
    let always = Process::jobctl(&redis).args(&["list", "waiting", "--color", "always"]);
    assert!(finished(always).await.ends(0).out.contains('\u{1b}'));
}
