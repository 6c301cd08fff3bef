//! Steps of Redis' clock, and what operators do to a queue that is in use. A clock explains
//! no duplicate. Hands may take from the workers what they hold, which runs twice then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Value;

use super::Run;
use crate::support::{GROUP, STATE, STREAM};

/// Where the stream is while it is away.
const AWAY: &str = "jobqueue:{default}:away";

/// Puts the stream back, and what came meanwhile behind it.
const PUT_BACK: &str = "
    if redis.call('EXISTS', KEYS[2]) == 0 then return end
    local meanwhile = {}
    if redis.call('EXISTS', KEYS[1]) == 1 then
      meanwhile = redis.call('XRANGE', KEYS[1], '-', '+')
    end
    redis.call('RENAME', KEYS[2], KEYS[1])
    for _, entry in ipairs(meanwhile) do
      redis.call('XADD', KEYS[1], '*', unpack(entry[2]))
    end";

/// Sets the group back to one of the first entries, to its beginning, or to where it was.
const SET_BACK: &str = "
    local ids = {'0', ARGV[2]}
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', ARGV[2], 'COUNT', 500)) do
      ids[#ids + 1] = entry[1]
    end
    return redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ids[ARGV[3] % #ids + 1])";

impl Run {
    /// By a second, some seconds, or an hour at most, in either direction.
    pub(super) fn step_clock(&mut self) {
        let most = [1_000, 10_000, 3_600_000][self.random.usize(..3)];
        self.clock_ms += self.random.i64(-most..=most);
        self.latest_clock_ms = self.latest_clock_ms.max(self.clock_ms);
        self.clock.set(self.clock_ms);
    }

    /// The latest that it has ever been: whatever was given a time falls due.
    pub(super) fn heal_clock(&self) {
        self.clock.set(self.latest_clock_ms);
    }

    pub(super) async fn clock_stepped_in_a_restart(&mut self, length: Duration) {
        self.redis.kill();
        self.step_clock();
        tokio::time::sleep(length / 4).await;
        self.redis.up().await;
        self.recovered().await;
    }

    pub(super) async fn consumer_deleted(&mut self, place: usize) {
        let (worker, from) = (self.alive[place], Instant::now());
        let pid = format!("-{}-", self.workers[worker].pid());
        let consumers = self.redis.consumers().await;
        if let Some(consumer) = consumers.iter().find(|one| one.name.contains(&pid)) {
            self.surely(&["XGROUP", "DELCONSUMER", STREAM, GROUP, &consumer.name])
                .await;
            self.explained_by(worker, from);
        }
    }

    /// Makes the group skip what waits, and then delivers it again, with some or all of
    /// what workers hold.
    pub(super) async fn group_set_ahead_and_back(&mut self, length: Duration) {
        let from = Instant::now();
        // Drawn here, and once, so that a seed goes the same way whatever Redis holds.
        let choice = self.random.u32(..);
        let Some(last) = self.last_delivered().await else {
            return;
        };
        self.surely(&["XGROUP", "SETID", STREAM, GROUP, "$"]).await;
        tokio::time::sleep(length / 4).await;
        let back = [
            "EVAL",
            SET_BACK,
            "1",
            STREAM,
            GROUP,
            &last,
            &choice.to_string(),
        ];
        self.surely(&back).await;
        self.explained_by_all(from);
    }

    async fn last_delivered(&self) -> Option<String> {
        let groups = self
            .redis
            .try_cmd(&["XINFO", "GROUPS", STREAM])
            .await
            .ok()?;
        let groups: Vec<BTreeMap<String, Value>> = redis::from_redis_value(groups).unwrap();
        let last = groups.first()?["last-delivered-id"].clone();
        Some(redis::from_redis_value(last).unwrap())
    }

    pub(super) async fn group_destroyed(&mut self) {
        let from = Instant::now();
        drop(
            self.redis
                .try_cmd(&["XGROUP", "DESTROY", STREAM, GROUP])
                .await,
        );
        self.explained_by_all(from);
    }

    pub(super) async fn state_deleted(&mut self) {
        let from = Instant::now();
        drop(self.redis.try_cmd(&["DEL", STATE]).await);
        self.explained_by_all(from);
    }

    /// Nothing is lost by it: the operator takes care of what came meanwhile.
    pub(super) async fn stream_renamed_and_back(&mut self, length: Duration) {
        let from = Instant::now();
        drop(self.redis.try_cmd(&["RENAME", STREAM, AWAY]).await);
        tokio::time::sleep(length / 4).await;
        self.surely(&["EVAL", PUT_BACK, "2", STREAM, AWAY]).await;
        self.explained_by_all(from);
    }
}
