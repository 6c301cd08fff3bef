//! No message shows a possible secret, whatever mistake the settings have. A canary stands for the
//! secret, and the tests search everything that the programs print for it.

use std::error::Error as _;
use std::fs;
use std::path::Path;

use dm_jobqueue::program::inside::Config;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis, eventually};

/// The text in the values and files below that is replaced by the canary.
const HERE: &str = "CANARY";

/// Passwords of different kinds. The programs are started with the first one.
const CANARIES: [&str; 4] = [
    "s3cret",
    "hunterhunter",
    "Zm9v/YmFy+Q==",
    "9f86d081884c7d65",
];

/// Values that may contain a secret, for keys and variables of any kind.
const VALUES: [&str; 34] = [
    "CANARY",
    "user:CANARY",
    "user:CANARY@host",
    "user:CANARY@host:6379",
    ":CANARY@host:6379",
    "host:6379:CANARY",
    "host:CANARY",
    "host:6380,password=CANARY,ssl=True,abortConnect=False",
    "password=CANARY,host:6380",
    "host,password=CANARY",
    "host:6379;password=CANARY",
    "Server=host;Port=6379;Password=CANARY",
    "host=localhost port=6379 password=CANARY",
    "--requirepass CANARY",
    "redis-cli -h host -a CANARY",
    "redis://:CANARY",
    "redis://user:CANARY@",
    "redis://:CANARY@host:port",
    "redis://:CANARY@host:0",
    "redis://:CANARY@host:6379,host2:6379",
    "redis://:CANARY%ff@host",
    "redis://CANARY%zz@host",
    "redis://:CANARY@host/CANARY",
    "redis://:CANARY@0.0.0.0",
    "redis://host?password=CANARY",
    "redis://host#CANARY",
    "redis:CANARY@host",
    "http://user:CANARY@host:6379",
    "postgres://user:CANARY@host/db",
    "CANARY://host",
    "unix:///run/redis.sock?password=CANARY",
    "unix://user:CANARY@host/run/redis.sock",
    "{\"password\": \"CANARY\"}",
    "CANARY\nCANARY",
];

/// Keys of every type: text, address, number, duration, flag, choice, list, unknown keys, and
/// sections.
const KEYS: [&str; 22] = [
    "SERVER__HOST",
    "SERVER__PORT",
    "SERVER__REQUEST_TIMEOUT",
    "JOBQUEUE__QUEUE",
    "JOBQUEUE__LEASE",
    "JOBQUEUE__CONCURRENCY",
    "JOBQUEUE__RETRY__FACTOR",
    "CORS__ALLOWED_ORIGINS",
    "CORS__ALLOWED_METHODS",
    "LOGGING__LEVEL",
    "LOGGING__FORMAT",
    "CACHE_SERVER__REDIS__JOBQUEUE__ADDR",
    "CACHE_SERVER__REDIS__JOBQUEUE__USERNAME",
    "CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD",
    "CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD_FILE",
    "CACHE_SERVER__REDIS__JOBQUEUE__DB",
    "CACHE_SERVER__REDIS__JOBQUEUE__TLS",
    "CACHE_SERVER__REDIS__JOBQUEUE__PASSWROD",
    "CACHE_SERVER__REDIS__JOBQUEUE",
    "CACHE_SERVER__REDIS",
    "SEVRER__PORT",
    "DATABASE__DSN",
];

/// Files with mistakes that people make in the section for Redis.
const FILES: [&str; 34] = [
    "CANARY",
    "- CANARY",
    "password:CANARY",
    "{password:CANARY}",
    "{CANARY}",
    "{{CANARY}}",
    "password: {{ CANARY }}",
    "password: {CANARY}",
    "password: [CANARY]",
    "password: {CANARY: 1}",
    "password: @CANARY",
    "password: `CANARY`",
    "password: %CANARY",
    "password: *CANARY",
    "password: 'CANARY",
    "password: \"\\qCANARY\"",
    "password: \"CANARY\" CANARY",
    "password: !!int CANARY",
    "password: !!bool CANARY",
    "password: CANARY: CANARY",
    "password: CANARY\npassword: CANARY",
    "CANARY: 1\nCANARY: 2",
    "? [CANARY]\n: CANARY",
    "addr: a:1\npassword:CANARY\ndb: 0",
    "addr: a:1\n\tpassword: CANARY",
    "addr: a:1\n---\npassword: CANARY",
    "<<: CANARY",
    "passwrod: CANARY",
    "passwords: [CANARY]",
    "auth: {username: CANARY, password: CANARY}",
    "username: [CANARY]",
    "db: CANARY",
    "addr: [CANARY]",
    "addr: {host: CANARY}",
];

