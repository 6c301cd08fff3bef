//! What Redis is asked about itself and about the queue, and how its answers are read.

use std::borrow::Cow;

use redis::{Cmd, Value};

use super::keys::Keys;
use super::scripts::{HAS_ROOM, eval};

/// The oldest Redis whose scripts have flags.
const MIN_REDIS_MAJOR: u32 = 7;
/// The values of `paused` that do not pause a queue. The reclaim script has the same.
pub(super) const NOT_PAUSED: [&str; 5] = ["", "0", "false", "no", "off"];

/// What Redis is asked again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// Whether there is memory for another job. Redis is asked by a script that writes nothing
    /// and is refused as a job would be.
    Memory,
    /// Whether an operator has paused the queue.
    Paused,
    /// How Redis is, by its own account.
    Info,
}

/// What Redis answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    OutOfMemory(bool),
    Paused(bool),
    /// The text of INFO.
    Info(Cow<'a, str>),
    /// It will not tell: an ACL or a managed server forbids the question.
    Refused,
    /// Something that tells nothing.
    Nothing,
}

impl Question {
    pub(super) const ALL: [Self; 3] = [Self::Memory, Self::Paused, Self::Info];

    pub(super) fn command(self, keys: &Keys) -> Cmd {
        match self {
            Self::Memory => eval(HAS_ROOM, &[&keys.stream]),
            Self::Paused => {
                let mut cmd = redis::cmd("HGET");
                cmd.arg(&keys.state).arg("paused");
                cmd
            }
            Self::Info => info(&["memory", "persistence", "replication"]),
        }
    }

    pub(super) fn read(self, answer: &Value) -> Said<'_> {
        match (self, answer) {
            // Other errors are answered to the schema's scripts too, which tell them.
            (Self::Memory, Value::ServerError(error)) => Said::OutOfMemory(error.code() == "OOM"),
            (Self::Memory, _) => Said::OutOfMemory(false),
            (_, Value::ServerError(_)) => Said::Refused,
            (Self::Paused, Value::BulkString(value)) => {
                Said::Paused(is_paused(&String::from_utf8_lossy(value)))
            }
            (Self::Paused, _) => Said::Paused(false),
            (Self::Info, answer) => text(answer).map_or(Said::Nothing, Said::Info),
        }
    }
}

/// Whether this value of `paused` pauses a queue. A field that is absent is as one that is empty.
pub(super) fn is_paused(value: &str) -> bool {
    !NOT_PAUSED.contains(&value.to_lowercase().as_str())
}

/// Asks which server this is.
pub(super) fn server() -> Cmd {
    info(&["server"])
}

/// The version in the answer to [`server`], if it is too old for the queue. Nothing is wrong
/// when an ACL forbids the question.
pub(super) fn version_too_old(answer: &Value) -> Option<String> {
    let server = text(answer)?;
    let version = field(&server, "redis_version")?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (major < MIN_REDIS_MAJOR).then(|| version.to_owned())
}

fn info(sections: &[&str]) -> Cmd {
    let mut cmd = redis::cmd("INFO");
    cmd.arg(sections);
    cmd
}

fn text(answer: &Value) -> Option<Cow<'_, str>> {
    match answer {
        Value::BulkString(text) => Some(String::from_utf8_lossy(text)),
        Value::VerbatimString { text, .. } => Some(text.into()),
        _ => None,
    }
}

/// The value of `name:value` in a section of INFO.
pub(super) fn field<'a>(section: &'a str, name: &str) -> Option<&'a str> {
    section.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then_some(value.trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> Value {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_refusal_is_a_full_memory_only_where_room_was_asked_for() {
        let full = error("OOM no room");
        assert_eq!(Question::Memory.read(&full), Said::OutOfMemory(true));
        let other = error("MISCONF disk");
        assert_eq!(Question::Memory.read(&other), Said::OutOfMemory(false));
        assert_eq!(
            Question::Memory.read(&Value::Int(0)),
            Said::OutOfMemory(false)
        );
        for question in [Question::Paused, Question::Info] {
            assert_eq!(question.read(&error("NOPERM no")), Said::Refused);
        }
    }

    #[test]
    fn pausing_is_read_as_the_workers_read_it() {
        for (value, paused) in [
            ("1", true),
            ("since noon", true),
            ("Off", false),
            ("", false),
            ("yes", true),
            ("FALSE", false),
        ] {
            let answer = Value::BulkString(value.into());
            let said = Question::Paused.read(&answer);
            assert_eq!(said, Said::Paused(paused), "{value:?}");
        }
        assert_eq!(Question::Paused.read(&Value::Nil), Said::Paused(false));
        // The script that decides has the same words, and no other.
        let script = include_str!("scripts/reclaim.lua");
        let table = script.lines().find(|line| line.contains("NOT_PAUSED = {"));
        let words = table.unwrap().matches(" = true").count();
        assert_eq!(words, NOT_PAUSED.len());
        for word in NOT_PAUSED {
            let (quoted, bare) = (format!("['{word}'] ="), format!(" {word} ="));
            let known = table.is_some_and(|it| it.contains(&quoted) || it.contains(&bare));
            assert!(known, "{word:?}");
        }
    }

    #[test]
    fn a_server_before_7_is_too_old_and_one_that_does_not_tell_is_not() {
        let server = |version: &str| {
            let text = format!("# Server\r\nredis_version:{version}\r\n");
            version_too_old(&Value::BulkString(text.into()))
        };
        assert_eq!(server("6.2.14").as_deref(), Some("6.2.14"));
        for version in ["7.0.0", "8.2.1", "255.255.255", "unstable"] {
            assert_eq!(server(version), None, "{version}");
        }
        assert_eq!(version_too_old(&error("NOPERM no")), None);
    }
}
