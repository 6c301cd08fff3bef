//! The programs as child processes: their output with the time of each line, their signals and
//! their end. A process is killed on drop, and shows its output when the test is failing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, test_kill_process, waitid,
};

use super::output::{Line, Output};
use super::{PATIENCE, ProcessBuilder, Redis, eventually};

/// How long an HTTP request to a process may take.
const HTTP_LIMIT: Duration = Duration::from_secs(10);

/// A running child process.
pub(crate) struct Process {
    pub(super) name: String,
    pub(super) child: Mutex<Child>,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
}

impl Process {
    /// The builder of the worker. The worker uses this Redis.
    pub(crate) fn jobqueue(redis: &Redis) -> ProcessBuilder {
        ProcessBuilder::program(env!("CARGO_BIN_EXE_jobqueue")).redis(redis)
    }

    /// The builder of the API server. The server uses this Redis.
    pub(crate) fn server(redis: &Redis) -> ProcessBuilder {
        ProcessBuilder::program(env!("CARGO_BIN_EXE_server")).redis(redis)
    }

    /// The builder of the operator's program. It uses this Redis.
    pub(crate) fn jobctl(redis: &Redis) -> ProcessBuilder {
        ProcessBuilder::program(env!("CARGO_BIN_EXE_jobctl")).redis(redis)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// The lines on stdout so far.
    pub(crate) fn stdout(&self) -> Vec<Line> {
        self.stdout.lines()
    }

    /// The lines on stderr so far.
    pub(crate) fn stderr(&self) -> Vec<Line> {
        self.stderr.lines()
    }

    /// Starts or stops the reading of its stdout. While nobody reads it, the pipe fills.
    pub(crate) fn read_stdout(&self, read: bool) {
        self.stdout.set_read(read);
    }

    /// Starts or stops the reading of its stderr.
    pub(crate) fn read_stderr(&self, read: bool) {
        self.stderr.set_read(read);
    }

    /// The first line on stdout that `wanted` accepts.
    ///
    /// # Panics
    ///
    /// When there is none at the deadline, or when stdout has ended without one. The other waits
    /// panic in the same way.
    pub(crate) async fn wait_for_line(
        &self,
        mut wanted: impl FnMut(&str) -> bool,
        deadline: Duration,
    ) -> Line {
        self.stdout
            .find(0, &mut wanted, deadline)
            .await
            .unwrap_or_else(|why| panic!("{}: no such line on stdout: {why}", self.name))
    }

    /// The first `count` lines on stdout.
    pub(crate) async fn wait_for_lines(&self, count: usize, deadline: Duration) -> Vec<Line> {
        let waited = self.stdout.wait(deadline, |lines| lines.len() >= count);
        let result = waited.await;
        let mut lines = self.stdout();
        if let Err(why) = result {
            panic!(
                "{}: {} of {count} lines on stdout: {why}",
                self.name,
                lines.len()
            );
        }
        lines.truncate(count);
        lines
    }

    /// The first line on stderr that contains `part`.
    pub(crate) async fn wait_for_log(&self, part: &str, deadline: Duration) -> Line {
        self.wait_for_log_since(0, part, deadline).await
    }

    /// The number of lines on stderr so far, for [`Process::wait_for_log_since`].
    pub(crate) fn log_mark(&self) -> usize {
        self.stderr.len()
    }

    /// The first line on stderr that contains `part`, not counting those before `mark`.
    pub(crate) async fn wait_for_log_since(
        &self,
        mark: usize,
        part: &str,
        deadline: Duration,
    ) -> Line {
        let mut wanted = |line: &str| line.contains(part);
        self.stderr
            .find(mark, &mut wanted, deadline)
            .await
            .unwrap_or_else(|why| panic!("{}: no log line with {part:?}: {why}", self.name))
    }
}

/// Its HTTP side.
impl Process {
    /// The address where it listens, as its start line says.
    pub(crate) async fn http_addr(&self) -> SocketAddr {
        let mut wanted = |line: &str| listening_addr(line).is_some();
        let line = self.stderr.find(0, &mut wanted, PATIENCE).await;
        let line = line.unwrap_or_else(|why| panic!("{}: it does not listen: {why}", self.name));
        listening_addr(&line.text).expect("cannot fail because the line was chosen for it")
    }

    /// `GET`s a path, such as `/ready`.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let url = format!("http://{}{path}", self.http_addr().await);
        let response = http_client().get(&url).send().await;
        let response = response.unwrap_or_else(|error| panic!("GET {url}: {error:?}"));
        (response.status(), response.text().await.unwrap())
    }

