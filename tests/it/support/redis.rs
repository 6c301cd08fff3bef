//! A real redis-server per test, on a port and in a directory of its own.
//!
//! The server is a plain child process of the test. It ends with the handle, and with the test's
//! process group when the runner gives up on a test. A test can stop, kill and freeze it and start
//! it again on the same port, which stays reserved meanwhile. (redis-server-wrapper starts daemons
//! that outlive a killed test, and later ends any program that listens on the port. Only its fault
//! proxy is used.)

use std::fmt::{Debug, Write as _};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, RedisResult,
    ToRedisArgs, Value,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::port::ReservedPort;
use super::{Clock, FaultProxy, PATIENCE, eventually};

/// How long a reply to one of the test's own commands may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// How much of the server's log a failing test shows.
const LOG_TAIL_LINES: usize = 20;

/// A redis-server for one test. It is killed on drop.
pub(crate) struct Redis {
    port: ReservedPort,
    home: TempDir,
    password: Option<String>,
    env: Vec<(String, String)>,
    /// The server's process, or nothing while the server is down.
    child: Mutex<Option<Child>>,
}

/// The settings of a [`Redis`].
#[derive(Default)]
pub(crate) struct RedisBuilder {
    password: Option<String>,
    env: Vec<(String, String)>,
    directives: Vec<(String, String)>,
}

impl RedisBuilder {
    /// Makes every write reach the disk before its reply (`appendonly`, `appendfsync always`).
    pub(crate) fn durable(self) -> Self {
        self.directive("appendonly", "yes")
            .directive("appendfsync", "always")
    }

    /// Makes the server ask clients for this password. The methods of [`Redis`] give it.
    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.directive("requirepass", &quoted(password))
    }

    /// Gives the server a clock of its own. A test may set it while the server runs.
    pub(crate) fn clock(mut self, clock: &Clock) -> Self {
        self.env.extend(clock.env());
        self
    }

    /// Adds a line to redis.conf, with `value` as redis.conf has it. A relative path is inside
    /// [`Redis::dir`].
    pub(crate) fn directive(mut self, key: &str, value: &str) -> Self {
        self.directives.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Takes a port and leaves the server down. [`Redis::up`] starts it.
    pub(crate) fn reserve(self) -> Redis {
        let port = ReservedPort::take();
        let home = tempfile::Builder::new().prefix("redis-").tempdir().unwrap();
        fs::create_dir(home.path().join("data")).unwrap();
        fs::write(home.path().join("redis.conf"), self.config(port.number)).unwrap();
        Redis {
            port,
            home,
            password: self.password,
            env: self.env,
            child: Mutex::new(None),
        }
    }

    /// Starts the server and waits until it answers.
    pub(crate) async fn start(self) -> Redis {
        let redis = self.reserve();
        redis.up().await;
        redis
    }

    fn config(&self, port: u16) -> String {
        // `save ""` comes first, so that a directive may turn snapshots on. Tests stall a server
        // with the command DEBUG SLEEP, which needs no signal.
        let mut config = format!(
            "port {port}\nbind 127.0.0.1\nsave \"\"\nenable-debug-command local\nlogfile ../redis.log\n"
        );
        for (key, value) in &self.directives {
            writeln!(config, "{key} {value}").unwrap();
        }
        config
    }
}

impl Redis {
    /// Starts a server that keeps nothing on disk.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts a server that keeps every write, also when it is killed.
    pub(crate) async fn durable() -> Self {
        Self::builder().durable().start().await
    }

    /// Takes a port for a server that is down until [`Redis::up`].
    pub(crate) fn reserve() -> Self {
        Self::builder().reserve()
    }

    pub(crate) fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number
    }

    /// `127.0.0.1:<port>`, as `REDIS_JOBQUEUE_ADDR` takes it.
    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The server's working directory, where it keeps its data.
    pub(crate) fn dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The server's log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("redis.log")).unwrap_or_default()
    }

    /// The server's process id.
    ///
    /// # Panics
    ///
    /// When the server is down. The signals below panic in the same way.
    pub(crate) fn pid(&self) -> u32 {
        let child = self.child.lock().unwrap();
        child.as_ref().expect("redis-server is down").id()
    }

    /// A TCP proxy in front of the server, in which a test breaks the network.
    pub(crate) async fn proxy(&self) -> FaultProxy {
        FaultProxy::spawn(self.addr()).await.unwrap()
    }
}

/// Starting and stopping.
impl Redis {
    /// Starts the server on the same port and with the data in its directory, and waits until it
    /// answers.
    pub(crate) async fn up(&self) {
        self.spawn();
        self.wait_up(PATIENCE).await;
    }

