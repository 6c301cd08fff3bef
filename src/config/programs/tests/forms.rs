//! The forms of a value that people and other programs write: empty, with blanks, as Go or as
//! another version of YAML has it.

use super::super::{LogFormat, LogLevel};
use super::{load, ms, redis_yaml, secs, with};

#[test]
fn empty_text_is_no_value() {
    let main = "server: {host: '', port: ''}\njobqueue: {queue: ' ', lease: '', host: ''}";
    let keys = "{addr: '', db: '', tls: '', password: '', password_file: ''}";
    let variables = [("REDIS_JOBQUEUE_ADDR", ""), ("APP__JOBQUEUE__QUEUE", " ")];
    let config = load(main, &redis_yaml(keys), &variables).unwrap();
    let defaults = with(&[]).unwrap();
    assert_eq!(config.redis.addr, "localhost:6379");
    assert_eq!(config.jobqueue.worker.queue, "default");
    assert_eq!(
        format!("{:?}", config.redis),
        format!("{:?}", defaults.redis)
    );
    assert_eq!(
        format!("{:?}", config.server),
        format!("{:?}", defaults.server)
    );
    assert_eq!(
        format!("{:?}", config.jobqueue),
        format!("{:?}", defaults.jobqueue)
    );
    // An empty text does not undo an earlier source either.
    let config = load("", &redis_yaml("addr: a:1"), &variables).unwrap();
    assert_eq!(config.redis.addr, "a:1");
}

#[test]
fn blanks_around_a_value_do_not_count() {
    let config = with(&[
        ("REDIS_JOBQUEUE_ADDR", "a:1\n"),
        ("APP__JOBQUEUE__QUEUE", " mail "),
        ("APP__JOBQUEUE__LEASE", "2s\r\n"),
        ("APP__SERVER__PORT", " 1 "),
        ("APP__SERVER__HOST", "localhost\n"),
        ("APP__LOGGING__LEVEL", " warn"),
    ])
    .unwrap();
    assert_eq!(config.redis.addr, "a:1");
    assert_eq!(config.jobqueue.worker.queue, "mail");
    assert_eq!(config.jobqueue.worker.lease, secs(2));
    assert_eq!(config.server.port, 1);
    assert_eq!(config.server.host, "localhost");
    assert_eq!(config.logging.level, LogLevel::Warn);
}

#[test]
fn durations_as_go_writes_them() {
    let timeout = |text: &str| {
        let config = load(&format!("jobqueue: {{job_timeout: {text}}}"), "", &[])?;
        Ok::<_, String>(config.jobqueue.worker.job_timeout)
    };
    assert_eq!(timeout("1m30s"), Ok(secs(90)));
    assert_eq!(timeout("1h0m0s"), Ok(secs(3600)));
    assert_eq!(timeout("1.5s"), Ok(ms(1500)));
    assert_eq!(timeout("\"2h45m\""), Ok(secs(9900)));
    let backoff = "min_retry_backoff: 100ms, max_retry_backoff: 512000us";
    assert!(load("", &redis_yaml(&format!("{{{backoff}}}")), &[]).is_ok());
    for zero in ["0", "0s", "'0'"] {
        let config = load(&format!("server: {{drain_delay: {zero}}}"), "", &[]);
        assert_eq!(config.unwrap().server.drain_delay, secs(0));
    }
    for nanoseconds in ["15000000000", "\"15000000000\"", "15"] {
        let message = timeout(nanoseconds).unwrap_err();
        assert!(message.contains("write its unit"), "{message}");
        assert!(message.contains("nanoseconds"), "{message}");
    }
    assert!(timeout("-1").is_err() && timeout("1.5").is_err());
}

#[test]
fn flags_in_the_words_of_yaml_and_go() {
    for (text, tls) in [
        ("true", true),
        ("True", true),
        ("yes", true),
        ("on", true),
        ("\"true\"", true),
        ("1", true),
        ("FALSE", false),
        ("no", false),
        ("off", false),
        ("0", false),
    ] {
        let config = load("", &redis_yaml(&format!("tls: {text}")), &[]).unwrap();
        assert_eq!(config.redis.tls, tls, "{text}");
    }
}

