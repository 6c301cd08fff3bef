//! The shell scripts, in a session and a terminal of their own.
//!
//! `scripts/dev` runs the real programs and a real Redis. Its `cargo build` alone is played:
//! a build would replace the very programs that other tests are starting. What it leaves
//! behind is whatever process is left of its session.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::chaos::KINDS;
use crate::support::{PATIENCE, ProcessBuilder, Redis, ReservedPort, eventually, within};

/// Longer than the script needs for its start, its job of a second, and its end.
const LIMIT: Duration = Duration::from_secs(30);
const RUNS: &str = "everything runs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script(name: &str) -> PathBuf {
    root().join("scripts").join(name)
}

/// A place to run `scripts/dev` in, with spaces in its name, and a free port for its Redis.
struct Home {
    dir: TempDir,
    redis: ReservedPort,
}

/// What was started, in a session of its own.
struct Session {
    child: Child,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("a home ")
            .tempdir()
            .unwrap();
        let home = Self {
            dir,
            redis: ReservedPort::take(),
        };
        home.cargo("");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What `cargo build` does before it says where the programs are.
    fn cargo(&self, build: &str) {
        let cargo = format!(
            "#!/bin/sh\n{build}\nprintf '{{\"executable\":\"%s\"}}\\n' '{}' '{}'\n",
            env!("CARGO_BIN_EXE_server"),
            env!("CARGO_BIN_EXE_jobqueue"),
        );
        fs::create_dir_all(self.path("bin")).unwrap();
        fs::write(self.path("bin/cargo"), cargo).unwrap();
        fs::set_permissions(self.path("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A shell's line, in which `$DEV` is the script; not started yet.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("setsid");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let ours = ["CONFIG_DIR", "RUST_LOG", "LOG_FORMAT"];
            if name.starts_with("APP_") || ours.contains(&name.as_str()) {
                command.env_remove(name);
            }
        }
        let path = format!(
            "{}:{}",
            self.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        command
            .args(["bash", "-c", line])
            .env("DEV", script("dev"))
            .current_dir(&self.dir)
            .env("PATH", path)
            .env("TMPDIR", self.dir.path())
            .env(
                "REDIS_JOBQUEUE_ADDR",
                format!("127.0.0.1:{}", self.redis.number),
            )
            .env("APP__SERVER__PORT", "0")
            .env("APP__JOBQUEUE__PORT", "0")
            .stdin(Stdio::null());
        command
    }

    fn start(&self, line: &str) -> Session {
        Session::start(&mut self.command(line))
    }

    /// What stands in a file.
    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    async fn wait_for(&self, name: &str, part: &str) -> String {
        let text = within(LIMIT, async || {
            Some(self.text(name)).filter(|text| text.contains(part))
        })
        .await;
        text.unwrap_or_else(|| panic!("no {part:?} in {name}: {}", self.text(name)))
    }

    /// Nothing runs any more, and the script's directory is gone.
    async fn assert_clean(&self, session: &mut Session) -> ExitStatus {
        let status = session.wait_exit().await;
        let left = session.processes();
        assert!(left.is_empty(), "{left:?}");
        let dirs = fs::read_dir(&self.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let dirs: Vec<_> = dirs
            .filter(|name| name.to_string_lossy().contains("jobqueue-dev"))
            .collect();
        assert!(dirs.is_empty(), "{dirs:?}");
        status
    }
}

impl Session {
    fn start(command: &mut Command) -> Self {
        Self {
            child: command.spawn().unwrap(),
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Every process of the session but its first, and their names.
    fn processes(&self) -> Vec<(Pid, String)> {
        let session = self.child.id().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            // One that ends meanwhile has no file, and a zombie has ended.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let (head, tail) = stat.rsplit_once(')').unwrap();
            let (pid, name) = head.split_once(" (").unwrap();
            let fields: Vec<&str> = tail.split_whitespace().collect();
            if fields[3] == session && pid != session && fields[0] != "Z" {
                let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
                found.push((pid, name.to_owned()));
            }
        }
        found
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.processes().into_iter().map(|(_, name)| name).collect();
        names.sort();
        names
    }

    /// What a terminal does to the programs in its foreground.
    fn signal_group(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).unwrap();
    }

    /// The end of its first process, and of all others that end with it.
    async fn wait_exit(&mut self) -> ExitStatus {
        eventually("the session ends", LIMIT, async || {
            let status = self.child.try_wait().unwrap()?;
            self.processes().is_empty().then_some(status)
        })
        .await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            kill_process(pid, Signal::KILL).ok();
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

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
    // Its fifth line is written when everything has been started.
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
    // `setsid --ctty` makes it the terminal of the session.
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

/// What a line of bash prints that uses the functions of `scripts/lib.sh`.
fn lib(line: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new("bash")
        .args([
            "-euo",
            "pipefail",
            "-c",
            &format!("source scripts/lib.sh; {line}"),
        ])
        .current_dir(root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_start_line_is_read_in_every_form() {
    let log = tempfile::NamedTempFile::new().unwrap();
    for (line, addr) in [
        (
            "2026-01-02T03:04:05Z  INFO server: listening addr=127.0.0.1:8082",
            "127.0.0.1:8082",
        ),
        (
            r#"INFO server: listening env=develop addr="0.0.0.0:80" pid=1"#,
            "127.0.0.1:80",
        ),
        ("INFO server: listening addr=[::]:8080", "localhost:8080"),
        (
            "INFO server: listening addr=localhost:8080",
            "localhost:8080",
        ),
        (
            "INFO server: listening addr=[::1]:8080, 127.0.0.1:8080",
            "[::1]:8080",
        ),
        (
            r#"INFO server: listening addr=["127.0.0.1:80", "[::1]:80"]"#,
            "127.0.0.1:80",
        ),
        (
            "INFO server: listening addr=[[2001:10::1]:80, 127.0.0.1:80]",
            "[2001:10::1]:80",
        ),
        (
            "INFO server: listening addr=10.0.0.5:80 redis_addr=h:6379",
            "10.0.0.5:80",
        ),
        (
            r#"{"fields":{"message":"listening","addr":"[2001:10::1]:80"}}"#,
            "[2001:10::1]:80",
        ),
        (
            r#"{"message":"listening","addr":["[::]:1"],"redis_addr":"h:2"}"#,
            "localhost:1",
        ),
        (
            "INFO jobqueue: port in use, listening on another wanted=1 taken=1.2.3.4:5",
            "",
        ),
        ("INFO jobqueue: connecting addr=1.2.3.4:5", ""),
    ] {
        fs::write(&log, format!("another line\n{line}\n{line}\n")).unwrap();
        let read = lib(
            r#"listening_at "$LOG""#,
            &[("LOG", log.path().to_str().unwrap())],
        );
        assert_eq!(read.trim_end(), addr, "{line}");
    }
}

#[test]
fn settings_are_shown_as_a_shell_takes_them_and_secrets_are_not() {
    let shown = lib(
        "overrides",
        &[
            ("APP_ENV", "staging"),
            ("APP__A", r#"it's "日本" $x \"#),
            ("APP__EMPTY", ""),
            ("APP__X__PASSWORD", "canary"),
            ("APP__x__secret_key", "canary"),
            ("APP__X__PASSWORD_FILE", "/run/a b"),
            ("CONFIG_DIR", "/etc/dm"),
            ("REDIS_JOBQUEUE_ADDR", "redis://:canary@host"),
            ("SOMETHING", "else"),
        ],
    );
    let expected = [
        "APP_ENV=staging",
        r#"APP__A='it'\''s "日本" $x \'"#,
        "APP__X__PASSWORD='…'",
        "APP__X__PASSWORD_FILE='/run/a b'",
        "APP__x__secret_key='…'",
        "CONFIG_DIR=/etc/dm",
        "REDIS_JOBQUEUE_ADDR='…' ",
    ];
    assert_eq!(shown, expected.join(" "));
    let plain = lib("overrides", &[("REDIS_JOBQUEUE_ADDR", "[::1]:6379")]);
    assert_eq!(plain, "REDIS_JOBQUEUE_ADDR='[::1]:6379' ");
}

/// What a script says to these arguments, and its exit status. A directory in CDPATH that
/// looks like the checkout must not lead it astray.
fn call(name: &str, args: &[&str], path: &Path) -> (String, Option<i32>) {
    let decoy = tempfile::tempdir().unwrap();
    fs::create_dir(decoy.path().join("scripts")).unwrap();
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg(Path::new("scripts").join(name))
        .args(args)
        .current_dir(root())
        .env("CDPATH", decoy.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (said, output.status.code())
}

/// A script and its arguments, one a word (`_` for an empty one), and what is said to them.
const WRONG: [(&str, &str); 17] = [
    (
        "chaos --seconds",
        "--seconds: found nothing, expected a number from 1 to",
    ),
    (
        "chaos --seconds abc",
        "--seconds: found abc, expected a number from 1 to",
    ),
    (
        "chaos --seconds 0",
        "--seconds: found 0, expected a number from 1 to",
    ),
    (
        "chaos --seconds=1.5",
        "--seconds: found 1.5, expected a number from 1 to",
    ),
    (
        "chaos --seconds 18446744073709551617",
        "expected a number from 1 to",
    ),
    (
        "chaos --seconds --seed 7",
        "--seconds: found --seed, expected a number",
    ),
    (
        "chaos --seed x",
        "--seed: found x, expected a number from 0 to",
    ),
    (
        "chaos --seed -1",
        "--seed: found -1, expected a number from 0 to",
    ),
    (
        "chaos --kinds",
        "--kinds: found nothing, expected kinds or groups",
    ),
    (
        "chaos --kinds clock,slow",
        "--kinds: found slow, expected kinds",
    ),
    (
        "chaos --kinds clock,",
        "--kinds: found nothing, expected kinds",
    ),
    (
        "chaos --kind clock",
        "found the argument --kind, expected --seconds",
    ),
    ("chaos 7", "found the argument 7, expected --seconds"),
    (
        "test --bogus",
        "found the argument --bogus, expected --all or a part",
    ),
    ("test a b", "found the arguments a and b, expected one part"),
    ("test _", "found an empty argument, expected a part"),
    ("dev --port", "found the argument --port, expected none"),
];

#[test]
fn a_wrong_argument_is_named_with_what_is_expected() {
    let home = Home::new();
    home.cargo("echo cargo was started; exit 9");
    for (line, expected) in WRONG {
        let mut words = line.split(' ').map(|word| word.trim_matches('_'));
        let script = words.next().unwrap();
        let args: Vec<&str> = words.collect();
        let (said, status) = call(script, &args, &home.path("bin"));
        let begins = said.starts_with("error: ") && said.contains(expected);
        let ends = said.ends_with(&format!("; see scripts/{script} --help\n"));
        assert!(
            begins && ends && said.lines().count() == 1,
            "{line}: {said}"
        );
        assert_eq!(status, Some(2), "{line}");
    }
}

#[test]
fn right_arguments_of_chaos_start_it() {
    let home = Home::new();
    home.cargo("echo $CHAOS_SECONDS $CHAOS_SEED $CHAOS_KINDS; exit 9");
    for (args, told) in [
        (&["--seed", "3"][..], "60 3 all\n"),
        (&["--seconds", "08", "--seed=0"], "08 0 all\n"),
        (
            &["--kinds", "clock stepped , hands,slow line", "--seed=1"],
            "60 1 clock stepped , hands,slow line\n",
        ),
    ] {
        let said = call("chaos", args, &home.path("bin"));
        assert_eq!(said, (told.to_owned(), Some(9)), "{args:?}");
    }
}

#[test]
fn the_help_of_chaos_has_all_kinds() {
    let home = Home::new();
    let (help, status) = call("chaos", &["--help"], &home.path("bin"));
    assert_eq!(status, Some(0));
    let mut names = vec!["all"];
    for (group, kinds) in KINDS {
        assert!(help.contains(&format!("\n  {group} ")), "{group}");
        names.push(group);
        names.extend(kinds);
    }
    let (said, status) = call(
        "chaos",
        &["--kinds", &names.join(","), "--seed", "x"],
        &home.path("bin"),
    );
    assert!(
        said.contains("--seed: found x"),
        "each of them is known: {said}"
    );
    assert_eq!(status, Some(2));
}

#[test]
fn a_filter_runs_its_tests_alone_and_must_match_one() {
    let home = Home::new();
    let calls = home.path("calls");
    for (nextest, runs) in [
        (
            "exit 0",
            [
                "nextest run --locked outage",
                "nextest run --locked --profile all --run-ignored all outage",
            ],
        ),
        (
            "exit 101",
            [
                "test --locked --lib --bins --tests -- outage",
                "test --locked --lib --bins --tests -- --include-ignored outage",
            ],
        ),
    ] {
        // It has the tests that it lists, and runs what it is told.
        home.cargo(&format!(
            "case \"$*\" in 'nextest --version') {nextest} ;; *list*) echo 'it outages::an_outage: test' ;; *) echo \"$*\" >>'{}' ;; esac; exit 0",
            calls.display()
        ));
        for (args, run) in [&["outage"][..], &["--all", "outage"]]
            .into_iter()
            .zip(runs)
        {
            fs::write(&calls, "").unwrap();
            let (said, status) = call("test", args, &home.path("bin"));
            assert_eq!(status, Some(0), "{said}");
            assert_eq!(fs::read_to_string(&calls).unwrap().trim_end(), run);
        }
        fs::write(&calls, "").unwrap();
        let (said, status) = call("test", &["outtage"], &home.path("bin"));
        assert!(
            said.contains("found no test whose name contains outtage"),
            "{said}"
        );
        assert_eq!(status, Some(1));
        assert_eq!(fs::read_to_string(&calls).unwrap(), "");
    }
}