    /// Waits until `/ready` answers 200.
    pub(crate) async fn wait_ready(&self, deadline: Duration) {
        self.wait_for_status("/ready", StatusCode::OK, deadline)
            .await;
    }

    /// Waits until `/ready` answers 503, and returns the reason it gives.
    pub(crate) async fn wait_not_ready(&self, deadline: Duration) -> String {
        self.wait_for_status("/ready", StatusCode::SERVICE_UNAVAILABLE, deadline)
            .await
    }

    async fn wait_for_status(&self, path: &str, status: StatusCode, deadline: Duration) -> String {
        let what = format!("{}: GET {path} answers {status}", self.name);
        eventually(what, deadline, async || {
            let (got, body) = self.get(path).await;
            (got == status).then_some(body)
        })
        .await
    }
}

/// What it costs.
impl Process {
    /// The CPU time that all its threads have used (Linux only).
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The program's name is in parentheses and may contain any character.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
        // USER_HZ is 100 on every architecture that Linux still supports.
        Duration::from_millis((ticks() + ticks()) * 10)
    }
}

/// Signals, and the end.
impl Process {
    /// Asks it to shut down (SIGTERM).
    ///
    /// # Panics
    ///
    /// When it has already ended. The other signals except [`Process::kill`] panic in the same way.
    pub(crate) fn term(&self) {
        self.signal(Signal::TERM);
    }

    /// Ctrl-C (SIGINT).
    pub(crate) fn int(&self) {
        self.signal(Signal::INT);
    }

    /// Ctrl-\\ (SIGQUIT).
    pub(crate) fn quit(&self) {
        self.signal(Signal::QUIT);
    }

    /// Its terminal was closed (SIGHUP).
    pub(crate) fn hup(&self) {
        self.signal(Signal::HUP);
    }

    /// A signal that has no meaning for the programs (SIGUSR1).
    pub(crate) fn usr1(&self) {
        self.signal(Signal::USR1);
    }

    /// The signal of a write to a pipe without a reader (SIGPIPE).
    pub(crate) fn pipe(&self) {
        self.signal(Signal::PIPE);
    }

    /// Halts it (SIGSTOP) until [`Process::cont`], and waits until all its threads stand still. On
    /// a busy machine some threads go on for a moment after the signal.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let asked = Instant::now();
        while waitid(WaitId::Pid(pid), options).unwrap().is_none() {
            assert!(asked.elapsed() < PATIENCE, "it does not halt");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on after [`Process::stop`] (SIGCONT).
    pub(crate) fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Its exit status, or nothing while it runs.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    /// Waits for its end, and for the end of its output.
    pub(crate) async fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        let what = format!("{} exits", self.name);
        eventually(what, deadline, async || {
            let status = self.exited()?;
            (self.stdout.ended() && self.stderr.ended()).then_some(status)
        })
        .await
    }

    fn signal(&self, signal: Signal) {
        // The lock keeps the process from being reaped, so its id cannot be reused.
        let mut child = self.child.lock().unwrap();
        if let Some(status) = child.try_wait().unwrap() {
            drop(child);
            panic!(
                "{}: no signal reaches it, it has ended ({status})",
                self.name
            );
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL ends a halted process as well. A drop must not panic. A process that has ended by
        // itself needs no kill.
        let child = self
            .child
            .get_mut()
            .unwrap_or_else(|broken| broken.into_inner());
        child.kill().ok();
        let status = child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} (pid {}): {status:?}", self.name, child.id());
            self.stdout.show("stdout");
            self.stderr.show("stderr");
        }
    }
}

/// A client that never uses a proxy of the environment.
pub(crate) fn http_client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().timeout(HTTP_LIMIT);
    builder.build().unwrap()
}

/// The address in a start line. The line has `listening` and a field `addr`, as text or JSON.
pub(crate) fn listening_addr(line: &str) -> Option<SocketAddr> {
    if !line.contains("listening") {
        return None;
    }
    let (_, rest) = line
        .split_once("addr=")
        .or_else(|| line.split_once("\"addr\":"))?;
    let rest = rest.trim_start_matches('"');
    let end = rest.find(['"', ' ', ',', '}']).unwrap_or(rest.len());
    let mut addr: SocketAddr = rest[..end].parse().ok()?;
    if addr.ip().is_unspecified() {
        addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    Some(addr)
}

/// Whether a process with this id exists. A process that has ended exists until its parent has
/// waited for it.
pub(crate) fn process_exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    test_kill_process(pid).is_ok()
}
