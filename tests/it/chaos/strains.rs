//! What strains the programs while nothing is broken: entries that cannot be fetched, slow
//! lines, outputs and answers that nobody reads. None of it explains a duplicate.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::Run;
use crate::support::{DEAD, MBIT, Rate, STREAM};

/// How many clients never read.
const DEAF_CLIENTS: usize = 200;
/// Enough warnings for more than a pipe holds, whoever of the workers has to say them.
const FOREIGN_ENTRIES: usize = 300;

/// The value of a large entry: its number, over and over, 2 MB in all.
fn blob(n: u32) -> String {
    format!("{n:08}").repeat(250_000)
}

impl Run {
    /// Entries of 2 MB, while Redis drops clients for which 1 MB waits.
    pub(super) async fn large_entries(&mut self, length: Duration) {
        self.check_large_entries().await;
        self.limit_output("1mb").await;
        for _ in 0..self.random.u32(1..=4) {
            self.blobs += 1;
            let add = ["XADD", STREAM, "*", "blob", &blob(self.blobs)];
            // Without an answer nobody knows whether it is there.
            if self.redis.try_cmd(&add).await.is_ok() {
                self.unburied.insert(self.blobs);
            }
        }
        tokio::time::sleep(length).await;
        self.limit_output("0").await;
    }

    async fn limit_output(&self, limit: &str) {
        let limit = format!("normal {limit} 0 0");
        self.surely(&["CONFIG", "SET", "client-output-buffer-limit", &limit])
            .await;
    }

    /// Takes note of the large entries that have been buried, and removes their dead
    /// letters: Redis would not hold those of an hour.
    pub(super) async fn check_large_entries(&mut self) {
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

    pub(super) async fn slow_line(&mut self, place: usize, length: Duration) {
        self.lines[place].set_rate(Rate::Together(MBIT));
        tokio::time::sleep(2 * length).await;
        self.lines[place].set_rate(Rate::Unlimited);
    }

    pub(super) async fn stdout_blocked(&mut self, place: usize, length: Duration) {
        let worker = &self.workers[self.alive[place]];
        worker.read_stdout(false);
        tokio::time::sleep(2 * length).await;
        worker.read_stdout(true);
    }

    pub(super) async fn stderr_blocked(&mut self, place: usize, length: Duration) {
        let worker = &self.workers[self.alive[place]];
        worker.read_stderr(false);
        let add = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'foreign', i) end";
        let add = ["EVAL", add, "1", STREAM, &FOREIGN_ENTRIES.to_string()];
        drop(self.redis.try_cmd(&add).await);
        tokio::time::sleep(2 * length).await;
        worker.read_stderr(true);
    }

    /// Clients of the server, or of a worker, that ask and never read an answer.
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

/// A client that has sent all that it can; none when it was refused.
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
