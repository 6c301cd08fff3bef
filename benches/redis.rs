//! Starts a redis-server for the bench. It listens on a free port of loopback and has no
//! persistence. It is killed on drop, also after a panic.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::wait_for;
use super::wire::{Conn, Reply};

const START_LIMIT: Duration = Duration::from_secs(10);
/// The commands that the bench looks with.
const LOOKS: [&str; 3] = ["info", "xlen", "zcard"];

/// A redis-server that the bench started.
pub(crate) struct Redis {
    port: u16,
    /// The server's working directory. It is removed on drop.
    home: TempDir,
    program: OsString,
    /// `None` while the server is down.
    child: Option<Child>,
}

impl Redis {
    /// Starts redis-server. `REDIS_SERVER=valkey-server` starts Valkey, which understands the same
    /// arguments.
    pub(crate) fn start() -> Self {
        let program = std::env::var_os("REDIS_SERVER");
        Self::start_program(program.unwrap_or_else(|| "redis-server".into()))
    }

    pub(crate) fn start_program(program: OsString) -> Self {
        let mut redis = Self {
            program,
            port: free_port(),
            home: tempfile::tempdir().unwrap(),
            child: None,
        };
        redis.up();
        redis
    }

    /// Starts the server, and waits until it answers. Returns the time of its first answer.
    pub(crate) fn up(&mut self) -> Instant {
        assert!(self.child.is_none(), "redis-server is up already");
        self.child = Some(spawn(&self.program, self.port, self.home.path()));
        wait_for("redis-server", START_LIMIT, || {
            let mut conn = Conn::try_open(&self.addr()).ok()?;
            // Another program on this port could answer as well.
            let info = conn.ask_text(&["INFO", "server"]);
            let ours = format!("process_id:{}\r\n", self.pid());
            assert!(info.contains(&ours), "another Redis has the port");
            Some(Instant::now())
        })
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("redis-server is down").id()
    }

    pub(crate) fn addr(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    pub(crate) fn open(&self) -> Conn {
        Conn::open(&self.addr())
    }

    /// Removes all data, and waits until its memory is freed.
    pub(crate) fn empty(&self) {
        self.open().ask(&["FLUSHALL", "SYNC"]);
    }

    pub(crate) fn used_memory(&self) -> u64 {
        self.info("memory", "used_memory").parse().unwrap()
    }

    /// How many commands the server has run, with those that scripts call. The commands that the
    /// bench itself looks with do not count.
    pub(crate) fn commands(&self) -> u64 {
        let info = self.open().ask_text(&["INFO", "commandstats"]);
        let calls = info.lines().filter_map(|line| {
            let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let (calls, _) = rest.split_once(',')?;
            (!LOOKS.contains(&command)).then(|| calls.parse::<u64>().unwrap())
        });
        calls.sum()
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        let bytes = self.info("stats", "total_net_input_bytes");
        bytes.parse().unwrap()
    }

    pub(crate) fn version(&self) -> String {
        self.info("server", "redis_version")
    }

    /// The server's name and version, such as `redis_8.2.3` or `valkey_9.1.2`.
    pub(crate) fn name_and_version(&self) -> String {
        let valkey = self.find_info("server", "valkey_version");
        valkey.map_or_else(
            || format!("redis_{}", self.version()),
            |version| format!("valkey_{version}"),
        )
    }

    /// Whether the server has this command.
    pub(crate) fn knows(&self, command: &str) -> bool {
        match self.open().ask(&["COMMAND", "INFO", command]) {
            Reply::Array(commands) => matches!(commands[..], [Reply::Array(_)]),
            _ => false,
        }
    }

    fn info(&self, section: &str, field: &str) -> String {
        let value = self.find_info(section, field);
        value.expect("redis tells it")
    }

    fn find_info(&self, section: &str, field: &str) -> Option<String> {
        let info = self.open().ask_text(&["INFO", section]);
        let mut lines = info.lines();
        let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::to_owned)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A loopback port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(program: &OsStr, port: u16, home: &Path) -> Child {
    let port = port.to_string();
    Command::new(program)
        .args(["--port", &port, "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
}
