//! The Lua scripts, and the commands that run them.
//!
//! A script is named by its hash (EVALSHA), so its text is not on the line. A Redis that does not know
//! it, since it was started or flushed or is another one after a failover, refuses the command with
//! NOSCRIPT and does nothing. Then [`whole`] makes the command that has the text (EVAL), and Redis
//! knows the script from then on. The link does this, and nobody else notices.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Arg, Cmd, ServerError};

/// A script of `scripts/`. Before it stand the prelude, which all scripts share, and the other
/// parts that are named.
macro_rules! script {
    ($($name:literal),+) => {
        LazyLock::new(|| Script::new(concat!(
            include_str!("scripts/prelude.lua"),
            $(include_str!(concat!("scripts/", $name, ".lua"))),+
        )))
    };
}

/// A script of `scripts/` that only looks, for [`evalsha_ro`].
macro_rules! read_only {
    ($name:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("scripts/read_prelude.lua"),
                include_str!(concat!("scripts/", $name, ".lua"))
            ))
        })
    };
}

/// A script that adds to what Redis holds. So Redis refuses it while its memory is full.
macro_rules! adding {
    ($name:literal) => {
        LazyLock::new(|| {
            let prelude = include_str!("scripts/prelude.lua");
            let without_flags = prelude.replacen("#!lua flags=allow-oom", "#!lua", 1);
            Script::new(&(without_flags + include_str!(concat!("scripts/", $name, ".lua"))))
        })
    };
}

pub(super) static ACKNOWLEDGE: LazyLock<Script> = script!("acknowledge");
pub(super) static ANNOUNCE: LazyLock<Script> = script!("announce");
pub(super) static BURY: LazyLock<Script> = script!("bury");
pub(super) static CANCEL: LazyLock<Script> = script!("cancel");
pub(super) static ENTRIES: LazyLock<Script> = read_only!("entries");
pub(super) static OVERVIEW: LazyLock<Script> = read_only!("overview");
pub(super) static PAUSE: LazyLock<Script> = script!("pause");
pub(super) static PENDING_PAGE: LazyLock<Script> = read_only!("pending_page");
pub(super) static PROMOTE: LazyLock<Script> = script!("promote");
pub(super) static READ: LazyLock<Script> = script!("read");
pub(super) static RECLAIM: LazyLock<Script> = script!("hold", "mend", "reclaim");
pub(super) static RECOGNISE: LazyLock<Script> = script!("recognise");
pub(super) static RECORD: LazyLock<Script> = adding!("record");
pub(super) static REMOVE_CONSUMERS: LazyLock<Script> = script!("remove_consumers");
pub(super) static RETRY: LazyLock<Script> = adding!("retry");
pub(super) static RUN_NOW: LazyLock<Script> = script!("run_now");
pub(super) static SCHEDULE: LazyLock<Script> = script!("schedule");
pub(super) static SCHEDULED_PAGE: LazyLock<Script> = read_only!("scheduled_page");
pub(super) static STREAM_PAGE: LazyLock<Script> = read_only!("stream_page");
pub(super) static TAKE: LazyLock<Script> = script!("take");
pub(super) static TIDY: LazyLock<Script> = script!("tidy");
pub(super) static TOUCH: LazyLock<Script> = script!("touch");

/// All that are named by their hash.
static ALL: [&LazyLock<Script>; 22] = [
    &ACKNOWLEDGE,
    &ANNOUNCE,
    &BURY,
    &CANCEL,
    &ENTRIES,
    &OVERVIEW,
    &PAUSE,
    &PENDING_PAGE,
    &PROMOTE,
    &READ,
    &RECLAIM,
    &RECOGNISE,
    &RECORD,
    &REMOVE_CONSUMERS,
    &RETRY,
    &RUN_NOW,
    &SCHEDULE,
    &SCHEDULED_PAGE,
    &STREAM_PAGE,
    &TAKE,
    &TIDY,
    &TOUCH,
];

