//! Where the settings come from: files of two programs in one directory, variables whose names are
//! nearly right, and no files at all. The programs say at their start what they found.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::support::{PATIENCE, Process, ProcessBuilder, Redis};

type Start = fn(&Redis) -> ProcessBuilder;
const BOTH: [(&str, Start); 2] = [("server", Process::server), ("jobqueue", Process::jobqueue)];

/// A directory with the two files of the environment develop.
fn files(main: impl AsRef<[u8]>, cacheserver: impl AsRef<[u8]>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("develop")).unwrap();
    fs::write(dir.path().join("develop.yaml"), main).unwrap();
    fs::write(dir.path().join("develop/cacheserver.yaml"), cacheserver).unwrap();
    dir
}

fn in_dir(start: Start, redis: &Redis, dir: &Path) -> ProcessBuilder {
    start(redis).env("CONFIG_DIR", dir.to_str().unwrap())
}

/// The only line of a program that does not start.
async fn refusal(builder: ProcessBuilder) -> String {
    let process = builder.start();
    assert_eq!(process.wait_exit(PATIENCE).await.code(), Some(78));
    let lines = process.stderr();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines[0].text.clone()
}

#[tokio::test]
async fn the_files_of_the_go_system_work_as_they_are() {
    let redis = Redis::start().await;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/go-system-config");
    for (_, start) in BOTH {
        let process = in_dir(start, &redis, &dir).start();
        process.wait_ready(PATIENCE).await;
        let line = process.wait_for_log("other programs", PATIENCE).await.text;
        let names = "DB_TYPE, admin, api, cache_server.redis.default, email, upload";
        assert!(line.contains("INFO") && line.contains(names), "{line}");
        assert_eq!(process.count_log("other programs"), 1);
        assert_eq!(process.count_log("not-a-real-secret"), 0);
    }
}

#[tokio::test]
async fn the_start_line_says_what_a_program_starts_with() {
    let redis = Redis::start().await;
    let dir = files("jobqueue: {queue: mail}", "");
    for (name, start) in BOTH {
        let addr = format!("redis://:s3cret@{}/1", redis.addr());
        let process = in_dir(start, &redis, dir.path()).redis_addr(&addr).start();
        process.http_addr().await;
        let lines = process.stderr();
        let (first, start) = (&lines[0].text, "starting");
        for part in [
            start,
            &format!("program=\"{name}\""),
            &format!("version=\"{}\"", dm_jobqueue::VERSION),
            "environment=\"develop\"",
            &format!("config_dir=\"{}\"", dir.path().display()),
            &format!("redis=\"redis://{}/1\"", redis.addr()),
            "queue=\"mail\"",
        ] {
            assert!(first.contains(part), "no {part} in {first}");
        }
        assert_eq!(process.count_log(" starting "), 1);
        assert_eq!(process.count_log("other programs"), 0);
    }
}

