//! How the two programs start in each environment, and how they refuse to start.

use std::time::Duration;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis};

type Start = fn(&Redis) -> ProcessBuilder;
const BOTH: [Start; 2] = [Process::server, Process::jobqueue];

#[tokio::test]
async fn both_programs_start_in_every_environment() {
    let redis = Redis::start().await;
    for env in ["develop", "staging", "production"] {
        for start in BOTH {
            let process = start(&redis).env("APP_ENV", env).start();
            process.wait_ready(PATIENCE).await;
            assert_eq!(
                process.get("/health").await,
                (200.try_into().unwrap(), "OK".to_owned())
            );
            process.term();
            assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(0), "{env}");
        }
    }
}

#[tokio::test]
async fn a_second_worker_on_the_same_port_takes_another_and_says_which() {
    let redis = Redis::start().await;
    let first = Process::jobqueue(&redis).start();
    let port = first.http_addr().await.port();
    let second = Process::jobqueue(&redis)
        .env("APP__JOBQUEUE__PORT", &port.to_string())
        .start();
    second.wait_ready(PATIENCE).await;
    assert_ne!(second.http_addr().await.port(), port);
    second
        .wait_for_log(&format!("wanted={port}"), PATIENCE)
        .await;
}

#[tokio::test]
async fn a_server_on_a_taken_port_says_what_to_do() {
    let redis = Redis::start().await;
    let first = Process::server(&redis).start();
    let addr = first.http_addr().await;
    let second = Process::server(&redis)
        .env("APP__SERVER__PORT", &addr.port().to_string())
        .start();
    assert_eq!(second.wait_exit(PATIENCE).await.code(), Some(78));
    second
        .wait_for_log(
            &format!("cannot listen on {addr}: address in use; free it or set server.port"),
            PATIENCE,
        )
        .await;
}

#[tokio::test]
async fn a_mistake_in_the_settings_stops_the_start_with_one_message() {
    let redis = Redis::reserve();
    for start in BOTH {
        for (variable, value, message) in [
            (
                "APP__JOBQUEUE__LEASE",
                "abc",
                "APP__JOBQUEUE__LEASE: jobqueue.lease: found \"abc\", expected a duration",
            ),
            (
                "APP__SEVRER__PORT",
                "1",
                "APP__SEVRER__PORT: sevrer.port: found an unknown key",
            ),
            ("APP__JOBQUEUE__LEASE", "0s", "jobqueue.lease"),
            ("APP__JOBQUEUE__HEARTBEAT", "10s", "half of jobqueue.lease"),
            ("APP__JOBQUEUE__QUEUE", "No Queue", "jobqueue.queue"),
            ("REDIS_JOBQUEUE_ADDR", "nowhere", "REDIS_JOBQUEUE_ADDR"),
            (
                "APP_ENV",
                "prod",
                "APP_ENV: found \"prod\", expected develop, staging or production",
            ),
            (
                "CONFIG_DIR",
                "/nonexistent",
                "CONFIG_DIR: found /nonexistent, where nothing is",
            ),
            ("RUST_LOG", "a=b=c", "RUST_LOG"),
            (
                "RUST_LOG",
                "verbose",
                "RUST_LOG: found \"verbose\", expected a level (off, error, warn, info, debug, trace)",
            ),
            ("RUST_LOG", "info,dm_jobqueue=loud", "RUST_LOG"),
            (
                "RUST_LOG",
                "dm-jobqueue=debug",
                "expected dm_jobqueue=debug",
            ),
            ("LOG_FORMAT", "xml", "LOG_FORMAT"),
            ("APP__LOGGING__LEVEL", "verbose", "logging.level"),
            ("APP__LOGGING__FORMAT", "xml", "logging.format"),
        ] {
            let process = start(&redis).env(variable, value).start();
            let status = process.wait_exit(PATIENCE).await;
            assert_eq!(status.code(), Some(78), "{variable}={value}");
            let lines = process.stderr();
            assert_eq!(lines.len(), 1, "{lines:#?}");
            let text = &lines[0].text;
            assert!(
                text.starts_with("error: ") && text.contains(message),
                "{text}"
            );
            assert!(process.stdout().is_empty());
        }
    }
}

#[tokio::test]
async fn no_secret_is_logged() {
    let redis = Redis::builder().password("s3cret-word").start().await;
    let addr = format!("redis://:s3cret-word@{}/0", redis.addr());
    let in_url = Process::jobqueue(&redis)
        .env_remove("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD")
        .redis_addr(&addr)
        .env("RUST_LOG", "trace")
        .start();
    let in_key = Process::server(&redis).env("RUST_LOG", "trace").start();
    for process in [&in_url, &in_key] {
        process.wait_ready(PATIENCE).await;
        process.term();
        process.wait_exit(PATIENCE).await;
        let leak = process
            .stderr()
            .into_iter()
            .find(|line| line.text.contains("s3cret-word"));
        assert!(leak.is_none(), "{leak:?}");
    }
}

