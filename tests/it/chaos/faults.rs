//! Kills, stops, freezes and cuts of every part.

use std::time::{Duration, Instant};

use super::{AHEAD, CONCURRENCY, Run};
use crate::support::{Direction, PATIENCE, Process, cut};

impl Run {
    pub(super) async fn worker_killed(&mut self, place: usize, length: Duration) {
        let (worker, from) = (self.alive[place], Instant::now());
        self.workers[worker].kill();
        tokio::time::sleep(length / 4).await;
        self.replace(place);
        self.explained_by_loss(worker, from, Some(CONCURRENCY + AHEAD[place]));
    }

    pub(super) async fn worker_frozen(&mut self, place: usize, length: Duration) {
        let (worker, from) = (self.alive[place], Instant::now());
        self.workers[worker].stop();
        tokio::time::sleep(length).await;
        self.workers[worker].cont();
        self.explained_by(worker, from);
    }

    /// The worker has time to finish its jobs, so this fault explains no duplicate.
    pub(super) async fn worker_stopped(&mut self, place: usize) {
        let worker = &self.workers[self.alive[place]];
        worker.term();
        worker.wait_exit(PATIENCE).await;
        self.replace(place);
    }

    pub(super) async fn connections_cut(&mut self, place: usize) {
        cut(&self.proxies[place]).await;
    }

    pub(super) async fn clients_killed(&mut self) {
        let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        self.redis.cmd(&kill).await;
    }

    pub(super) async fn connections_stalled(&mut self, place: usize, length: Duration) {
        let from = Instant::now();
        let direction = if self.random.bool() {
            Direction::UpstreamToClient
        } else {
            Direction::ClientToUpstream
        };
        self.proxies[place].set_stall(direction);
        tokio::time::sleep(length).await;
        cut(&self.proxies[place]).await;
        // Renewals did not reach Redis during the stall either.
        self.explained_by(self.alive[place], from);
    }

    pub(super) async fn redis_killed(&mut self, length: Duration) {
        self.redis.kill();
        tokio::time::sleep(length / 4).await;
        self.redis.up().await;
        self.recovered().await;
    }

    pub(super) async fn redis_frozen(&mut self, length: Duration) {
        self.redis.freeze();
        tokio::time::sleep(length).await;
        self.redis.resume();
        self.recovered().await;
    }

    pub(super) async fn scripts_flushed(&mut self) {
        // A slow disk may keep Redis from answering. Then there was no flush.
        drop(self.redis.try_cmd(&["SCRIPT", "FLUSH"]).await);
    }

    pub(super) async fn server_killed(&mut self) {
        self.server.kill();
        self.server = Process::server(&self.redis).start();
        *self.server_url.lock().unwrap() = super::register_url(&self.server).await;
    }
}
