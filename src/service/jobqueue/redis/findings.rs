//! What an operator is told of a Redis that can be used, and by which words of INFO it is known.
//!
//! Texts and comparisons only. When something is told, and how often, is for `condition`.

use super::questions::field;

/// A memory that is fuller than this is nearly full, in percent. It counts as mended when it
/// is somewhat below, so that the log does not follow each job.
const NEARLY_FULL: u64 = 90;
const NOT_FULL: u64 = 85;

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Matter {
    Paused,
    OutOfMemory,
    MemoryNearlyFull,
    Eviction,
    Snapshots,
    AppendOnlyFile,
    Replica,
}

impl Matter {
    /// What is said when it is over.
    pub(super) fn end(self) -> &'static str {
        match self {
            Self::Paused => "the queue goes on: it is not paused any more",
            Self::OutOfMemory => "there is memory for new jobs again",
            Self::MemoryNearlyFull => "the memory for jobs is not nearly full any more",
            Self::Eviction => "no jobs are evicted any more: maxmemory-policy was changed",
            Self::Snapshots => "snapshots succeed again",
            Self::AppendOnlyFile => "the append-only file is written again",
            Self::Replica => "the server is no replica any more",
        }
    }
}

/// What the text of INFO says of each of its matters. None means that there is nothing to tell.
/// `was_nearly_full` says what was found last.
pub(super) fn of_info(info: &str, was_nearly_full: bool) -> [(Matter, Option<String>); 5] {
    let limit = if was_nearly_full {
        NOT_FULL
    } else {
        NEARLY_FULL
    };
    [
        (Matter::MemoryNearlyFull, nearly_full(info, limit)),
        (Matter::Eviction, eviction(info)),
        (Matter::Snapshots, failing_snapshots(info)),
        (Matter::AppendOnlyFile, failing_append_only_file(info)),
        (Matter::Replica, replica(info)),
    ]
}

/// `state_key` is the key in which the queue is paused.
pub(super) fn paused(state_key: &str) -> String {
    format!("the queue is paused ({state_key} paused); HDEL {state_key} paused lets it go on")
}

pub(super) fn out_of_memory() -> String {
    "out of memory (maxmemory is reached): new jobs are refused, and those that wait are run"
        .to_owned()
}

fn nearly_full(info: &str, limit: u64) -> Option<String> {
    let number = |name| field(info, name)?.parse::<u64>().ok();
    let (used, most) = (number("used_memory")?, number("maxmemory")?);
    let full = most > 0 && u128::from(used) * 100 >= u128::from(most) * u128::from(limit);
    let shown = |name| field(info, name).unwrap_or("unknown");
    let (used, most) = (shown("used_memory_human"), shown("maxmemory_human"));
    full.then(|| {
        format!("redis' memory is nearly full: {used} of {most} (maxmemory); give it more")
    })
}

/// A policy that evicts only keys which expire drops no jobs: the queue's keys do not expire.
fn eviction(info: &str) -> Option<String> {
    let policy = field(info, "maxmemory_policy")?;
    let text = format!("redis may evict jobs: maxmemory-policy is {policy}; set it to noeviction");
    policy.starts_with("allkeys-").then_some(text)
}

fn failing_snapshots(info: &str) -> Option<String> {
    let failed = field(info, "rdb_last_bgsave_status")? != "ok";
    let text = "redis' last snapshot failed (rdb_last_bgsave_status): a restart would lose what \
                came since the one before; see its log";
    failed.then(|| text.to_owned())
}

fn failing_append_only_file(info: &str) -> Option<String> {
    let failing = ["aof_last_write_status", "aof_last_bgrewrite_status"];
    let failing = failing.into_iter().find(|name| {
        let status = field(info, name);
        status.is_some_and(|status| status != "ok")
    })?;
    Some(format!(
        "redis cannot write its append-only file ({failing}); see its log"
    ))
}

/// A replica that takes no writes is not told here: the queue cannot use it at all.
fn replica(info: &str) -> Option<String> {
    let is_replica = field(info, "role")? == "slave";
    let text = "the redis server is a replica that takes writes (role:slave): what is written \
                here is lost with its next resync; name the primary";
    is_replica.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_of(info: &str) -> Vec<String> {
        let found = of_info(info, false).into_iter();
        found.filter_map(|(_, text)| text).collect()
    }

    #[test]
    fn what_endangers_jobs_is_told() {
        for (info, part) in [
            ("maxmemory_policy:allkeys-lru\r\n", "is allkeys-lru; set"),
            ("rdb_last_bgsave_status:err\r\n", "snapshot failed"),
            ("aof_last_write_status:err\r\n", "(aof_last_write_status)"),
            ("aof_last_bgrewrite_status:err\r\n", "bgrewrite_status)"),
            ("role:slave\r\n", "is a replica"),
            (
                "used_memory:90\r\nused_memory_human:90B\r\nmaxmemory:100\r\n\
                 maxmemory_human:100B\r\n",
                "nearly full: 90B of 100B",
            ),
        ] {
            let said = said_of(info);
            assert_eq!(said.len(), 1, "{info}: {said:?}");
            assert!(said[0].contains(part), "{part}: {said:?}");
        }
    }

    #[test]
    fn what_endangers_nothing_is_not_told() {
        for info in [
            "",
            "# Memory\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n",
            "maxmemory_policy:volatile-lru\r\n",
            "used_memory:90\r\nmaxmemory:0\r\n",
            "used_memory:89\r\nmaxmemory:100\r\n",
            "rdb_last_bgsave_status:ok\r\naof_last_write_status:ok\r\n",
        ] {
            assert_eq!(said_of(info), [""; 0], "{info}");
        }
    }

    #[test]
    fn a_memory_about_its_limit_is_nearly_full_until_it_is_well_below() {
        let mut full = false;
        for (used, told) in [
            (89, false),
            (90, true),
            (86, true),
            (84, false),
            (89, false),
        ] {
            let info = format!("used_memory:{used}\r\nmaxmemory:100\r\n");
            full = of_info(&info, full)[0].1.is_some();
            assert_eq!(full, told, "{used}");
        }
    }
}
