//! What `scripts/lib.sh` and `scripts/dev` read from start lines and settings.

use std::fs;
use std::process::Command;

use super::home::root;

/// The output of a line of bash that uses the functions of `scripts/lib.sh`.
fn lib(line: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new("bash")
        .args([
            "-euo",
            "pipefail",
            "-c",
            &format!("source scripts/lib.sh; {line}"),
        ])
        .current_dir(root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_start_line_is_read_in_every_form() {
    let log = tempfile::NamedTempFile::new().unwrap();
    for (line, addr) in [
        (
            "2026-01-02T03:04:05Z  INFO server: listening addr=127.0.0.1:8082",
            "127.0.0.1:8082",
        ),
        (
            r#"INFO server: listening env=develop addr="0.0.0.0:80" pid=1"#,
            "127.0.0.1:80",
        ),
        ("INFO server: listening addr=[::]:8080", "localhost:8080"),
        (
            "INFO server: listening addr=localhost:8080",
            "localhost:8080",
        ),
        (
            "INFO server: listening addr=[::1]:8080, 127.0.0.1:8080",
            "[::1]:8080",
        ),
        (
            r#"INFO server: listening addr=["127.0.0.1:80", "[::1]:80"]"#,
            "127.0.0.1:80",
        ),
        (
            "INFO server: listening addr=[[2001:10::1]:80, 127.0.0.1:80]",
            "[2001:10::1]:80",
        ),
        (
            "INFO server: listening addr=10.0.0.5:80 redis_addr=h:6379",
            "10.0.0.5:80",
        ),
        (
            r#"{"fields":{"message":"listening","addr":"[2001:10::1]:80"}}"#,
            "[2001:10::1]:80",
        ),
        (
            r#"{"message":"listening","addr":["[::]:1"],"redis_addr":"h:2"}"#,
            "localhost:1",
        ),
        (
            "INFO jobqueue: port in use, listening on another wanted=1 taken=1.2.3.4:5",
            "",
        ),
        ("INFO jobqueue: connecting addr=1.2.3.4:5", ""),
    ] {
        fs::write(&log, format!("another line\n{line}\n{line}\n")).unwrap();
        let read = lib(
            r#"listening_at "$LOG""#,
            &[("LOG", log.path().to_str().unwrap())],
        );
        assert_eq!(read.trim_end(), addr, "{line}");
    }
}

#[test]
fn settings_are_shown_as_a_shell_takes_them_and_secrets_are_not() {
    let shown = lib(
        "overrides",
        &[
            ("APP_ENV", "staging"),
            ("APP__A", r#"it's "日本" $x \"#),
            ("APP__EMPTY", ""),
            ("APP__X__PASSWORD", "canary"),
            ("APP__x__secret_key", "canary"),
            ("APP__X__PASSWORD_FILE", "/run/a b"),
            ("CONFIG_DIR", "/etc/dm"),
            ("REDIS_JOBQUEUE_ADDR", "redis://:canary@host"),
            ("SOMETHING", "else"),
        ],
    );
    let expected = [
        "APP_ENV=staging",
        r#"APP__A='it'\''s "日本" $x \'"#,
        "APP__X__PASSWORD='…'",
        "APP__X__PASSWORD_FILE='/run/a b'",
        "APP__x__secret_key='…'",
        "CONFIG_DIR=/etc/dm",
        "REDIS_JOBQUEUE_ADDR='…' ",
    ];
    assert_eq!(shown, expected.join(" "));
    let plain = lib("overrides", &[("REDIS_JOBQUEUE_ADDR", "[::1]:6379")]);
    assert_eq!(plain, "REDIS_JOBQUEUE_ADDR='[::1]:6379' ");
}
