//! Keys and sections: whose they are, and which are ours with a mistake in their name.

use super::{load, redis_yaml, secs, with};

#[test]
fn variables_of_others_are_ignored() {
    with(&[("APPLE", "1"), ("APP_PORT", "1"), ("PATH", "/bin")]).unwrap();
}

#[test]
fn an_unknown_key_is_named_with_its_neighbours() {
    assert_eq!(
        load("jobqueue: {retry: {maximum: s3cret}}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.retry.maximum: found an unknown key, expected one of factor, \
         initial, jitter, max; correct the name or remove it (did you mean jobqueue.retry.max?)"
    );
    assert_eq!(
        load("logging: {colour: s3cret}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: logging.colour: found an unknown key, expected one of format, level, \
         mail_log_enabled, output, output_dir, sql_log_enabled; correct the name or remove it"
    );
    assert_eq!(
        with(&[("APP__SEVRER__PORT", "80")]).unwrap_err(),
        "APP__SEVRER__PORT: sevrer.port: found an unknown key, expected one of cache_server, \
         cors, jobqueue, logging, server; correct the name or remove it (did you mean \
         APP__SERVER__PORT?)"
    );
}

#[test]
fn the_key_that_was_meant_is_suggested() {
    for (main, meant) in [
        ("jobqueue: {leas: 1s}", "jobqueue.lease"),
        ("jobqueue: {maxDeliveries: 1}", "jobqueue.max_deliveries"),
        ("server: {Port: 1}", "server.port"),
        ("server: {shutdown-timeout: 1s}", "server.shutdown_timeout"),
        ("logging: {levl: info}", "logging.level"),
        ("cors: {allow_origins: []}", "cors.allowed_origins"),
        (
            "jobqueue: {password: x}",
            "cache_server.redis.jobqueue.password",
        ),
        (
            "cache_server: {redis: {jobqueue: {adress: 'a:1'}}}",
            "cache_server.redis.jobqueue.addr",
        ),
        (
            "cache_server: {redis: {jobqueue: {passwrod: x}}}",
            "cache_server.redis.jobqueue.password",
        ),
    ] {
        let message = load(main, "", &[]).unwrap_err();
        let ending = format!("(did you mean {meant}?)");
        assert!(message.ends_with(&ending), "{main}: {message}");
    }
    let message = with(&[("APP__JOBQUEUE__LEAS", "1s")]).unwrap_err();
    assert!(
        message.ends_with("(did you mean APP__JOBQUEUE__LEASE?)"),
        "{message}"
    );
}

#[test]
fn sections_of_other_programs_are_left_alone_and_named() {
    let main = "DB_TYPE: x\nadmin: {port: 1}\nserver: {port: 2}\ncache_server: {size: 1}";
    let redis = "cache_server: {redis: {default: {cluster: {addrs: []}}, jobqueue: {}}}";
    let config = load(main, redis, &[("APP__DATABASE__DSN", "s3cret")]).unwrap();
    assert_eq!(config.server.port, 2);
    assert_eq!(
        config.sources.others,
        [
            "APP__DATABASE__DSN",
            "DB_TYPE",
            "admin",
            "cache_server.redis.default",
            "cache_server.size",
        ]
    );
}

#[test]
fn a_key_of_another_program_is_no_path_into_our_sections() {
    let config = load("jobqueue: {lease: 10s}", "'jobqueue[0]': x", &[]).unwrap();
    assert_eq!(config.jobqueue.worker.lease, secs(10));
}

#[test]
fn a_section_that_is_nearly_ours_is_refused_when_its_keys_are_ours() {
    for (main, meant) in [
        ("sevrer: {port: 1}", "server.port"),
        ("servers: {port: 1, host: a}", "server.host"),
        ("Server: {port: 1}", "server.port"),
        ("job_queue: {retry: {max: 1m}}", "jobqueue.retry.max"),
        ("cor: {allowed_origins: []}", "cors.allowed_origins"),
        ("loging: {level: info}", "logging.level"),
        (
            "cacheserver: {redis: {jobqueue: {addr: 'a:1'}}}",
            "cache_server.redis.jobqueue.addr",
        ),
        (
            "cache_server: {rediss: {jobqueue: {addr: 'a:1'}}}",
            "cache_server.redis.jobqueue.addr",
        ),
        (
            "cache_server: {redis: {jobqueu: {addr: 'a:1'}}}",
            "cache_server.redis.jobqueue.addr",
        ),
    ] {
        let message = load(main, "", &[]).unwrap_err();
        let ending = format!("(did you mean {meant}?)");
        assert!(message.ends_with(&ending), "{main}: {message}");
    }
    for (main, name) in [
        ("servers: {region: a, port: 1}", "servers"),
        ("servers: [a, b]", "servers"),
        ("core: {threads: 1}", "core"),
        ("server2: {port: 1}", "server2"),
        ("log: {level: info}", "log"),
        (
            "cache_server: {redis: {jobqueue2: {addr: 'a:1'}}}",
            "cache_server.redis.jobqueue2",
        ),
        (
            "sevrer:",
            "(a name that is not shown since it may hold a secret)",
        ),
    ] {
        let config = load(main, "", &[]).unwrap();
        assert_eq!(config.sources.others, [name], "{main}");
    }
}

#[test]
fn a_variable_that_is_nearly_ours_is_refused() {
    assert_eq!(
        with(&[("APP_JOBQUEUE__LEASE", "s3cret")]).unwrap_err(),
        "APP_JOBQUEUE__LEASE: found a name that is nearly APP__JOBQUEUE__LEASE, expected \
         APP__JOBQUEUE__LEASE; rename the variable or unset it"
    );
    let message = with(&[("APP__JOBQUEUE__lease", "2s")]).unwrap_err();
    assert!(
        message.contains("expected APP__JOBQUEUE__LEASE"),
        "{message}"
    );
}

#[test]
fn a_misspelt_variable_is_named_before_files_that_it_was_to_replace() {
    let variables = super::map(&[("CONFIG_DRI", "/elsewhere")]);
    let error = super::Config::search(&variables, &[]).unwrap_err();
    assert!(error.to_string().contains("expected CONFIG_DIR"), "{error}");
}

#[test]
fn values_and_sections_are_not_confused() {
    assert_eq!(
        load("", "cache_server: {redis: s3cret}", &[]).unwrap_err(),
        "DIR/develop/cacheserver.yaml: cache_server.redis: found text, expected a section with \
         keys of its own"
    );
    assert!(load("", &redis_yaml(""), &[]).is_ok());
    assert!(load("cache_server:", "cache_server: {redis: }", &[]).is_ok());
    assert_eq!(
        load("jobqueue: s3cret", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue: found text, expected a section with keys of its own"
    );
    assert_eq!(
        load("jobqueue: {lease: {seconds: 15}}", "", &[]).unwrap_err(),
        "DIR/develop.yaml: jobqueue.lease: found a section, expected a single value"
    );
}
