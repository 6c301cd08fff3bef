//! Which values are accepted, from which source, and the words for one that is not.

use super::{load, ms, redis_yaml, secs, with};

#[test]
fn every_key_has_its_default() {
    let config = with(&[]).unwrap();

    assert_eq!(config.server.host, "::");
    assert_eq!(config.server.port, 8080);
    assert_eq!(config.server.request_timeout, secs(1));
    assert_eq!(config.server.shutdown_timeout, secs(30));

    assert_eq!(config.jobqueue.host, "::");
    assert_eq!(config.jobqueue.port, 8082);
    assert_eq!(config.jobqueue.worker.queue, "default");
    assert_eq!(config.jobqueue.worker.concurrency, 10);
    assert_eq!(config.jobqueue.worker.lease, secs(15));
    assert_eq!(config.jobqueue.worker.heartbeat(), secs(5));
    assert_eq!(config.jobqueue.worker.reclaim_interval(), secs(1));
    assert_eq!(config.jobqueue.worker.max_deliveries, 5);
    assert_eq!(config.jobqueue.worker.job_timeout, secs(30 * 60));
    assert_eq!(config.jobqueue.worker.shutdown_timeout, secs(30));
    assert_eq!(config.jobqueue.worker.retry.initial, secs(1));
    assert_eq!(config.jobqueue.worker.retry.factor, 2.0);
    assert_eq!(config.jobqueue.worker.retry.max, secs(600));
    assert_eq!(config.jobqueue.worker.retry.jitter, 0.2);
    assert_eq!(config.jobqueue.worker.dead_letter_max_len, 100_000);

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
    assert_eq!(config.redis.password_file, None);

    for http in [config.server.http, config.jobqueue.http] {
        assert_eq!(http.read_timeout, secs(5));
        assert_eq!(http.write_timeout, secs(30));
        assert_eq!(http.idle_timeout, secs(120));
    }
    assert_eq!(config.server.drain_delay, secs(0));
    assert_eq!(config.jobqueue.worker.unknown_type_grace, secs(3600));
    assert_eq!(config.cors, super::super::CorsConfig::default());
    assert_eq!(config.logging, super::super::LoggingConfig::default());
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
    assert_eq!(config.jobqueue.worker.lease, secs(10));
    assert_eq!(config.jobqueue.worker.retry.max, secs(120));
    assert_eq!(config.jobqueue.worker.retry.factor, 3.0);
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
fn a_bad_value_in_a_file_is_named() {
    assert_eq!(
        load("jobqueue: {lease: abc}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.lease: found \"abc\", expected a duration such as \"15s\" \
         (from 100ms to 1day)"
    );
    assert_eq!(
        load("jobqueue: {lease: 15}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.lease: found 15, expected a duration such as \"15s\" \
         (from 100ms to 1day); write its unit (Go takes a number alone for nanoseconds)"
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
         further parts; add the port, such as :6379"
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
    assert_eq!(config.jobqueue.worker.lease, secs(10));
}

#[test]
fn keys_of_the_older_client_are_accepted() {
    let keys = "{max_retries: -1, pool_size: 20, pool_timeout: 4s}";
    load("", &redis_yaml(keys), &[]).unwrap();
}
