//! Starts programs as child processes, which are killed on drop. They are the two real programs,
//! and the bench itself as a worker with the handlers of `program.rs` or as a server without Redis.
//! Each gets its own environment and none of the caller's settings.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::program::VARIABLE;
use super::proxy::Proxy;
use super::redis::Redis;
use super::wait_for;

const START_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A child process. It is killed when this value is dropped.
pub(crate) struct Process {
    child: Child,
}

/// A program with its settings, before it is started.
pub(crate) struct Program {
    command: Command,
}

impl Program {
    /// The real worker. Its lines go to /dev/null.
    pub(crate) fn jobqueue(redis: &Redis, concurrency: usize) -> Self {
        let program = Self::new(env!("CARGO_BIN_EXE_jobqueue")).redis(redis);
        program.concurrency(concurrency)
    }

    /// A worker with the handlers of `program.rs`. All else in it is as in the real one.
    pub(crate) fn worker(redis: &Redis, concurrency: usize) -> Self {
        let program = Self::itself("worker").redis(redis);
        program.concurrency(concurrency)
    }

    /// The real API server, on `port`.
    pub(crate) fn server(redis: &Redis, port: u16) -> Self {
        let program = Self::new(env!("CARGO_BIN_EXE_server")).redis(redis);
        program.env("APP__SERVER__PORT", &port.to_string())
    }

    /// The server that answers without Redis, on `port`.
    pub(crate) fn bare_server(port: u16) -> Self {
        Self::itself("server").env("APP__SERVER__PORT", &port.to_string())
    }

    fn itself(program: &str) -> Self {
        let exe = std::env::current_exe().unwrap();
        Self::new(exe.to_str().unwrap()).env(VARIABLE, program)
    }

    fn new(program: &str) -> Self {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "TZ"))
            .env("CONFIG_DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/config"))
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self { command }
    }

    fn redis(self, redis: &Redis) -> Self {
        self.env("REDIS_JOBQUEUE_ADDR", &redis.addr())
            .env("APP__JOBQUEUE__PORT", "0")
    }

    /// Reaches Redis through the proxy.
    pub(crate) fn through(self, proxy: &Proxy) -> Self {
        self.env("REDIS_JOBQUEUE_ADDR", &proxy.addr())
    }

    fn concurrency(self, concurrency: usize) -> Self {
        self.env("APP__JOBQUEUE__CONCURRENCY", &concurrency.to_string())
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn start(mut self) -> Process {
        let child = self.command.spawn().unwrap();
        Process { child }
    }

    /// Starts the program, and passes on the lines that it prints.
    pub(crate) fn start_reading(mut self) -> (Process, Receiver<String>) {
        let mut child = self.command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The receiver is dropped when all expected lines have come.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        (Process { child }, receiver)
    }

    /// Starts a server and waits until it accepts connections on `port`.
    pub(crate) fn start_serving(self, port: u16) -> Process {
        let process = self.start();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for("the server", START_LIMIT, || TcpStream::connect(addr).ok());
        process
    }
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        // This fails when the process has ended by itself.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }

    /// Asks the process to stop, and waits for its end.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        wait_for("the process' end", STOP_LIMIT, || {
            self.child.try_wait().unwrap()
        });
    }

    /// How much of its memory is in RAM now, in MiB.
    pub(crate) fn rss_mib(&self) -> f64 {
        rss_mib(self.pid())
    }

    /// The most of its memory that was ever in RAM, in MiB.
    pub(crate) fn peak_rss_mib(&self) -> f64 {
        status_mib(self.pid(), "VmHWM:")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How much of a process' memory is in RAM now, in MiB.
pub(crate) fn rss_mib(pid: u32) -> f64 {
    status_mib(pid, "VmRSS:")
}

fn status_mib(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = kib.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<f64>().unwrap() / 1024.0
}

/// The CPU time that the living threads of a process have used. The scheduler counts it in
/// nanoseconds. The clock ticks of /proc/PID/stat are too coarse for an idle process.
pub(crate) fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("Linux' /proc");
    // A thread may have ended since the list was read.
    let times = tasks.filter_map(|task| task_cpu(&task.ok()?.path()));
    times.sum()
}

/// The CPU time that a living thread of this process has used.
pub(crate) fn thread_cpu(thread: Pid) -> Duration {
    let task = format!("/proc/self/task/{}", thread.as_raw_nonzero());
    task_cpu(Path::new(&task)).expect("the thread lives")
}

fn task_cpu(task: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(task.join("schedstat")).ok()?;
    let nanos = stat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}
