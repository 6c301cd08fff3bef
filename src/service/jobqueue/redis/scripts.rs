//! The texts of the Lua scripts, and the command that runs one.
//!
//! Scripts are sent whole (EVAL) and not by their hash (EVALSHA). A Redis that has forgotten a
//! script after a flush, a restart or a failover then needs no second round trip, and there is
//! no error to handle. Hashing two kilobytes costs Redis a few microseconds for each batch.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Cmd;

/// A script of `scripts/`. Before it stand the prelude, which all scripts share, and the other
/// parts that are named.
macro_rules! script {
    ($($name:literal),+) => {
        concat!(
            include_str!("scripts/prelude.lua"),
            $(include_str!(concat!("scripts/", $name, ".lua"))),+
        )
    };
}

pub(super) const ACKNOWLEDGE: &str = script!("acknowledge");
pub(super) const BURY: &str = script!("bury");
pub(super) const PROMOTE: &str = script!("promote");
pub(super) const READ: &str = script!("read");
pub(super) const RECOGNISE: &str = script!("recognise");
/// The longest script, and the one that is sent most often. Its comment lines are left out,
/// which halves its length.
pub(super) static RECLAIM: LazyLock<String> = LazyLock::new(|| {
    let lines = script!("hold", "mend", "reclaim").lines();
    let code = lines.enumerate().map(|(at, line)| match line.trim_start() {
        // The first line looks like a comment and has the script's flags.
        comment if at > 0 && comment.starts_with("--") => "",
        code => code,
    });
    code.map(|line| format!("{line}\n")).collect()
});
pub(super) const REMOVE_CONSUMERS: &str = script!("remove_consumers");
pub(super) const SCHEDULE: &str = script!("schedule");
pub(super) const TAKE: &str = script!("take");
pub(super) const TOUCH: &str = script!("touch");
/// These two write nothing, so the prelude, which says what a script writes, is not for them.
pub(super) const MAY_ENQUEUE: &str = include_str!("scripts/may_enqueue.lua");
pub(super) const HAS_ROOM: &str = include_str!("scripts/has_room.lua");

/// The command that runs a script with these keys. Its arguments follow.
pub(super) fn eval(script: &str, keys: &[&String]) -> Cmd {
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(script).arg(keys.len()).arg(keys);
    cmd
}

/// A time as the scripts take it.
pub(super) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
