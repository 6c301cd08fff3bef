//! What the programs do with arguments. They have none but `--help` and `--version`.

use std::fs::File;
use std::io::pipe;

use dm_jobqueue::VERSION;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis};

type Program = (&'static str, fn(&Redis) -> ProcessBuilder);
const BOTH: [Program; 2] = [("server", Process::server), ("jobqueue", Process::jobqueue)];

/// A program whose settings would not let it start.
fn unfit(start: fn(&Redis) -> ProcessBuilder, argument: &str) -> ProcessBuilder {
    let program = start(&Redis::reserve()).env("CONFIG_DIR", "/nonexistent");
    program.args(&[argument])
}

#[tokio::test]
async fn help_and_version_are_answered_before_anything_else_is_done() {
    let commit = VERSION.split_once(" (").unwrap().1.trim_end_matches(')');
    assert!(commit == "unknown" || commit.chars().all(|c| c.is_ascii_hexdigit()));
    for (name, start) in BOTH {
        let version = unfit(start, "--version").start();
        assert_eq!(version.wait_exit(PATIENCE).await.code(), Some(0));
        let lines: Vec<String> = version.stdout().into_iter().map(|line| line.text).collect();
        assert_eq!(lines, [format!("{name} {VERSION}")]);
        assert!(version.stderr().is_empty());

        let help = unfit(start, "--help").start();
        assert_eq!(help.wait_exit(PATIENCE).await.code(), Some(0));
        let lines: Vec<String> = help.stdout().into_iter().map(|line| line.text).collect();
        let text = lines.join("\n");
        for part in [
            "APP_ENV",
            "CONFIG_DIR",
            "REDIS_JOBQUEUE_ADDR",
            "APP__",
            "RUST_LOG",
            "LOG_FORMAT",
            "TZ",
            "NO_COLOR",
            "SIGHUP",
            "78",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(help.stderr().is_empty());
    }
}

#[tokio::test]
async fn what_is_unknown_is_refused_with_a_suggestion() {
    for (arguments, message) in [
        (&["--queue", "mail"][..], "APP__JOBQUEUE__QUEUE=mail"),
        (&["--concurrency=5"], "APP__JOBQUEUE__CONCURRENCY=5"),
        (&["--retry-max", "5m"], "APP__JOBQUEUE__RETRY__MAX=5m"),
        (
            &["--request-timeout", "3s"],
            "APP__SERVER__REQUEST_TIMEOUT=3s",
        ),
        (
            &["--addr", "redis:6379"],
            "APP__CACHE_SERVER__REDIS__JOBQUEUE__ADDR=…",
        ),
        (&["--color"], "unexpected argument '--color'"),
        (&["--verison"], "a similar argument exists: '--version'"),
        (&["mail"], "unexpected argument 'mail'"),
    ] {
        for (_, start) in BOTH {
            let process = start(&Redis::reserve()).args(arguments).start();
            let status = process.wait_exit(PATIENCE).await.code();
            assert_eq!(status, Some(2), "{arguments:?}");
            assert_eq!(process.count_log(message), 1, "{message}");
            assert!(process.stdout().is_empty());
        }
    }
}

#[tokio::test]
async fn an_argument_that_may_be_a_secret_is_not_shown() {
    for argument in [
        "redis://:s3cret-word@host",
        "--password=s3cret-word",
        "s3cret-word@host",
        "s3cretword",
        "--s3cretword",
        "-s3cretword",
        "--auth=s3cretword",
        "--queue=s3cretword",
        "--db=s3cretword",
        "--addr=s3cretword",
    ] {
        for (_, start) in BOTH {
            let process = start(&Redis::reserve()).args(&[argument]).start();
            assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(2));
            assert_eq!(process.count_log("s3cret"), 0, "{argument}");
        }
    }
}

#[tokio::test]
async fn help_that_nobody_can_read_is_no_panic() {
    for (_, start) in BOTH {
        for argument in ["--help", "--version"] {
            let (reader, broken) = pipe().unwrap();
            drop(reader);
            let full = File::options().write(true).open("/dev/full").unwrap();
            let read_only = File::open("/dev/null").unwrap();
            for stdout in [
                broken.into(),
                std::process::Stdio::from(full),
                read_only.into(),
            ] {
                let process = unfit(start, argument).stdout_to(stdout).start();
                assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
                assert!(process.stderr().is_empty());
            }
        }
    }
}
