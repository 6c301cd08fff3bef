//! A directory to run a script in, and a session with all processes that the script starts. No
//! process of the session may be left at the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::support::{ReservedPort, eventually, within};

/// This is longer than the script needs for its start, its job of a second, and its end.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
pub(super) const RUNS: &str = "everything runs";

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn script(name: &str) -> PathBuf {
    root().join("scripts").join(name)
}

/// A directory to run `scripts/dev` in, with spaces in its name, and a free port for its Redis.
pub(super) struct Home {
    dir: TempDir,
    redis: ReservedPort,
}

/// The processes of a script, in a session of their own.
pub(super) struct Session {
    child: Child,
}

impl Home {
    pub(super) fn new() -> Self {
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

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sets what `cargo build` does before it says where the programs are.
    pub(super) fn cargo(&self, build: &str) {
        let cargo = format!(
            "#!/bin/sh\n{build}\nprintf '{{\"executable\":\"%s\"}}\\n' '{}' '{}'\n",
            env!("CARGO_BIN_EXE_server"),
            env!("CARGO_BIN_EXE_jobqueue"),
        );
        fs::create_dir_all(self.path("bin")).unwrap();
        fs::write(self.path("bin/cargo"), cargo).unwrap();
        fs::set_permissions(self.path("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A command that runs a shell's line in a new session. In the line `$DEV` is the script.
    pub(super) fn command(&self, line: &str) -> Command {
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

    pub(super) fn start(&self, line: &str) -> Session {
        Session::start(&mut self.command(line))
    }

    /// The text of a file, which is empty when there is no file.
    pub(super) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(super) async fn wait_for(&self, name: &str, part: &str) -> String {
        let text = within(LIMIT, async || {
            Some(self.text(name)).filter(|text| text.contains(part))
        })
        .await;
        text.unwrap_or_else(|| panic!("no {part:?} in {name}: {}", self.text(name)))
    }

    /// Asserts that no process runs any more, and that the script's directory is gone.
    pub(super) async fn assert_clean(&self, session: &mut Session) -> ExitStatus {
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
    pub(super) fn start(command: &mut Command) -> Self {
        Self {
            child: command.spawn().unwrap(),
        }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Every process of the session except its first one, with their names.
    pub(super) fn processes(&self) -> Vec<(Pid, String)> {
        let session = self.child.id().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            // A process that ends meanwhile has no file. A zombie has ended.
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

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.processes().into_iter().map(|(_, name)| name).collect();
        names.sort();
        names
    }

    /// Sends a signal to the first process's group, as a terminal does to the programs in its
    /// foreground.
    pub(super) fn signal_group(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the first process and of all others, and returns its exit status.
    pub(super) async fn wait_exit(&mut self) -> ExitStatus {
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
