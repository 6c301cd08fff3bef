//! What loading accepts and refuses, and the words it uses. The files of the
//! repository are loaded too; the process's own variables are never looked at.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use super::{Config, ConfigError, Secret};

/// Loads develop from files with these contents and these variables; errors become their
/// message, with `DIR` for the directory.
fn load(main: &str, cacheserver: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("develop")).unwrap();
    fs::write(dir.path().join("develop.yaml"), main).unwrap();
    fs::write(dir.path().join("develop/cacheserver.yaml"), cacheserver).unwrap();
    Config::from_sources("develop", dir.path(), &map(variables)).map_err(|error| {
        let message = error.to_string();
        message.replace(dir.path().to_str().unwrap(), "DIR")
    })
}

fn map(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

fn with(variables: &[(&str, &str)]) -> Result<Config, String> {
    load("", "", variables)
}

/// A file with one key of the section that Redis' settings are in.
fn redis_yaml(key_and_value: &str) -> String {
    format!("cache_server:\n  redis:\n    jobqueue:\n      {key_and_value}\n")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn every_key_has_its_default() {
    let config = with(&[]).unwrap();

    assert_eq!(config.server.host, "0.0.0.0");
    assert_eq!(config.server.port, 8080);
    assert_eq!(config.server.request_timeout, secs(1));
    assert_eq!(config.server.shutdown_timeout, secs(30));

    assert_eq!(config.jobqueue.host, "0.0.0.0");
    assert_eq!(config.jobqueue.port, 8082);
    assert_eq!(config.jobqueue.queue, "default");
    assert_eq!(config.jobqueue.concurrency, 10);
    assert_eq!(config.jobqueue.lease, secs(15));
    assert_eq!(config.jobqueue.heartbeat, secs(5));
    assert_eq!(config.jobqueue.reclaim_interval, secs(1));
    assert_eq!(config.jobqueue.max_deliveries, 5);
    assert_eq!(config.jobqueue.job_timeout, secs(30 * 60));
    assert_eq!(config.jobqueue.shutdown_timeout, secs(30));
    assert_eq!(config.jobqueue.retry.initial, secs(1));
    assert_eq!(config.jobqueue.retry.factor, 2.0);
    assert_eq!(config.jobqueue.retry.max, secs(600));
    assert_eq!(config.jobqueue.retry.jitter, 0.2);
    assert_eq!(config.jobqueue.dead_letter_max_len, 100_000);

    assert_eq!(config.redis.addr, "localhost:6379");
    assert_eq!(config.redis.username, None);
    assert_eq!(config.redis.password, None);
    assert_eq!(config.redis.db, 0);
    assert!(!config.redis.tls);
    assert_eq!(config.redis.min_retry_backoff, ms(100));
    assert_eq!(config.redis.max_retry_backoff, ms(512));
    assert_eq!(config.redis.dial_timeout, secs(1));
    assert_eq!(config.redis.read_timeout, ms(1000));
    assert_eq!(config.redis.write_timeout, ms(500));
}

#[test]
fn the_files_of_the_repository_say_what_the_defaults_say() {
    let defaults = format!("{:?}", with(&[]).unwrap());
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for env in ["develop", "staging", "production"] {
        let mut config = Config::from_sources(env, &dir, &map(&[])).unwrap();
        if env == "develop" {
            assert_eq!(config.server.host, "127.0.0.1");
            assert_eq!(config.jobqueue.host, "127.0.0.1");
            config.server.host = "0.0.0.0".to_owned();
            config.jobqueue.host = "0.0.0.0".to_owned();
        }
        assert_eq!(format!("{config:?}"), defaults, "{env}");
    }
}

#[test]
fn the_files_of_the_repository_stand_a_shorter_lease() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for env in ["develop", "staging", "production"] {
        let lease = map(&[("APP__JOBQUEUE__LEASE", "900ms")]);
        let config = Config::from_sources(env, &dir, &lease).unwrap();
        assert_eq!(config.jobqueue.heartbeat, ms(300));
        assert_eq!(config.jobqueue.reclaim_interval, ms(150));
    }
}

#[test]
fn a_later_source_replaces_single_keys() {
    let main = "jobqueue: {port: 1, lease: 10s, retry: {max: 1m, factor: 3}}";
    let variables = [
        ("APP__JOBQUEUE__PORT", "2"),
        ("APP__JOBQUEUE__RETRY__MAX", "2m"),
    ];
    let config = load(main, "", &variables).unwrap();
    assert_eq!(config.jobqueue.port, 2);
    assert_eq!(config.jobqueue.lease, secs(10));
    assert_eq!(config.jobqueue.retry.max, secs(120));
    assert_eq!(config.jobqueue.retry.factor, 3.0);
}

#[test]
fn redis_jobqueue_addr_wins_over_all() {
    let yaml = redis_yaml("{addr: 'a:1', db: 3}");
    let addr = |variables: &[(&str, &str)]| load("", &yaml, variables).unwrap().redis.addr;
    assert_eq!(addr(&[]), "a:1");
    let key = ("APP__CACHE_SERVER__REDIS__JOBQUEUE__ADDR", "b:2");
    assert_eq!(addr(&[key]), "b:2");
    assert_eq!(addr(&[key, ("REDIS_JOBQUEUE_ADDR", "c:3")]), "c:3");
    let config = load("", &yaml, &[("REDIS_JOBQUEUE_ADDR", "c:3")]).unwrap();
    assert_eq!(config.redis.db, 3);
}

#[test]
fn variables_of_others_are_ignored() {
    with(&[("APPLE", "1"), ("APP_PORT", "1"), ("PATH", "/bin")]).unwrap();
}

#[test]
fn a_password_stays_as_written() {
    for password in [
        "1e5", "true", "007", "0x10", "null", "~", " pa ss ", "a,b", "{x: y}", "#",
    ] {
        let variable = ("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD", password);
        let config = with(&[variable]).unwrap();
        assert_eq!(config.redis.password, Some(Secret::new(password)));

        let yaml = redis_yaml(&format!("password: '{password}'"));
        let config = load("", &yaml, &[]).unwrap();
        assert_eq!(config.redis.password, Some(Secret::new(password)));
    }
}

#[test]
fn a_password_that_yaml_has_changed_is_refused_and_not_shown() {
    for (value, kind) in [
        ("1234567", "a number"),
        ("1e5", "a number"),
        ("true", "true or false"),
        ("[1234567]", "a list"),
    ] {
        let message = load("", &redis_yaml(&format!("password: {value}")), &[]).unwrap_err();
        assert_eq!(
            message,
            format!(
                "DIR/develop/cacheserver.yaml: cache_server.redis.jobqueue.password: found \
                 {kind} (not shown), expected text; put the value in quotes"
            )
        );
    }
    let message = load("", &redis_yaml("password: {s3cret: 1}"), &[]).unwrap_err();
    assert_eq!(
        message,
        "DIR/develop/cacheserver.yaml: cache_server.redis.jobqueue.password: found a section, \
         expected a single value"
    );
}

#[test]
fn no_secret_is_in_debug_output() {
    let variables = [
        ("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD", "s3cret"),
        ("REDIS_JOBQUEUE_ADDR", "redis://example.com:7000/2"),
    ];
    let shown = format!("{:?}", with(&variables).unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.contains("redis://example.com:7000/2"), "{shown}");

    let variables = [("REDIS_JOBQUEUE_ADDR", "redis://:s3cret@example.com:7000")];
    let shown = format!("{:?}", with(&variables).unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.contains("redis://example.com:7000"), "{shown}");
}

#[test]
fn a_bad_value_in_a_file_is_named() {
    assert_eq!(
        load("jobqueue: {lease: abc}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.lease: found \"abc\", expected a duration such as \"15s\" \
         (from 100ms to 1day)"
    );
    assert_eq!(
        load("jobqueue: {lease: 15}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.lease: found 15, expected a duration such as \"15s\" \
         (from 100ms to 1day)"
    );
    assert_eq!(
        load("jobqueue: {queue: 7}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.queue: found 7, expected 1 to 64 characters out of a-z, 0-9, \
         _ and -, in quotes"
    );
    assert_eq!(
        load("jobqueue: {concurrency: 10.0}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.concurrency: found 10.0, expected a whole number from 1 to \
         10000"
    );
    assert_eq!(
        load("jobqueue: {concurrency: [1]}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.concurrency: found a list, expected a whole number from 1 to \
         10000"
    );
    assert_eq!(
        load("", &redis_yaml("tls: maybe"), &[]).unwrap_err(),
        "DIR/develop/cacheserver.yaml: cache_server.redis.jobqueue.tls: found \"maybe\", \
         expected true or false"
    );
}

#[test]
fn a_bad_value_in_a_variable_is_named() {
    assert_eq!(
        load("server: {port: 1}", "", &[("APP__SERVER__PORT", "http")]).unwrap_err(),
        "APP__SERVER__PORT: server.port: found \"http\", expected a whole number from 0 to 65535"
    );
    assert_eq!(
        with(&[("REDIS_JOBQUEUE_ADDR", "localhost")]).unwrap_err(),
        "REDIS_JOBQUEUE_ADDR: cache_server.redis.jobqueue.addr: found \"localhost\", expected \
         host:port ([address]:port for IPv6), redis://[user:password@]host[:port][/db], \
         rediss://... for TLS, or unix:///path/to/socket[?db=0&user=name&pass=password], without \
         further parts"
    );
}

#[test]
fn a_bad_address_does_not_show_a_password() {
    for addr in [
        "redis://:s3cret@localhost:port",
        "redis://:s3cret@localhost/x",
        "http://:s3cret@localhost",
        "me:s3cret@localhost:6379",
        "redis://:s3cret",
        "unix:///run/redis.sock?password=s3cret",
    ] {
        let message = with(&[("REDIS_JOBQUEUE_ADDR", addr)]).unwrap_err();
        assert!(!message.contains("s3cret"), "{message}");
        assert!(message.starts_with("REDIS_JOBQUEUE_ADDR: "), "{message}");
    }
}

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
        assert!(
            message.starts_with(&format!("{variable}: "))
                && message.contains(&format!("found \"{value}\", expected ")),
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
    assert_range("JOBQUEUE__HOST", "::1", "example.com", &["a b", "[::1]"]);
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
    assert_range("TLS", "true", "false", &["1", "yes", "True"]);
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
    let jobqueue = with(&[("APP__JOBQUEUE__LEASE", "60s")]).unwrap().jobqueue;
    assert_eq!(jobqueue.heartbeat, secs(20));
    assert_eq!(jobqueue.reclaim_interval, secs(1));
    let jobqueue = with(&[("APP__JOBQUEUE__LEASE", "300ms")]).unwrap().jobqueue;
    assert_eq!(jobqueue.heartbeat, ms(100));
    assert_eq!(jobqueue.reclaim_interval, ms(50));
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
        interval("2500ms").unwrap().jobqueue.reclaim_interval,
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
fn an_unknown_key_is_named_with_its_neighbours() {
    assert_eq!(
        load("jobqueue: {retry: {maximum: s3cret}}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.retry.maximum: found an unknown key, expected one of factor, \
         initial, jitter, max; correct the name or remove it"
    );
    assert_eq!(
        with(&[("APP__SEVRER__PORT", "80")]).unwrap_err(),
        "APP__SEVRER__PORT: sevrer.port: found an unknown key, expected one of cache_server, \
         cors, jobqueue, logging, server; correct the name or remove it"
    );
    assert_eq!(
        load("", "surprise:", &[]).unwrap_err(),
        "DIR/develop/cacheserver.yaml: surprise: found an unknown key, expected one of \
         cache_server, cors, jobqueue, logging, server; correct the name or remove it"
    );
}

#[test]
fn values_and_sections_are_not_confused() {
    assert_eq!(
        load("jobqueue: s3cret", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue: found text, expected a section with keys of its own"
    );
    assert_eq!(
        load("jobqueue: {lease: {seconds: 15}}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.lease: found a section, expected a single value"
    );
}

#[test]
fn empty_files_sections_and_keys_leave_the_defaults() {
    for main in [
        "",
        "# nothing",
        "jobqueue:",
        "jobqueue:\n  lease:",
        "server: {}",
    ] {
        let outcome = load(main, "", &[]);
        assert!(outcome.is_ok(), "{main:?}: {outcome:?}");
    }
}

#[test]
fn a_key_without_a_value_does_not_undo_an_earlier_source() {
    let config = load("jobqueue: {lease: 10s}", "jobqueue: {lease: }", &[]).unwrap();
    assert_eq!(config.jobqueue.lease, secs(10));
}

#[test]
fn keys_of_the_older_client_are_accepted() {
    let keys = "{max_retries: -1, pool_size: 20, pool_timeout: 4s}";
    load("", &redis_yaml(keys), &[]).unwrap();
}

#[test]
fn broken_yaml_is_named_with_its_line() {
    let message = load("server:\n  port: 1\n lease: [\n", "", &[]).unwrap_err();
    assert!(
        message.starts_with("DIR/develop.yaml: not valid YAML: "),
        "{message}"
    );
    assert!(message.contains(" line 3 "), "{message}");

    let message = load("", "a: 1\na: 2\n", &[]).unwrap_err();
    assert!(
        message.starts_with("DIR/develop/cacheserver.yaml: "),
        "{message}"
    );
    assert!(message.contains("duplicated key"), "{message}");

    let message = load("", &redis_yaml("password: {{s3cret}}"), &[]).unwrap_err();
    assert!(!message.contains("s3cret"), "{message}");

    let message = load("s3cret", "", &[]).unwrap_err();
    assert!(!message.contains("s3cret"), "{message}");
    assert!(
        message.contains("not valid YAML: the top level is no section"),
        "{message}"
    );
}

#[test]
fn each_of_both_files_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Config::from_sources("staging", dir.path(), &map(&[]));

    let main = dir.path().join("staging.yaml");
    let error = load().unwrap_err();
    assert!(matches!(&error, ConfigError::Missing { path, .. } if *path == main));
    assert_eq!(
        error.to_string(),
        format!(
            "{}: file not found, expected the settings of APP_ENV=staging; create it, or let \
             CONFIG_DIR name the directory that holds the files (now {})",
            main.display(),
            dir.path().display()
        )
    );

    fs::write(&main, "").unwrap();
    let cacheserver = dir.path().join("staging/cacheserver.yaml");
    let error = load().unwrap_err();
    assert!(matches!(error, ConfigError::Missing { path, .. } if path == cacheserver));
}

#[test]
fn a_file_that_is_no_text_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("develop.yaml"), [0xff, 0xfe]).unwrap();
    let error = Config::from_sources("develop", dir.path(), &map(&[])).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
}

#[test]
fn an_unknown_environment_is_named() {
    let error = Config::from_sources("prod", Path::new("config"), &map(&[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "APP_ENV: found \"prod\", expected develop, staging or production"
    );
}