#[tokio::test]
async fn a_file_with_a_byte_order_mark_is_read() {
    let redis = Redis::reserve();
    let dir = files("\u{feff}jobqueue:\r\n  queue: mail\r\n", "\u{feff}");
    let utf16: Vec<_> = "\u{feff}a: 1"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let other = files(utf16, "");
    for (_, start) in BOTH {
        let process = in_dir(start, &redis, dir.path()).start();
        process.wait_for_log("queue=\"mail\"", PATIENCE).await;
        let message = refusal(in_dir(start, &redis, other.path())).await;
        assert!(
            message.contains("develop.yaml: found UTF-16 text, expected UTF-8"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_variable_that_is_nearly_ours_stops_the_start() {
    let redis = Redis::reserve();
    for (name, right) in [
        ("APP_JOBQUEUE__LEASE", "APP__JOBQUEUE__LEASE"),
        ("app__jobqueue__lease", "APP__JOBQUEUE__LEASE"),
        ("APP__JOBQUEUE_LEASE", "APP__JOBQUEUE__LEASE"),
        ("APP__JOBQUEUE.LEASE", "APP__JOBQUEUE__LEASE"),
        ("APP__JOBQUEUE__lease", "APP__JOBQUEUE__LEASE"),
        ("APP___JOBQUEUE__LEASE", "APP__JOBQUEUE__LEASE"),
        ("APP__JOBQUEUE__RETRY_MAX", "APP__JOBQUEUE__RETRY__MAX"),
        ("APP__REDIS_JOBQUEUE_ADDR", "REDIS_JOBQUEUE_ADDR"),
        ("REDIS_JOBQUEUE_ADRR", "REDIS_JOBQUEUE_ADDR"),
        ("REDIS__JOBQUEUE__ADDR", "REDIS_JOBQUEUE_ADDR"),
        ("APPENV", "APP_ENV"),
        ("CONFIGDIR", "CONFIG_DIR"),
        ("APP__SEVRER__PORT", "APP__SERVER__PORT"),
    ] {
        for (_, start) in BOTH {
            let message = refusal(start(&redis).env(name, "2s")).await;
            assert!(
                message.starts_with(&format!("error: {name}: ")) && message.contains(right),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn variables_of_other_programs_are_left_alone() {
    let redis = Redis::reserve();
    for (_, start) in BOTH {
        let process = start(&redis)
            .envs(&[
                ("APP__DATABASE__DSN", "postgres://a:s3cret@b/c"),
                ("APP__ADMIN__PORT", "1"),
                ("APP_PORT", "1"),
                ("APP_SERVER_PORT", "tcp://10.0.0.1:8080"),
                ("CONFIG_HOME", "/nonexistent"),
                ("REDIS_URL", "nonsense"),
            ])
            .start();
        let line = process.wait_for_log("other programs", PATIENCE).await.text;
        assert!(
            line.contains("\"APP__ADMIN__PORT, APP__DATABASE__DSN\""),
            "{line}"
        );
        process.http_addr().await;
        assert_eq!(process.count_log("s3cret"), 0);
    }
}

#[tokio::test]
async fn without_files_the_defaults_hold() {
    if Path::new("/etc/dm-jobqueue").exists() {
        return; // This machine has settings of its own.
    }
    let redis = Redis::start().await;
    let cwd = tempfile::tempdir().unwrap();
    let unset = |start: Start| {
        let builder = start(&redis).env_remove("CONFIG_DIR").env_remove("APP_ENV");
        builder.current_dir(cwd.path())
    };
    for (_, start) in BOTH {
        let process = unset(start).start();
        process.wait_ready(PATIENCE).await;
        let line = process.wait_for_log("starting", PATIENCE).await.text;
        assert!(line.contains("config_dir=\"none, defaults\""), "{line}");
        assert!(line.contains("environment=\"develop\""), "{line}");
    }
    // A file in ./config is found, and then both files are needed.
    fs::create_dir_all(cwd.path().join("config/develop")).unwrap();
    fs::write(
        cwd.path().join("config/develop.yaml"),
        "jobqueue: {queue: mail}",
    )
    .unwrap();
    for (_, start) in BOTH {
        let message = refusal(unset(start)).await;
        assert!(
            message.contains("config/develop/cacheserver.yaml: file not found"),
            "{message}"
        );
    }
    fs::write(cwd.path().join("config/develop/cacheserver.yaml"), "").unwrap();
    for (_, start) in BOTH {
        let process = unset(start).start();
        let line = process.wait_for_log("starting", PATIENCE).await.text;
        assert!(line.contains("queue=\"mail\""), "{line}");
        let dir = cwd.path().canonicalize().unwrap().join("config");
        assert!(
            line.contains(&format!("config_dir=\"{}\"", dir.display())),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_named_directory_that_is_of_no_use_stops_the_start() {
    let redis = Redis::reserve();
    let dir = files("", "");
    let file = dir.path().join("develop.yaml");
    let dangling = files("", "");
    fs::remove_file(dangling.path().join("develop.yaml")).unwrap();
    symlink("/nonexistent", dangling.path().join("develop.yaml")).unwrap();
    let twice = files("", "");
    fs::write(twice.path().join("develop/config.yaml"), "").unwrap();
    let missing = files("", "");
    fs::remove_file(missing.path().join("develop/cacheserver.yaml")).unwrap();
    for (named, message) in [
        (
            Path::new("/nonexistent"),
            "CONFIG_DIR: found /nonexistent, where nothing is",
        ),
        (&file, "which is no directory"),
        (
            dangling.path(),
            "develop.yaml: found a symbolic link to /nonexistent, which is not there",
        ),
        (twice.path(), "found both files, expected one of them"),
        (missing.path(), "develop/cacheserver.yaml: file not found"),
    ] {
        for (_, start) in BOTH {
            let found = refusal(in_dir(start, &redis, named)).await;
            assert!(found.contains(message), "{found}");
        }
    }
}

#[tokio::test]
async fn a_directory_or_file_without_permission_is_named() {
    let redis = Redis::reserve();
    let dir = files("", "");
    for (mode_of_dir, mode_of_file, message) in [
        (
            0o000,
            0o644,
            "develop.yaml: cannot be read; check its permissions",
        ),
        (
            0o755,
            0o000,
            "develop.yaml: cannot be read; check its permissions",
        ),
    ] {
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        chmod(&dir.path().join("develop.yaml"), mode_of_file);
        chmod(dir.path(), mode_of_dir);
        for (_, start) in BOTH {
            let builder = in_dir(start, &redis, dir.path()).without_capabilities();
            let found = refusal(builder).await;
            assert!(
                found.contains(message) && found.contains("denied"),
                "{found}"
            );
        }
        chmod(dir.path(), 0o755);
    }
}
