//! The time zone of the lines that jobs print.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis};

const JOB: &str = r#"{"type":"demo:delay_print","payload":{"message":"now"}}"#;

/// How many minutes ahead of UTC the worker prints, and how many warnings it logs.
async fn offset(redis: &Redis, worker: ProcessBuilder) -> (i64, usize) {
    let worker = worker.start();
    redis.add_job(JOB).await;
    let line = worker.wait_for_line(|_| true, PATIENCE).await.text;
    let stamp = line.split_once(']').unwrap().0.trim_start_matches('[');
    let local: DateTime = stamp.replacen(' ', "T", 1).parse().unwrap();
    let local = local
        .to_zoned_datetime(jiff::tz::TimeZone::UTC)
        .unwrap()
        .timestamp();
    let seconds = local.as_second() - Timestamp::now().as_second();
    redis.drained(PATIENCE).await;
    worker.term();
    assert_eq!(worker.wait_exit(PATIENCE).await.code(), Some(0));
    // A moment has passed since the line was printed, so this rounds to the nearest minute.
    ((seconds + 30).div_euclid(60), worker.count_log(" WARN "))
}

#[tokio::test]
async fn a_zone_is_given_by_name_by_rule_or_by_file() {
    let redis = Redis::start().await;
    for (zone, ahead) in [
        ("Asia/Tokyo", 540),
        (":Asia/Tokyo", 540),
        ("/usr/share/zoneinfo/Asia/Tokyo", 540),
        ("JST-9", 540),
        ("UTC0", 0),
        ("UTC", 0),
        ("", 0),
    ] {
        let worker = Process::jobqueue(&redis).env("TZ", zone);
        assert_eq!(offset(&redis, worker).await, (ahead, 0), "TZ={zone}");
    }
}

#[tokio::test]
async fn a_zone_that_is_none_is_warned_of() {
    let redis = Redis::start().await;
    for zone in ["Asia/Tokio", "JST", "+9", "/nonexistent", "/dev/null", ":"] {
        let worker = Process::jobqueue(&redis)
            .env("TZ", zone)
            .env("NO_COLOR", "1");
        assert_eq!(offset(&redis, worker).await, (0, 1), "TZ={zone}");
    }
    let worker = Process::jobqueue(&redis).env("TZ", "Asia/Tokio").start();
    let line = worker.wait_for_log("TZ", PATIENCE).await.text;
    assert!(
        line.contains("TZ=Asia/Tokio") && line.contains("UTC"),
        "{line}"
    );
}

#[tokio::test]
async fn a_name_is_known_where_the_system_does_not_know_it() {
    let redis = Redis::start().await;
    let some = tempfile::tempdir().unwrap();
    // One directory is a zone database with one name, and the other one is empty.
    let file = some.path().join("Some");
    std::fs::copy("/usr/share/zoneinfo/Etc/UTC", file).unwrap();
    let none = tempfile::tempdir().unwrap();
    for directory in [some.path(), none.path()] {
        let worker = Process::jobqueue(&redis)
            .env("TZDIR", directory.to_str().unwrap())
            .env("TZ", "Asia/Tokyo");
        assert_eq!(offset(&redis, worker).await, (540, 0), "{directory:?}");
    }
}

/// A worker with other files in its file system. `script` changes the mounts.
fn mounted(redis: &Redis, script: &str) -> ProcessBuilder {
    let run = format!("{script}\nexec '{}'", env!("CARGO_BIN_EXE_jobqueue"));
    let unshare = ProcessBuilder::program("unshare").redis(redis);
    unshare.args(&["--map-root-user", "--mount", "sh", "-ec", &run])
}

#[tokio::test]
async fn a_system_without_any_zones_or_with_a_broken_one_is_no_trouble() {
    let redis = Redis::start().await;
    let hide = "mount -t tmpfs none /usr/share/zoneinfo";
    assert!(
        Path::new("/usr/share/zoneinfo/UTC").exists(),
        "there is something to hide"
    );
    let worker = mounted(&redis, hide).env("TZ", "Asia/Tokyo");
    assert_eq!(offset(&redis, worker).await, (540, 0), "no names");

    let of = |make: &str| {
        format!(
            "mount -t tmpfs none /mnt && mkdir /mnt/etc /mnt/work
             mount -t overlay -o lowerdir=/etc,upperdir=/mnt/etc,workdir=/mnt/work none /etc
             rm -f /etc/localtime; {make}"
        )
    };
    let link = "ln -s /usr/share/zoneinfo/Asia/Tokyo /etc/localtime";
    for (make, ahead, warnings) in [
        (format!("{link}; {hide}"), 540, 0),
        (String::new(), 0, 0),
        ("echo broken > /etc/localtime".to_owned(), 0, 1),
        ("ln -s /nonexistent /etc/localtime".to_owned(), 0, 1),
    ] {
        let worker = mounted(&redis, &of(&make));
        assert_eq!(offset(&redis, worker).await, (ahead, warnings), "{make}");
    }
}
