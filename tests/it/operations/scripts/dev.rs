//! `scripts/dev` leaves no process and no file behind, however it ends and whatever ends it.

use std::fs::File;
use std::io::Read;
use std::process::Command;

use rustix::process::{Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::home::{Home, LIMIT, RUNS, Session, root, script};
use crate::support::{PATIENCE, ProcessBuilder, Redis, eventually, within};

#[tokio::test]
async fn ctrl_c_ends_all_although_it_ends_the_reader_as_well() {
    let home = Home::new();
    let mut session = home.start(r#""$DEV" | tee log"#);
    home.wait_for("log", RUNS).await;
    let names = session.names();
    for name in ["redis-server", "server", "jobqueue"] {
        assert!(names.iter().any(|each| each == name), "{names:?}");
    }
    session.signal_group(Signal::INT);
    home.assert_clean(&mut session).await;
}

#[tokio::test]
async fn all_ends_when_nobody_takes_the_output() {
    let home = Home::new();
    // The script writes its fifth line when everything has been started.
    let mut session = home.start(r#""$DEV" 2>&1 | head -n 5 > log; exit ${PIPESTATUS[0]}"#);
    let status = home.assert_clean(&mut session).await;
    assert_eq!(status.code(), Some(141), "{}", home.text("log"));
    assert_eq!(home.text("log").lines().count(), 5);

    for output in [">/dev/full", ">&-"] {
        let mut session = home.start(&format!(r#"exec "$DEV" {output} 2>log"#));
        let status = home.assert_clean(&mut session).await;
        assert!(!status.success());
        let log = home.text("log");
        assert!(log.contains("write error"), "{output}: {log}");
    }
}

#[tokio::test]
async fn a_closed_terminal_ends_all() {
    let home = Home::new();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let end = || {
        File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap()
    };
    // `setsid --ctty` makes this the terminal of the session.
    let mut command = Command::new("setsid");
    let plain = home.command("");
    command
        .args(["--ctty".as_ref(), script("dev").as_os_str()])
        .current_dir(plain.get_current_dir().unwrap())
        .stdin(end())
        .stdout(end())
        .stderr(end());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut session = Session::start(&mut command);
    drop(command);
    let mut terminal = File::from(terminal);
    let shown = tokio::task::spawn_blocking(move || {
        let (mut shown, mut bytes) = (String::new(), [0; 4096]);
        while !shown.contains(RUNS) {
            match terminal.read(&mut bytes) {
                Ok(n) if n > 0 => shown.push_str(&String::from_utf8_lossy(&bytes[..n])),
                _ => break,
            }
        }
        (shown, terminal)
    });
    let (shown, terminal) = tokio::time::timeout(LIMIT, shown).await.unwrap().unwrap();
    assert!(shown.contains(RUNS), "{shown}");
    assert!(session.names().len() >= 4);
    drop(terminal);
    let status = home.assert_clean(&mut session).await;
    assert_eq!(status.code(), Some(129));
}

#[tokio::test]
async fn a_log_file_has_every_line_and_the_hint_starts_another_worker_of_the_same_queue() {
    let home = Home::new();
    let redis = Redis::builder().password("can'ary").start().await;
    let copied = Command::new("cp")
        .arg("-r")
        .args([root().join("config"), home.path("my config")])
        .status()
        .unwrap();
    assert!(copied.success());
    home.cargo(r#"echo "   Compiling in $PWD to $CARGO_TARGET_DIR" >&2"#);
    let mut command = home.command(r#"exec "$DEV" >log 2>&1 <&-"#);
    command
        .env("CARGO_TARGET_DIR", "a target")
        .env("CONFIG_DIR", "my config")
        .env("REDIS_JOBQUEUE_ADDR", redis.addr())
        .env("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD", "can'ary")
        .env("APP__JOBQUEUE__QUEUE", "mail")
        .env("APP__JOBQUEUE__LEASE", "7 s")
        .env("RUST_LOG", "warn")
        .env("LOG_FORMAT", "json");
    let mut session = Session::start(&mut command);
    let log = home.wait_for("log", "Ctrl-C stops all of it").await;
    let target = home.path("a target");
    let compiling = format!(
        "   Compiling in {} to {}\n",
        root().display(),
        target.display()
    );
    assert!(log.contains(&compiling), "{log}");
    assert!(!log.contains("ary"), "{log}");
    assert!(log.contains("--askpass"), "{log}");
    let lines = log
        .lines()
        .filter(|line| line.starts_with('[') && line.contains("hello from"));
    assert_eq!(lines.count(), 1, "{log}");

    let hint = log
        .lines()
        .find_map(|line| line.trim().strip_prefix("another worker"));
    let hint = hint.unwrap().trim();
    let whole = hint.replace("'…'", r#""can'ary""#);
    assert_ne!(whole, hint, "{hint}");
    let worker = ProcessBuilder::program("env")
        .args(&["-i", "sh", "-c", &format!("exec env {whole}")])
        .start();
    worker.wait_ready(PATIENCE).await;
    let leases: Vec<(String, u64)> = eventually("two workers have leases", PATIENCE, async || {
        let leases = redis.query(&["ZRANGE", "jobqueue:{mail}:leases", "0", "-1", "WITHSCORES"]);
        let leases: Vec<(String, u64)> = leases.await;
        (leases.len() == 2).then_some(leases)
    })
    .await;
    assert!(leases.iter().all(|(_, lease)| *lease == 7000), "{leases:?}");
    worker.term();
    worker.wait_exit(PATIENCE).await;
    kill_process(session.pid(), Signal::TERM).unwrap();
    assert_eq!(home.assert_clean(&mut session).await.code(), Some(143));
}

#[tokio::test]
async fn a_signal_during_the_build_ends_the_build() {
    let home = Home::new();
    home.cargo("tail -f /dev/null & wait");
    let mut session = home.start(r#"exec "$DEV" >log 2>&1"#);
    within(LIMIT, async || {
        let names = session.names();
        names.iter().any(|name| name == "tail").then_some(())
    })
    .await
    .unwrap_or_else(|| panic!("{}", home.text("log")));
    kill_process(session.pid(), Signal::TERM).unwrap();
    assert_eq!(home.assert_clean(&mut session).await.code(), Some(143));
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let line = r#"exec "$DEV" >log 2>&1"#;
    let mut session = Session::start(home.command(line).env("APP__SERVER__PORT", &port));
    assert_eq!(home.assert_clean(&mut session).await.code(), Some(1));
    let log = home.text("log");
    assert!(
        log.contains("error: server does not listen") && log.contains(&port),
        "{log}"
    );

    let mut session = Session::start(home.command(line).env("APP__JOBQUEUE__LEASE", "later"));
    assert_eq!(home.assert_clean(&mut session).await.code(), Some(1));
    let log = home.text("log");
    assert!(log.contains("later"), "{log}");

    for addr in [
        "host:6380,password=canary,ssl=True",
        "canary",
        ":6379",
        "[::1]",
        "a b:1",
    ] {
        let mut session = Session::start(home.command(line).env("REDIS_JOBQUEUE_ADDR", addr));
        assert_eq!(home.assert_clean(&mut session).await.code(), Some(1));
        let log = home.text("log");
        assert!(
            log.starts_with("error: REDIS_JOBQUEUE_ADDR: found neither"),
            "{log}"
        );
        assert!(!log.contains("canary"), "{log}");
    }
}