/// A directory with two empty files.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("develop")).unwrap();
    fs::write(dir.path().join("develop.yaml"), "").unwrap();
    fs::write(dir.path().join("develop/cacheserver.yaml"), "").unwrap();
    dir
}

/// Everything that loading prints about one more variable, in all of its forms.
fn said_of(dir: &Path, variables: &[(String, String)]) -> String {
    let variables = variables.iter().cloned().collect();
    match Config::from_sources("develop", dir, &variables) {
        Ok(config) => format!(
            "{:?} {} {:?}",
            config.redis,
            config.redis.display_addr(),
            config.sources
        ),
        Err(error) => format!("{error} {error:?} {:?}", error.source()),
    }
}

/// Everything that loading prints about this main file.
fn said_of_file(dir: &Path, main: &str) -> String {
    fs::write(dir.join("develop.yaml"), main).unwrap();
    said_of(dir, &[])
}

/// YAML with these sections inside each other, and the content inside the last one.
fn nested(sections: &[&str], content: &str) -> String {
    let mut yaml = String::new();
    for (depth, section) in sections.iter().enumerate() {
        yaml.push_str(&format!("{}{section}:\n", "  ".repeat(depth)));
    }
    for line in content.lines() {
        yaml.push_str(&format!("{}{line}\n", "  ".repeat(sections.len())));
    }
    yaml
}

#[test]
fn no_mistake_in_a_variable_shows_a_secret() {
    let dir = directory();
    let mut tried = 0;
    for canary in CANARIES {
        for value in VALUES {
            let value = value.replace(HERE, canary);
            let overrides = KEYS.map(|key| format!("APP__{key}"));
            let others = [
                "REDIS_JOBQUEUE_ADDR",
                "REDIS_JOBQUEUE_ADRR",
                "APP_JOBQUEUE__LEASE",
            ];
            let names = overrides.into_iter().chain(others.map(str::to_owned));
            for name in names {
                // A password alone is a valid name for a queue and for a host.
                let is_valid = value == canary
                    && ["APP__JOBQUEUE__QUEUE", "APP__SERVER__HOST"].contains(&name.as_str());
                if is_valid || name == "APP__CORS__ALLOWED_METHODS" && value == canary {
                    continue;
                }
                let said = said_of(dir.path(), &[(name.clone(), value.clone())]);
                assert!(!said.contains(canary), "{name}={value}: {said}");
                tried += 1;
            }
        }
    }
    assert!(tried > 3_000, "{tried}");
}

#[test]
fn no_mistake_in_a_file_shows_a_secret() {
    let redis = ["cache_server", "redis", "jobqueue"];
    let dir = directory();
    for canary in CANARIES {
        for file in FILES {
            let file = file.replace(HERE, canary);
            for sections in [&redis[..], &redis[..2], &["jobqueue"], &["cors"], &[]] {
                // The name of another program's section is not a secret.
                if sections.len() < 3 && file.starts_with(&format!("{canary}: 1")) {
                    continue;
                }
                let yaml = nested(sections, &file);
                let said = said_of_file(dir.path(), &yaml);
                assert!(!said.contains(canary), "{yaml}{said}");
            }
        }
    }
}

#[test]
fn no_value_in_the_wrong_place_of_a_file_shows_a_secret() {
    let dir = directory();
    for canary in CANARIES {
        for value in VALUES.iter().filter(|value| **value != HERE) {
            let value = value.replace(HERE, canary);
            let value = format!("{value:?}").replace("\\'", "'");
            for key in KEYS.iter().take(17) {
                let (sections, key) = key.rsplit_once("__").unwrap();
                let sections = sections.to_lowercase();
                let sections: Vec<_> = sections.split("__").collect();
                let yaml = nested(&sections, &format!("{}: {value}", key.to_lowercase()));
                let said = said_of_file(dir.path(), &yaml);
                assert!(!said.contains(canary), "{yaml}{said}");
            }
        }
    }
}

/// Everything that a process has printed. When it runs, this also has its answers over HTTP.
async fn everything(process: Process) -> String {
    let mut said = String::new();
    let listens = eventually("it listens or ends", PATIENCE, async || {
        let listens = process.count_log("listening") > 0;
        (listens || process.exited().is_some()).then_some(listens)
    });
    if listens.await {
        for path in ["/ready", "/health", "/api/dm-jobqueue/register"] {
            said.push_str(&process.get(path).await.1);
        }
        process.term();
    }
    process.wait_exit(PATIENCE).await;
    for line in process.stdout().into_iter().chain(process.stderr()) {
        said.push_str(&line.text);
        said.push('\n');
    }
    assert!(!said.is_empty());
    said
}

