//! Both ends of each range, and settings that do not go together.

use super::{load, ms, secs, with};
use crate::config::plain;

/// Both ends of a range are accepted, and `bad` is not.
fn assert_range(key: &str, low: &str, high: &str, bad: &[&str]) {
    let variable = format!("APP__{key}");
    for value in [low, high] {
        let outcome = with(&[(&variable, value)]);
        assert!(outcome.is_ok(), "{variable}={value}: {outcome:?}");
    }
    for value in bad {
        let Err(message) = with(&[(&variable, value)]) else {
            panic!("{variable}={value} was accepted");
        };
        let found = format!("found {}, expected ", plain::shown(value));
        assert!(
            message.starts_with(&format!("{variable}: ")) && message.contains(&found),
            "{message}"
        );
    }
}

#[test]
fn ranges_of_the_server() {
    assert_range("SERVER__HOST", "::1", "example.com", &["a b", "a:80"]);
    assert_range("SERVER__PORT", "0", "65535", &["-1", "65536", "1.5"]);
    assert_range(
        "SERVER__REQUEST_TIMEOUT",
        "10ms",
        "1m",
        &["9ms", "61s", "0"],
    );
    assert_range(
        "SERVER__SHUTDOWN_TIMEOUT",
        "0s",
        "24h",
        &[
            "-1s",
            "25h",
            "18446744073709551615s 1000ms",
            "584542046090y 19767615s 1000ms",
        ],
    );
}

#[test]
fn ranges_of_the_workers() {
    assert_range("JOBQUEUE__HOST", "::1", "example.com", &["a b", "[a]"]);
    assert_range("JOBQUEUE__PORT", "0", "65535", &["-1", "65536"]);
    assert_range("JOBQUEUE__QUEUE", "a", "a-z_9", &["A", "a:b", "{a}", "é"]);
    assert_range(
        "JOBQUEUE__CONCURRENCY",
        "1",
        "10000",
        &["0", "10001", "1e3"],
    );
    assert_range(
        "JOBQUEUE__LEASE",
        "100ms",
        "24h",
        &["99ms", "25h", "0", "-1s"],
    );
    assert_range("JOBQUEUE__HEARTBEAT", "10ms", "7s", &["9ms", "25h"]);
    assert_range("JOBQUEUE__RECLAIM_INTERVAL", "1ms", "2s", &["0s", "25h"]);
    assert_range("JOBQUEUE__MAX_DELIVERIES", "1", "1000", &["0", "1001"]);
    assert_range("JOBQUEUE__JOB_TIMEOUT", "1ms", "30days", &["0s", "31days"]);
    assert_range("JOBQUEUE__SHUTDOWN_TIMEOUT", "0s", "24h", &["25h"]);
    assert_range("JOBQUEUE__RETRY__INITIAL", "1ms", "10m", &["0s"]);
    assert_range("JOBQUEUE__RETRY__MAX", "1s", "365days", &["366days"]);
    assert_range(
        "JOBQUEUE__RETRY__FACTOR",
        "1",
        "100",
        &["0.9", "101", "NaN"],
    );
    assert_range("JOBQUEUE__RETRY__JITTER", "0", "1", &["-0.1", "1.1", "NaN"]);
    let beyond = ["0", "1000000001"];
    assert_range("JOBQUEUE__DEAD_LETTER_MAX_LEN", "1", "1000000000", &beyond);
}

#[test]
fn ranges_of_redis() {
    let assert_range = |key: &str, low, high, bad| {
        assert_range(
            &format!("CACHE_SERVER__REDIS__JOBQUEUE__{key}"),
            low,
            high,
            bad,
        );
    };
    assert_range("DB", "0", "2147483647", &["-1", "2147483648"]);
    assert_range("TLS", "true", "false", &["2", "maybe"]);
    assert_range("MIN_RETRY_BACKOFF", "1ms", "512ms", &["0s"]);
    assert_range("MAX_RETRY_BACKOFF", "100ms", "10s", &["11s"]);
    assert_range("DIAL_TIMEOUT", "10ms", "1m", &["9ms", "61s"]);
    assert_range("READ_TIMEOUT", "10ms", "1m", &["9ms", "61s"]);
    assert_range("WRITE_TIMEOUT", "10ms", "1m", &["9ms", "61s"]);
}

#[test]
fn a_queue_name_has_at_most_64_characters() {
    let name = "q".repeat(64);
    assert!(with(&[("APP__JOBQUEUE__QUEUE", &name)]).is_ok());
    let name = "q".repeat(65);
    assert!(with(&[("APP__JOBQUEUE__QUEUE", &name)]).is_err());
}

#[test]
fn heartbeat_and_reclaim_interval_follow_the_lease() {
    let worker = with(&[("APP__JOBQUEUE__LEASE", "60s")])
        .unwrap()
        .jobqueue
        .worker;
    assert_eq!(worker.heartbeat(), secs(20));
    assert_eq!(worker.reclaim_interval(), secs(1));
    let worker = with(&[("APP__JOBQUEUE__LEASE", "300ms")])
        .unwrap()
        .jobqueue
        .worker;
    assert_eq!(worker.heartbeat(), ms(100));
    assert_eq!(worker.reclaim_interval(), ms(50));
}

