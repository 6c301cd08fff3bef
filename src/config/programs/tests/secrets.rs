//! Secrets stay what they are and where they are.

use super::{load, redis_yaml, with};
use crate::config::Secret;

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