/// These two write nothing, so the prelude, which says what a script writes, is not for them. They are
/// run rarely, and sent whole.
pub(super) const MAY_ENQUEUE: &str = include_str!("scripts/may_enqueue.lua");
pub(super) const HAS_ROOM: &str = include_str!("scripts/has_room.lua");

/// A script, and the hash by which Redis knows it. It is sent without its comment lines, which halves
/// its length.
#[derive(Debug)]
pub(super) struct Script {
    text: String,
    hash: String,
}

impl Script {
    fn new(text: &str) -> Self {
        let lines = text.lines().enumerate();
        let lines = lines.map(|(at, line)| match line.trim_start() {
            // The first line looks like a comment and has the script's flags.
            comment if at > 0 && comment.starts_with("--") => "",
            code => code,
        });
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let hash = sha1_smol::Sha1::from(&text).digest().to_string();
        Self { text, hash }
    }
}

/// The command that runs a script with these keys. Its arguments follow. Only a link may send it.
pub(super) fn evalsha(script: &Script, keys: &[&String]) -> Cmd {
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(&script.hash).arg(keys.len()).arg(keys);
    cmd
}

/// The same for a script that only looks. A user who may not write may send it.
pub(super) fn evalsha_ro(script: &Script, keys: &[&String]) -> Cmd {
    let mut cmd = redis::cmd("EVALSHA_RO");
    cmd.arg(&script.hash).arg(keys.len()).arg(keys);
    cmd
}

/// The command that makes Redis know how to acknowledge. A job that ran is to be acknowledged in one
/// round trip also the first time. The other scripts can wait for their first use.
pub(super) fn load() -> Cmd {
    let mut load = redis::cmd("SCRIPT");
    load.arg("LOAD").arg(&ACKNOWLEDGE.text);
    load
}

/// The command that runs a script whose text it has.
pub(super) fn eval(text: &str, keys: &[&String]) -> Cmd {
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(text).arg(keys.len()).arg(keys);
    cmd
}

/// Whether Redis has refused a command because it does not know the script.
pub(super) fn is_unknown(error: &ServerError) -> bool {
    error.code() == "NOSCRIPT"
}

/// The command that does the same as one of [`evalsha`] or [`evalsha_ro`], and has the script's text. None
/// for any other command.
pub(super) fn whole(cmd: &Cmd) -> Option<Cmd> {
    let mut args = cmd.args_iter().map(|arg| match arg {
        Arg::Simple(bytes) => bytes,
        // No command of this crate has one.
        _ => &[],
    });
    let name = match args.next()? {
        b"EVALSHA" => "EVAL",
        b"EVALSHA_RO" => "EVAL_RO",
        _ => return None,
    };
    let hash = args.next()?;
    let script = ALL.iter().find(|script| script.hash.as_bytes() == hash)?;
    let mut whole = redis::cmd(name);
    whole.arg(&script.text);
    for arg in args {
        whole.arg(arg);
    }
    Some(whole)
}

/// A time as the scripts take it.
pub(super) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_adds_is_refused_while_the_memory_is_full() {
        for script in ALL {
            let flags = script.text.lines().next().unwrap();
            let adds = [&RETRY.hash, &RECORD.hash].contains(&&script.hash);
            assert_eq!(flags.contains("allow-oom"), !adds, "{flags}");
        }
    }

    #[test]
    fn a_command_with_a_hash_has_one_with_the_text() {
        let key = "a key".to_owned();
        for script in ALL {
            let mut by_hash = evalsha(script, &[&key]);
            let mut by_text = eval(&script.text, &[&key]);
            by_hash.arg("one").arg(2);
            by_text.arg("one").arg(2);
            let whole = whole(&by_hash).unwrap();
            assert_eq!(whole.get_packed_command(), by_text.get_packed_command());
        }
        let whole_ro = whole(&evalsha_ro(&OVERVIEW, &[&key])).unwrap();
        assert!(whole_ro.args_iter().next() == Some(Arg::Simple(b"EVAL_RO")));
        assert!(whole(&eval(MAY_ENQUEUE, &[&key])).is_none());
        assert!(whole(redis::cmd("EVALSHA").arg("another")).is_none());
    }
}
