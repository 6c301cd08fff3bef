//! What a worker tells of itself, for people who ask which workers there are.

use std::time::Duration;

use serde::Serialize;

use super::broker::Broker;
use super::link::Link;
use super::scripts::{ANNOUNCE, evalsha, millis};

/// What a worker tells of itself, as JSON. Redis adds `started_ms` and `seen_ms`, by its own clock.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Announcement<'a> {
    pub(crate) host: &'a str,
    pub(crate) pid: u32,
    pub(crate) version: &'a str,
    /// How many jobs it runs at once.
    pub(crate) concurrency: usize,
    /// How many it runs now.
    pub(crate) running: usize,
    /// How many entries it has, whose outcomes are not confirmed.
    pub(crate) held: usize,
    /// For how long it has been there.
    #[serde(skip)]
    pub(crate) uptime: Duration,
}

impl Broker {
    /// Writes what this worker tells of itself. Nothing depends on it, so its failure is not told.
    pub(crate) async fn announce(&self, link: &mut Link, announcement: &Announcement<'_>) {
        let json = serde_json::to_string(announcement)
            .expect("cannot fail because it is strings and numbers");
        let open = json.strip_suffix('}').unwrap_or(&json);
        let mut cmd = evalsha(&ANNOUNCE, &[&self.keys().workers]);
        cmd.arg(self.consumer()).arg(open);
        cmd.arg(millis(announcement.uptime));
        drop(link.ask(&cmd).await);
    }
}