#[tokio::test]
async fn a_unix_socket_will_do() {
    let redis = Redis::builder()
        .directive("unixsocket", "redis.sock")
        .start()
        .await;
    let socket = format!("unix://{}", redis.dir().join("redis.sock").display());
    let worker = Process::jobqueue(&redis).redis_addr(&socket).start();
    worker.wait_ready(PATIENCE).await;
    redis
        .add_job(r#"{"type":"demo:delay_print","payload":{"message":"local"}}"#)
        .await;
    worker
        .wait_for_line(|line| line.ends_with("] local"), PATIENCE)
        .await;
}

#[tokio::test]
async fn another_database_and_queue_are_kept_apart() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis)
        .env("APP__CACHE_SERVER__REDIS__JOBQUEUE__DB", "3")
        .env("APP__JOBQUEUE__QUEUE", "mail")
        .start();
    worker.wait_ready(PATIENCE).await;
    redis
        .add_job(r#"{"type":"demo:delay_print","payload":{"message":"elsewhere"}}"#)
        .await;
    let script = "redis.call('SELECT', 3)
        return redis.call('XADD', 'jobqueue:{mail}', '*', 'job', ARGV[1])";
    let job = r#"{"type":"demo:delay_print","payload":{"message":"mine"}}"#;
    redis.cmd(&["EVAL", script, "0", job]).await;
    worker
        .wait_for_line(|line| line.ends_with("] mine"), PATIENCE)
        .await;
    assert_eq!((worker.stdout().len(), redis.xlen().await), (1, 1));
}

#[tokio::test]
async fn the_log_can_be_json_and_stdout_carries_jobs_only() {
    let redis = Redis::start().await;
    let worker = Process::jobqueue(&redis).env("LOG_FORMAT", "json").start();
    worker.wait_ready(PATIENCE).await;
    redis
        .add_job(r#"{"type":"demo:delay_print","payload":{"message":"only"}}"#)
        .await;
    redis.drained(Duration::from_secs(5)).await;
    worker.term();
    worker.wait_exit(PATIENCE).await;
    assert_eq!(worker.stdout().len(), 1);
    for line in worker.stderr() {
        serde_json::from_str::<serde_json::Value>(&line.text).unwrap();
    }
}

#[tokio::test]
async fn a_mistake_in_a_file_stops_its_environment_and_names_file_and_key() {
    let redis = Redis::start().await;
    let dir = tempfile::tempdir().unwrap();
    for env in ["develop", "staging"] {
        std::fs::create_dir(dir.path().join(env)).unwrap();
        std::fs::write(dir.path().join(env).join("cacheserver.yaml"), "").unwrap();
    }
    std::fs::write(dir.path().join("develop.yaml"), "").unwrap();
    let broken = dir.path().join("staging.yaml");
    std::fs::write(&broken, "jobqueue: {concurrency: many}\n").unwrap();
    for start in BOTH {
        let start = |env| {
            start(&redis)
                .env("CONFIG_DIR", dir.path().to_str().unwrap())
                .env("APP_ENV", env)
                .start()
        };
        let refused = start("staging");
        assert_eq!(refused.wait_exit(PATIENCE).await.code(), Some(78));
        let lines = refused.stderr();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        let message = format!(
            "error: {}: jobqueue.concurrency: found \"many\", expected a whole number from 1 to 10000",
            broken.display()
        );
        assert_eq!(lines[0].text, message);
        start("develop").wait_ready(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_secret_is_not_shown_by_who_is_refused() {
    let redis = Redis::builder().password("another").start().await;
    let wrong = format!("redis://:s3cret-word@{}/0", redis.addr());
    let malformed = format!("redis://:s3cret-word@{}/x", redis.addr());
    for start in BOTH {
        let start = |addr: &str| {
            start(&redis)
                .env_remove("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD")
                .redis_addr(addr)
                .env("RUST_LOG", "trace")
                .start()
        };
        let by_redis = start(&wrong);
        by_redis.wait_for_log("WRONGPASS", PATIENCE).await;
        let reason = by_redis.wait_not_ready(PATIENCE).await;
        assert!(!reason.contains("s3cret-word"), "{reason}");
        by_redis.term();
        by_redis.wait_exit(PATIENCE).await;
        let by_itself = start(&malformed);
        assert_eq!(by_itself.wait_exit(PATIENCE).await.code(), Some(78));
        for process in [by_redis, by_itself] {
            assert!(!process.stderr().is_empty());
            assert_eq!(process.count_log("s3cret-word"), 0);
        }
    }
}

#[tokio::test]
async fn workers_that_start_at_once_with_one_port_get_one_each() {
    let redis = Redis::start().await;
    let first = Process::jobqueue(&redis).start();
    let port = first.http_addr().await.port();
    let others = [(); 3].map(|()| {
        Process::jobqueue(&redis)
            .env("APP__JOBQUEUE__PORT", &port.to_string())
            .start()
    });
    let mut ports = std::collections::BTreeSet::from([port]);
    let mut consumers = std::collections::BTreeSet::new();
    for worker in [&first].into_iter().chain(&others) {
        worker.wait_ready(PATIENCE).await;
        ports.insert(worker.http_addr().await.port());
        let line = worker.wait_for_log("worker started", PATIENCE).await.text;
        let (_, name) = line.split_once("consumer=").unwrap();
        consumers.insert(name.split(' ').next().unwrap().to_owned());
    }
    assert_eq!((ports.len(), consumers.len()), (4, 4), "{consumers:?}");
}