#[tokio::test]
async fn no_program_shows_a_secret_that_is_in_the_wrong_place() {
    let canary = CANARIES[0];
    let redis = Redis::reserve();
    let key = "APP__CACHE_SERVER__REDIS__JOBQUEUE__";
    let cases: [(String, &str); 26] = [
        (
            "REDIS_JOBQUEUE_ADDR".to_owned(),
            "host:6380,password=s3cret,ssl=True",
        ),
        ("REDIS_JOBQUEUE_ADDR".to_owned(), "s3cret"),
        (
            "REDIS_JOBQUEUE_ADDR".to_owned(),
            "redis://user:s3cret@host:port",
        ),
        ("REDIS_JOBQUEUE_ADDR".to_owned(), "redis://:s3cret%ff@host"),
        (
            "REDIS_JOBQUEUE_ADDR".to_owned(),
            "redis://:s3cret@127.0.0.1:1/2",
        ),
        (format!("{key}ADDR"), "user:s3cret@host:6379"),
        (format!("{key}USERNAME"), "s3cret"),
        (format!("{key}PASSWORD_FILE"), "s3cret"),
        (format!("{key}PASSWROD"), "s3cret"),
        (format!("{key}DB"), "s3cret"),
        ("APP__JOBQUEUE__LEASE".to_owned(), "s3cret"),
        ("APP__SERVER__HOST".to_owned(), "redis://:s3cret@host"),
        ("APP_JOBQUEUE__LEASE".to_owned(), "s3cret"),
        ("APP__DATABASE__DSN".to_owned(), "postgres://a:s3cret@b/c"),
        ("APP_ENV".to_owned(), "s3cret"),
        ("CONFIG_DIR".to_owned(), "s3cret"),
        ("CONFIG_DIR".to_owned(), "redis://:s3cret@host"),
        ("RUST_LOG".to_owned(), "s3cret"),
        ("RUST_LOG".to_owned(), "redis://:s3cret@host"),
        ("RUST_LOG".to_owned(), "info,s3cret"),
        ("RUST_LOG".to_owned(), "[s3cret"),
        ("LOG_FORMAT".to_owned(), "s3cret"),
        ("LOG_FORMAT".to_owned(), "redis://:s3cret@host"),
        ("TZ".to_owned(), "s3cret"),
        ("TZ".to_owned(), "redis://:s3cret@host"),
        ("TOKIO_WORKER_THREADS".to_owned(), "s3cret"),
    ];
    for (variable, value) in &cases {
        let said_by = async |start: fn(&Redis) -> ProcessBuilder| {
            let process = start(&redis)
                .env("RUST_LOG", "trace")
                .env(variable, value)
                .start();
            everything(process).await
        };
        let said = tokio::join!(said_by(Process::server), said_by(Process::jobqueue));
        for said in [said.0, said.1] {
            assert!(!said.contains(canary), "{variable}={value}: {said}");
        }
    }
}

#[tokio::test]
async fn no_program_shows_a_url_of_short_words_in_a_variable_of_the_logging() {
    let redis = Redis::reserve();
    for variable in ["RUST_LOG", "LOG_FORMAT", "TZ"] {
        for start in [Process::server, Process::jobqueue] {
            let process = start(&redis).env(variable, "redis://:abcd@host").start();
            let said = everything(process).await;
            assert!(!said.contains("abcd"), "{variable}: {said}");
        }
    }
}

#[tokio::test]
async fn no_program_shows_a_secret_of_a_broken_file() {
    let canary = CANARIES[0];
    let redis = Redis::reserve();
    for file in [
        "password: {{s3cret}}",
        "{password:s3cret}",
        "password: s3cret\npassword: a",
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("develop")).unwrap();
        fs::write(dir.path().join("develop/config.yaml"), "").unwrap();
        let yaml = nested(&["cache_server", "redis", "jobqueue"], file);
        fs::write(dir.path().join("develop/cacheserver.yaml"), yaml).unwrap();
        for start in [Process::server, Process::jobqueue] {
            let dir = dir.path().to_str().unwrap();
            let said = everything(start(&redis).env("CONFIG_DIR", dir).start()).await;
            assert!(!said.contains(canary), "{file}: {said}");
            assert!(said.contains("cacheserver.yaml"), "{file}: {said}");
        }
    }
}
