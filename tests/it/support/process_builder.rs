//! How a child process is started: its environment, its limits, and where its output goes.

use std::io::{PipeReader, pipe};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

#[cfg(target_os = "linux")]
use rustix::pipe::fcntl_setpipe_size;

use super::output::Output;
use super::{Process, Redis, Terminal};

/// The smallest size that Linux gives a pipe: one page.
const SMALL_PIPE: usize = 4096;

/// How to start a [`Process`].
pub(crate) struct ProcessBuilder {
    name: String,
    command: Command,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    small_pipes: bool,
}

impl ProcessBuilder {
    /// Any program, in the environment of the tests without the project's variables. A developer's
    /// own settings must not reach a test.
    pub(crate) fn program(program: impl AsRef<Path>) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            let ours = [
                "APP_ENV",
                "CONFIG_DIR",
                "REDIS_JOBQUEUE_ADDR",
                "RUST_LOG",
                "LOG_FORMAT",
                "TZ",
            ];
            if name.starts_with("APP__") || ours.contains(&name.as_ref()) {
                command.env_remove(&key);
            }
        }
        let config = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config");
        command
            .env("APP_ENV", "develop")
            .env("CONFIG_DIR", config)
            .env("APP__SERVER__HOST", "127.0.0.1")
            .env("APP__SERVER__PORT", "0")
            .env("APP__JOBQUEUE__HOST", "127.0.0.1")
            .env("APP__JOBQUEUE__PORT", "0")
            .env("NO_COLOR", "1");
        // The whole suite can be run with another `jobqueue.ahead`.
        if let Some(ahead) = std::env::var_os("TEST_AHEAD") {
            command.env("APP__JOBQUEUE__AHEAD", ahead);
        }
        let name = program.file_name().unwrap_or(program.as_os_str());
        Self {
            name: name.to_string_lossy().into_owned(),
            command,
            stdin: None,
            stdout: None,
            stderr: None,
            small_pipes: false,
        }
    }

    /// Sets the address and the password of the Redis to use.
    pub(crate) fn redis(self, redis: &Redis) -> Self {
        let this = self.redis_addr(redis.addr());
        match redis.password() {
            Some(password) => this.env("APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD", password),
            None => this,
        }
    }

    /// Sets another address for Redis, such as the address of a proxy.
    pub(crate) fn redis_addr(self, addr: impl ToString) -> Self {
        self.env("REDIS_JOBQUEUE_ADDR", &addr.to_string())
    }

    /// Sets a variable: `.env("APP__JOBQUEUE__LEASE", "2s")`.
    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// Sets several variables.
    pub(crate) fn envs(mut self, variables: &[(&str, &str)]) -> Self {
        self.command.envs(variables.iter().copied());
        self
    }

    /// Removes a variable from the environment.
    pub(crate) fn env_remove(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Starts the program in this directory.
    pub(crate) fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Limits how many files it may have open. The program cannot change this limit.
    pub(crate) fn files(self, count: usize) -> Self {
        let script = format!("ulimit -n {count} && exec \"$0\" \"$@\"");
        self.started_by("sh", &["-c", &script])
    }

    /// Makes the permissions of files apply to the program, also when the tests run as root.
    pub(crate) fn without_capabilities(self) -> Self {
        match rustix::process::geteuid().is_root() {
            true => self.started_by("setpriv", &["--bounding-set", "-all", "--inh-caps", "-all"]),
            false => self,
        }
    }

    /// Starts the program with another program, which gets these arguments before the program's
    /// own.
    fn started_by(mut self, starter: &str, args: &[&str]) -> Self {
        let mut command = Command::new(starter);
        command.args(args).arg(self.command.get_program());
        command.args(self.command.get_args());
        for (key, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        self.command = command;
        self
    }

    /// Sets the name that failures show instead of the program's name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Sends stdout to another place, such as a pipe that several programs share, or `/dev/full`.
    /// [`Process::stdout`] then stays empty.
    pub(crate) fn stdout_to(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Sends stderr to another place. [`Process::stderr`] then stays empty.
    pub(crate) fn stderr_to(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Gives the pipes of stdout and stderr the smallest size of a pipe, so that they are full soon
    /// after nobody reads them.
    pub(crate) fn small_pipes(mut self) -> Self {
        self.small_pipes = true;
        self
    }

    /// Starts the program as a person does: all three standard files are this terminal, which belongs to the
    /// program.
    pub(crate) fn on_terminal(mut self, terminal: &Terminal) -> Self {
        self.stdin = Some(terminal.end());
        self.stdout_to(terminal.end())
            .stderr_to(terminal.end())
            .env("TERM", "xterm-256color")
            .started_by("setsid", &["--ctty"])
    }

    pub(crate) fn start(mut self) -> Process {
        let small = self.small_pipes;
        let (stdout, lines) = output_pipe(self.stdout.take(), small);
        let (stderr, log) = output_pipe(self.stderr.take(), small);
        let stdin = self.stdin.take().unwrap_or_else(Stdio::null);
        let command = self.command.stdin(stdin);
        let spawned = command.stdout(stdout).stderr(stderr).spawn();
        let child = spawned.unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name));
        Process {
            name: self.name,
            stdout: Output::read(lines),
            stderr: Output::read(log),
            child: Mutex::new(child),
        }
    }
}

/// The place of an output, and the pipe to read. There is no pipe to read when the output goes to
/// another place.
fn output_pipe(elsewhere: Option<Stdio>, small: bool) -> (Stdio, Option<PipeReader>) {
    if let Some(elsewhere) = elsewhere {
        return (elsewhere, None);
    }
    let (reader, writer) = pipe().unwrap();
    #[cfg(target_os = "linux")]
    if small {
        fcntl_setpipe_size(&writer, SMALL_PIPE).unwrap();
    }
    (writer.into(), Some(reader))
}
