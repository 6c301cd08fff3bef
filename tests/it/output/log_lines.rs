//! The form of log lines, and which lines there are: text or JSON, with or without colours, and
//! from which level on.

use std::collections::BTreeMap;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis, Terminal};

const BOTH: [fn(&Redis) -> ProcessBuilder; 2] = [Process::server, Process::jobqueue];
const STARTED: [&str; 2] = ["listening", "worker started"];

/// A JSON object. It refuses a key that occurs twice.
struct Unique(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Unique;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
                let mut unique = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    let before = unique.insert(key, value);
                    assert!(before.is_none(), "a key is there twice: {before:?}");
                }
                Ok(Unique(unique))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Starts a program, gives it an event to log, and stops it. Returns its log lines.
async fn json_lines(program: ProcessBuilder, redis: &Redis, started: &str) -> Vec<Unique> {
    let process = program.start();
    process.wait_for_log(started, PATIENCE).await;
    process.wait_ready(PATIENCE).await;
    redis.add_job(r#"{"type":7}"#).await;
    if started == "worker started" {
        process.wait_for_log("malformed job", PATIENCE).await;
    }
    process.term();
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
    let lines = process.stderr().into_iter();
    lines
        .map(|line| serde_json::from_str(&line.text).unwrap())
        .collect()
}

#[tokio::test]
async fn a_json_line_is_flat_and_tells_host_process_and_consumer() {
    let redis = Redis::start().await;
    for (start, started) in BOTH.into_iter().zip(STARTED) {
        let program = start(&redis)
            .env("LOG_FORMAT", "json")
            .env("RUST_LOG", "trace");
        let lines = json_lines(program, &redis, started).await;
        let mut is_named = false;
        for Unique(line) in &lines {
            for key in ["timestamp", "level", "message", "target"] {
                assert!(line[key].is_string(), "{key}: {line:?}");
            }
            assert_eq!(line["host"], gethostname::gethostname().to_str().unwrap());
            assert!(line["pid"].is_u64());
            for (key, value) in line {
                let flat = !value.is_object() && !value.is_array();
                assert!(flat, "{key}: {line:?}");
            }
            is_named |= line["message"] == "worker started";
            assert!(!is_named || line["consumer"].is_string(), "{line:?}");
        }
        assert_eq!(is_named, started == "worker started");
        let listening = lines.iter().find(|line| line.0["message"] == "listening");
        assert!(listening.unwrap().0["addr"].is_string());
    }
}

#[tokio::test]
async fn the_settings_name_level_and_format_unless_variables_do() {
    let redis = Redis::start().await;
    for (start, started) in BOTH.into_iter().zip(STARTED) {
        let json = |level| {
            start(&redis)
                .env("APP__LOGGING__LEVEL", level)
                .env("APP__LOGGING__FORMAT", "json")
        };
        let lines = json_lines(json("trace"), &redis, started).await;
        for Unique(line) in lines {
            let own = ["dm_jobqueue", "jobqueue", "server"];
            let target = line["target"].as_str().unwrap();
            let is_own = own.contains(&target.split("::").next().unwrap());
            let is_warning = ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap());
            assert!(is_own || is_warning, "a library's line: {line:?}");
        }
        let both = json("error")
            .env("RUST_LOG", "info")
            .env("LOG_FORMAT", "text");
        let process = both.start();
        let line = process.wait_for_log(started, PATIENCE).await.text;
        assert!(!line.starts_with('{'), "{line}");

        let quiet = json("error").start();
        eventually_ready_without_a_line(&quiet).await;
    }
}

/// No line says where the program listens, so this waits for its socket. It then stops the program,
/// which must have logged nothing.
async fn eventually_ready_without_a_line(process: &Process) {
    crate::support::eventually("it listens", PATIENCE, async || {
        let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", process.pid())).unwrap();
        let fds = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        let inodes = links.filter_map(|link| {
            let link = link
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .to_owned();
            Some(format!(" {link} "))
        });
        let listens = |inode: String| {
            let mut lines = sockets.lines();
            lines.any(|line| line.contains(" 0A ") && line.contains(&inode))
        };
        inodes.into_iter().any(listens).then_some(())
    })
    .await;
    process.term();
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
    assert!(process.stderr().is_empty());
}

#[tokio::test]
async fn the_filter_of_either_name_of_a_program_shows_all_its_lines() {
    let redis = Redis::start().await;
    for filter in ["dm_jobqueue=info", "jobqueue=info", "server=info"] {
        let worker = Process::jobqueue(&redis).env("RUST_LOG", filter).start();
        worker.wait_for_log("listening", PATIENCE).await;
        worker.wait_for_log("worker started", PATIENCE).await;
    }
}

#[tokio::test]
async fn colours_are_for_terminals_and_not_for_who_wants_none() {
    const ESCAPE: char = '\u{1b}';
    let redis = Redis::start().await;
    for start in BOTH {
        for (no_color, term, coloured) in [
            ("", "xterm", true),
            ("1", "xterm", false),
            ("0", "xterm", false),
            ("", "dumb", false),
        ] {
            let terminal = Terminal::new();
            let program = start(&redis).env("NO_COLOR", no_color).env("TERM", term);
            let process = program.stderr_to(terminal.end()).start();
            terminal.wait_for("listening", PATIENCE).await;
            process.term();
            assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0));
            let text = terminal.text();
            assert_eq!(text.contains(ESCAPE), coloured, "{no_color} {term}: {text}");
        }
    }
}

#[tokio::test]
async fn a_word_that_is_no_level_stops_the_start() {
    let redis = Redis::reserve();
    for start in BOTH {
        for word in ["verbose", "dm_jobqueue=loud", "info;warn"] {
            let process = start(&redis).env("RUST_LOG", word).start();
            assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(78), "{word}");
            let said = &process.stderr()[0].text;
            let expected =
                format!("error: RUST_LOG: found {word:?}, expected a level (off, error,");
            assert!(said.starts_with(&expected), "{said}");
        }
    }
}