#[test]
fn numbers_as_yaml_writes_them() {
    for (text, port) in [
        ("\"18080\"", 18080),
        ("18_080", 18080),
        ("0x10", 16),
        ("+80", 80),
    ] {
        let config = load(&format!("server: {{port: {text}}}"), "", &[]).unwrap();
        assert_eq!(config.server.port, port, "{text}");
    }
    for text in ["18080.0", "1e3", "[1]", "true", "_1"] {
        let message = load(&format!("server: {{port: {text}}}"), "", &[]).unwrap_err();
        assert!(message.contains("server.port: found "), "{message}");
    }
    let message = load("server: {port: !!int s3cret}", "", &[]).unwrap_err();
    assert_eq!(
        message,
        "DIR/develop.yaml: not valid YAML: a value does not fit the tag or anchor before it; \
         check indentation, colons and quotes there"
    );
}

#[test]
fn log_levels_and_formats_of_other_loggers() {
    let logging = |level: &str, format: &str| {
        let main = format!("logging: {{level: {level}, format: {format}}}");
        load(&main, "", &[]).map(|config| (config.logging.level, config.logging.format))
    };
    assert_eq!(
        logging("WARNING", "JSON"),
        Ok((LogLevel::Warn, LogFormat::Json))
    );
    assert_eq!(
        logging("warning", "console"),
        Ok((LogLevel::Warn, LogFormat::Text))
    );
    assert_eq!(
        logging("FATAL", "text"),
        Ok((LogLevel::Error, LogFormat::Text))
    );
    assert_eq!(
        logging("Debug", "Text"),
        Ok((LogLevel::Debug, LogFormat::Text))
    );
    assert_eq!(
        logging("loud", "text").unwrap_err(),
        "DIR/develop.yaml: logging.level: found \"loud\", expected one of trace, debug, info, \
         warn, error"
    );
}

#[test]
fn cors_is_a_list_or_text() {
    let cors = |yaml: &str| load(&format!("cors: {yaml}"), "", &[]).map(|config| config.cors);
    let both = ["http://localhost:3000", "https://a.example"];
    for yaml in [
        "{allowed_origins: [http://localhost:3000, https://a.example]}",
        "{allowed_origins: 'http://localhost:3000, https://a.example'}",
        "{allowed_origins: 'http://localhost:3000,https://a.example,'}",
    ] {
        assert_eq!(cors(yaml).unwrap().allowed_origins, both, "{yaml}");
    }
    assert_eq!(
        cors("{allowed_origins: '*'}").unwrap().allowed_origins,
        ["*"]
    );
    assert_eq!(
        cors("{allowed_methods: get}").unwrap().allowed_methods,
        ["GET"]
    );
    assert!(
        cors("{allowed_origins: ''}")
            .unwrap()
            .allowed_origins
            .is_empty()
    );
    for bad in [
        "http://localhost:3000/",
        "localhost:3000",
        "null",
        "[1]",
        "[[http://a.example]]",
        "{a: 1}",
        "http://user:pw@a.example",
        "http://*.a.example",
    ] {
        let result = cors(&format!("{{allowed_origins: {bad}}}"));
        assert_eq!(result.is_ok(), bad == "null", "{bad}: {result:?}");
    }
    let variable = (
        "APP__CORS__ALLOWED_ORIGINS",
        "http://localhost:3000,https://a.example",
    );
    assert_eq!(with(&[variable]).unwrap().cors.allowed_origins, both);
}

#[test]
fn a_host_may_be_in_brackets() {
    let host = |host| with(&[("APP__SERVER__HOST", host)]).map(|config| config.server.host);
    assert_eq!(host("[::]").as_deref(), Ok("::"));
    assert_eq!(host("[::1]").as_deref(), Ok("::1"));
    assert_eq!(host("::").as_deref(), Ok("::"));
    for bad in ["[::]:8080", "[localhost]", "[::", "redis://x"] {
        assert!(host(bad).is_err(), "{bad}");
    }
}