#[test]
fn a_heartbeat_is_less_than_half_the_lease() {
    let heartbeat = |value| with(&[("APP__JOBQUEUE__HEARTBEAT", value)]);
    assert!(heartbeat("7499ms").is_ok());
    assert_eq!(
        heartbeat("7500ms").unwrap_err(),
        "APP__JOBQUEUE__HEARTBEAT: jobqueue.heartbeat: found \"7s 500ms\", expected less than \
         half of jobqueue.lease, which is \"15s\" (default value); change one of them"
    );
    let variables = [("APP__JOBQUEUE__LEASE", "2s")];
    assert_eq!(
        load("jobqueue: {heartbeat: 5s}", "", &variables).unwrap_err(),
        "DIR/develop.yaml: jobqueue.heartbeat: found \"5s\", expected less than half of \
         jobqueue.lease, which is \"2s\" (APP__JOBQUEUE__LEASE); change one of them"
    );
}

#[test]
fn a_reclaim_interval_is_at_most_half_a_heartbeat() {
    let interval = |value| with(&[("APP__JOBQUEUE__RECLAIM_INTERVAL", value)]);
    assert_eq!(
        interval("2500ms")
            .unwrap()
            .jobqueue
            .worker
            .reclaim_interval(),
        ms(2500)
    );
    assert_eq!(
        interval("2501ms").unwrap_err(),
        "APP__JOBQUEUE__RECLAIM_INTERVAL: jobqueue.reclaim_interval: found \"2s 501ms\", \
         expected at most half of jobqueue.heartbeat, which is \"5s\" (default value); change \
         one of them"
    );
}

#[test]
fn a_longest_wait_is_not_below_the_shortest() {
    let message = with(&[("APP__JOBQUEUE__RETRY__MAX", "999ms")]).unwrap_err();
    assert!(
        message.contains("at least jobqueue.retry.initial"),
        "{message}"
    );
    let variable = "APP__CACHE_SERVER__REDIS__JOBQUEUE__MAX_RETRY_BACKOFF";
    let message = with(&[(variable, "99ms")]).unwrap_err();
    assert!(
        message.contains("min_retry_backoff, which is \"100ms\""),
        "{message}"
    );
}

#[test]
fn a_setting_that_the_address_contradicts_is_refused() {
    let addr = ("REDIS_JOBQUEUE_ADDR", "redis://me:s3cret@localhost/1");
    for (key, value) in [("USERNAME", "me"), ("PASSWORD", "s3cret"), ("DB", "2")] {
        let variable = format!("APP__CACHE_SERVER__REDIS__JOBQUEUE__{key}");
        let message = with(&[addr, (&variable, value)]).unwrap_err();
        let key = key.to_lowercase();
        assert_eq!(
            message,
            format!(
                "{variable}: cache_server.redis.jobqueue.{key}: found a value, expected it in one \
                 place only, but REDIS_JOBQUEUE_ADDR has it in its URL too; remove one of them"
            )
        );
    }
    let variable = "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD_FILE";
    let message = with(&[addr, (variable, "/run/secrets/redis")]).unwrap_err();
    assert!(
        message.starts_with(variable) && message.contains("in one place only"),
        "{message}"
    );
    let tls = ("APP__CACHE_SERVER__REDIS__JOBQUEUE__TLS", "true");
    let message = with(&[("REDIS_JOBQUEUE_ADDR", "redis://:s3cret@localhost"), tls]).unwrap_err();
    assert_eq!(
        message,
        "APP__CACHE_SERVER__REDIS__JOBQUEUE__TLS: cache_server.redis.jobqueue.tls: found true, \
         expected false beside redis://localhost (REDIS_JOBQUEUE_ADDR), which does not use TLS; \
         make it rediss:// or remove cache_server.redis.jobqueue.tls"
    );
    assert!(with(&[("REDIS_JOBQUEUE_ADDR", "rediss://localhost"), tls]).is_ok());
    assert!(with(&[("REDIS_JOBQUEUE_ADDR", "localhost:6379"), tls]).is_ok());
}

#[test]
fn a_password_and_its_file_are_not_both_given() {
    let file = (
        "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD_FILE",
        "/run/secrets/redis",
    );
    let word = ("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD", "s3cret");
    let message = with(&[file, word]).unwrap_err();
    assert_eq!(
        message,
        "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD_FILE: \
         cache_server.redis.jobqueue.password_file: found a path, expected one password, but \
         APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD has cache_server.redis.jobqueue.password \
         too; remove one of them"
    );
    let path = |value| with(&[(file.0, value)]).map(|config| config.redis.password_file);
    assert_eq!(
        path("/run/secrets/redis\n"),
        Ok(Some("/run/secrets/redis".into()))
    );
    assert_eq!(path("./password"), Ok(Some("./password".into())));
    assert_eq!(path(""), Ok(None));
    let message = path("s3cret").unwrap_err();
    assert!(
        message.contains("a path that begins with / or ./"),
        "{message}"
    );
}

#[test]
fn a_user_without_a_password_is_kept_as_one() {
    let name = ("APP__CACHE_SERVER__REDIS__JOBQUEUE__USERNAME", "alice");
    let redis = with(&[name]).unwrap().redis;
    assert_eq!(redis.username.as_deref(), Some("alice"));
    assert_eq!(redis.password, None);
    for addr in ["redis://alice@localhost", "redis://:pw@localhost"] {
        let redis = with(&[("REDIS_JOBQUEUE_ADDR", addr)]).unwrap().redis;
        assert_eq!((redis.addr.as_str(), redis.username), (addr, None));
    }
    let other = ("REDIS_JOBQUEUE_ADDR", "redis://:pw@localhost");
    assert!(with(&[name, other]).is_ok());
}
