//! Strains on the programs while nothing is broken: entries that cannot be fetched, slow lines, and
//! outputs and answers that nobody reads. None of them explains a duplicate.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};

use super::Run;
use super::ledger::Answer;
use crate::support::{DEAD, MBIT, PATIENCE, Rate, STREAM, eventually};

/// The number of clients that never read.
const DEAF_CLIENTS: usize = 200;
/// Enough foreign entries that their warnings fill a pipe, whichever workers log them.
const FOREIGN_ENTRIES: usize = 1_000;
/// Jobs of 2 KB. The line needs some seconds for all of them.
const PADDED_JOBS: u64 = 300;

/// The value of a large entry: its number again and again, 2 MB in all.
fn blob(n: u32) -> String {
    format!("{n:08}").repeat(250_000)
}

fn padded_job(n: u64) -> String {
    let payload = json!({"message": format!("job {n}")});
    let padding = "x".repeat(2_000);
    let job = json!({"type": "demo:delay_print", "delay_ms": 1000, "payload": payload, "padding": padding});
    job.to_string()
}

impl Run {
    /// Adds entries of 2 MB, and makes Redis close clients for which 1 MB waits. The limit holds
    /// until the next large entries, the end of the run, or a restart of Redis.
    pub(super) async fn large_entries(&mut self) {
        let count = self.random.u32(1..=4);
        self.check_large_entries().await;
        self.limit_output("1mb").await;
        for _ in 0..count {
            self.blobs += 1;
            let add = ["XADD", STREAM, "*", "blob", &blob(self.blobs)];
            // Without a reply it is not known whether the entry was added.
            if self.redis.try_cmd(&add).await.is_ok() {
                self.unburied.insert(self.blobs);
            }
        }
    }

    async fn limit_output(&self, limit: &str) {
        let limit = format!("normal {limit} 0 0");
        self.surely(&["CONFIG", "SET", "client-output-buffer-limit", &limit])
            .await;
    }

    /// Notes the large entries that have been buried, and removes their dead letters, because Redis
    /// would not have room for the dead letters of an hour.
    pub(super) async fn check_large_entries(&mut self) {
        self.limit_output("0").await;
        for (id, letter) in self.redis.dead_letters().await {
            if let Some(value) = letter.get("entry.blob") {
                let n = std::str::from_utf8(&value[..8]).unwrap().parse().unwrap();
                assert!(*value == blob(n).as_bytes(), "large entry {n} has changed");
                assert!(letter.contains_key("reason"), "large entry {n}");
                self.unburied.remove(&n);
                self.surely(&["XDEL", DEAD, &id]).await;
            }
        }
    }

    /// Slows a worker's line, and adds jobs that are not small and have to be parked first.
    pub(super) async fn slow_line(&mut self, place: usize, length: Duration) {
        self.lines[place].set_rate(Rate::Together(MBIT));
        let first = self.numbers.fetch_add(PADDED_JOBS, Ordering::Relaxed);
        let numbers = first..first + PADDED_JOBS;
        let added = self
            .redis
            .try_add_jobs(numbers.clone().map(padded_job))
            .await;
        let answer = match added {
            Ok(_) => Answer::Accepted,
            Err(_) => Answer::Unknown,
        };
        self.added.extend(numbers.map(|n| (n, answer)));
        tokio::time::sleep(2 * length).await;
        self.lines[place].set_rate(Rate::Unlimited);
    }

    pub(super) async fn stdout_blocked(&mut self, place: usize, length: Duration) {
        let worker = &self.workers[self.alive[place]];
        worker.read_stdout(false);
        tokio::time::sleep(2 * length).await;
        worker.read_stdout(true);
    }

    /// Blocks a worker's stderr while all workers have much to log. In half of the cases the worker
    /// is also asked to stop.
    pub(super) async fn stderr_blocked(&mut self, place: usize, length: Duration) {
        let worker = &self.workers[self.alive[place]];
        worker.read_stderr(false);
        let add = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'foreign', i) end";
        let add = ["EVAL", add, "1", STREAM, &FOREIGN_ENTRIES.to_string()];
        drop(self.redis.try_cmd(&add).await);
        tokio::time::sleep(2 * length).await;
        let stops = self.random.bool();
        if stops {
            worker.term();
            eventually("a worker stops that cannot log", PATIENCE, async || {
                worker.exited()
            })
            .await;
        }
        worker.read_stderr(true);
        if stops {
            self.replace(place);
        }
    }

    /// Makes clients of the server or of a worker send requests and never read an answer.
    pub(super) async fn answers_not_read(&mut self, place: usize, length: Duration) {
        let (addr, path) = if self.random.bool() {
            (self.server.http_addr().await, "/openapi.json")
        } else {
            (self.workers[self.alive[place]].http_addr().await, "/health")
        };
        let clients = (0..DEAF_CLIENTS).map(|_| deaf_client(addr, path));
        let clients = futures_util::future::join_all(clients).await;
        tokio::time::sleep(length).await;
        drop(clients);
    }
}

/// A client that has sent as much as it can, or nothing when it was refused.
async fn deaf_client(addr: SocketAddr, path: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let connect = tokio::time::timeout(Duration::from_secs(1), socket.connect(addr));
    let client = connect.await.ok()?.ok()?;
    let requests = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(1_000);
    client.writable().await.ok()?;
    while client.try_write(requests.as_bytes()).is_ok() {
        tokio::task::yield_now().await;
    }
    Some(client)
}