    /// Starts the server without the data that it had.
    pub(crate) async fn up_empty(&self) {
        assert!(self.is_down(), "a running server cannot lose its files");
        fs::remove_dir_all(self.dir()).unwrap();
        fs::create_dir(self.dir()).unwrap();
        self.up().await;
    }

    /// Starts the server and does not wait for it, so that a test can see it while it loads its
    /// data.
    pub(crate) fn spawn(&self) {
        let mut child = self.child.lock().unwrap();
        assert!(child.is_none(), "redis-server is up already");
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.home.path().join("redis.log"))
            .unwrap();
        // Valkey can replace Redis here: REDIS_SERVER=valkey-server runs the tests on it.
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let spawned = Command::new(&program)
            .arg("../redis.conf")
            .current_dir(self.dir())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        *child = Some(spawned.unwrap_or_else(|error| {
            panic!(
                "cannot start {}: {error}; ./scripts/test installs it",
                program.display()
            )
        }));
    }

    /// Waits until the server answers commands.
    pub(crate) async fn wait_up(&self, deadline: Duration) {
        let what = format!("redis-server answers at {}", self.addr());
        eventually(what, deadline, async || {
            if let Some(status) = self.exited() {
                panic!("redis-server ended ({status}):\n{}", self.log());
            }
            self.try_cmd(&["PING"]).await.ok()
        })
        .await;
        // Another Redis on this port would answer too, and a test must not touch its data.
        let info: String = self.query(&["INFO", "server"]).await;
        let ours = format!("process_id:{}\r\n", self.pid());
        assert!(
            info.contains(&ours),
            "another Redis has port {}",
            self.port()
        );
    }

    /// Stops the server with SIGTERM, and waits for its end.
    pub(crate) async fn stop(&self) {
        self.signal(Signal::TERM);
        eventually("redis-server stops", PATIENCE, async || self.exited()).await;
        *self.child.lock().unwrap() = None;
    }

    /// Kills the server (SIGKILL), and waits for its end.
    pub(crate) fn kill(&self) {
        let mut child = self
            .child
            .lock()
            .unwrap()
            .take()
            .expect("redis-server is down");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Freezes the server (SIGSTOP). It keeps its connections and the kernel accepts new ones, but
    /// nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends a freeze.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn is_down(&self) -> bool {
        self.child.lock().unwrap().is_none()
    }

    fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().as_mut()?.try_wait().unwrap()
    }

    fn signal(&self, signal: Signal) {
        // The lock keeps the process from being reaped, so its id cannot be reused.
        let child = self.child.lock().unwrap();
        let child = child.as_ref().expect("redis-server is down");
        kill_process(Pid::from_child(child), signal).unwrap();
    }
}

/// Commands. Each one has a new connection, so that no connection is stale after a fault.
impl Redis {
    /// Runs a command: `redis.cmd(&["XLEN", STREAM]).await`.
    ///
    /// # Panics
    ///
    /// When it fails. An error reply is a failure too.
    pub(crate) async fn cmd<A: ToRedisArgs + Debug>(&self, args: &[A]) -> Value {
        self.query(args).await
    }

    /// Runs a command and converts its reply: `let n: u64 = redis.query(..).await`.
    pub(crate) async fn query<T: FromRedisValue>(&self, args: &[impl ToRedisArgs + Debug]) -> T {
        let reply = self.try_cmd(args).await;
        let value = reply.unwrap_or_else(|error| panic!("{args:?}: {error}"));
        let shown = format!("{value:?}");
        redis::from_redis_value(value)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: the reply was {shown}"))
    }

    /// Runs a command that may fail.
    pub(crate) async fn try_cmd<A: ToRedisArgs>(&self, args: &[A]) -> RedisResult<Value> {
        let mut connection = self.connect().await?;
        let mut command = redis::Cmd::new();
        for arg in args {
            command.arg(arg);
        }
        command.query_async(&mut connection).await
    }

    /// A connection for a test that sends many commands.
    pub(crate) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        let info = ("127.0.0.1", self.port())
            .into_connection_info()?
            .set_redis_settings(settings);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(COMMAND_LIMIT))
            .set_response_timeout(Some(COMMAND_LIMIT));
        redis::Client::open(info)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of redis-server at {}", self.addr());
            eprintln!("{}", tail(&self.log()));
        }
        // SIGKILL ends a frozen server as well. A drop must not panic. A process that has ended by
        // itself needs no kill.
        if let Ok(mut child) = self.child.lock()
            && let Some(mut child) = child.take()
        {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// `text` as redis.conf quotes a string.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
