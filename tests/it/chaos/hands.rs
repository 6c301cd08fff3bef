//! Steps of Redis' clock, and actions of operators on a queue that is in use. A step of the clock
//! explains no duplicate. An action by hand may take held entries from workers, which then run
//! twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Value;

use super::Run;
use crate::support::{GROUP, STATE, STREAM};

/// The key of the stream while it is renamed.
const AWAY: &str = "jobqueue:{default}:away";

/// Lists how many entries each consumer holds, as names and numbers in turn.
const LOOK: &str = "
    local held = {}
    local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
    for _, consumer in ipairs(consumers.err and {} or consumers) do
      held[#held + 1] = consumer[2]
      held[#held + 1] = consumer[4]
    end";

/// Deletes the consumer whose name contains this text.
const DELETE_CONSUMER: &str = "
    for i = 1, #held, 2 do
      if string.find(held[i], ARGV[2], 1, true) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], held[i])
      end
    end";

/// Sets the group back to one of the first entries, to the beginning of the stream, or to its
/// former position.
const SET_BACK: &str = "
    local ids = {'0', ARGV[2]}
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', ARGV[2], 'COUNT', 500)) do
      ids[#ids + 1] = entry[1]
    end
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ids[ARGV[3] % #ids + 1])";

/// Renames the stream back, and appends the entries that were added meanwhile.
const PUT_BACK: &str = "
    if redis.call('EXISTS', KEYS[2]) == 1 then
      local meanwhile = {}
      if redis.call('EXISTS', KEYS[1]) == 1 then
        meanwhile = redis.call('XRANGE', KEYS[1], '-', '+')
      end
      redis.call('RENAME', KEYS[2], KEYS[1])
      for _, entry in ipairs(meanwhile) do
        redis.call('XADD', KEYS[1], '*', unpack(entry[2]))
      end
    end";

impl Run {
    /// Steps the clock by a second, some seconds, or at most an hour, in either direction.
    pub(super) fn step_clock(&mut self) {
        let most = [1_000, 10_000, 3_600_000][self.random.usize(..3)];
        self.clock_ms += self.random.i64(-most..=most);
        self.latest_clock_ms = self.latest_clock_ms.max(self.clock_ms);
        self.clock.set(self.clock_ms);
    }

    /// Sets the clock to the latest time that it ever showed, so that every scheduled job becomes
    /// due.
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

    /// Runs a script as an operator. The script may run twice. In the same step it counts how many
    /// entries each of these workers holds, because that many jobs may run twice, and no more.
    async fn by_hand(&mut self, workers: &[usize], script: &str, args: &[&str]) {
        let from = Instant::now();
        let script = format!("{LOOK} {script} return held");
        let mut command = vec!["EVAL", &script, "3", STREAM, AWAY, STATE, GROUP];
        command.extend(args);
        let held = self.redis.try_cmd(&command).await;
        if held.is_err() {
            self.surely(&command).await;
        }
        let held: Option<BTreeMap<String, usize>> =
            held.ok().map(|held| redis::from_redis_value(held).unwrap());
        for worker in workers {
            let name = self.consumer(*worker);
            let held = held.as_ref().map(|held| {
                let consumer = held.iter().find(|(consumer, _)| consumer.contains(&name));
                consumer.map_or(0, |(_, held)| *held)
            });
            self.explained_by_loss(*worker, from, held);
        }
    }

    /// A text that only the name of this worker's consumer contains.
    fn consumer(&self, worker: usize) -> String {
        format!("-{}-", self.workers[worker].pid())
    }

    pub(super) async fn consumer_deleted(&mut self, place: usize) {
        let worker = self.alive[place];
        let name = self.consumer(worker);
        self.by_hand(&[worker], DELETE_CONSUMER, &[&name]).await;
    }

    /// Makes the group skip the waiting entries. Later delivers them again, together with some or
    /// all of the entries that workers hold.
    pub(super) async fn group_set_ahead_and_back(&mut self, length: Duration) {
        // The number is drawn here and only once, so that a seed gives the same run whatever Redis
        // holds.
        let choice = self.random.u32(..).to_string();
        let Some(last) = self.last_delivered().await else {
            return;
        };
        self.surely(&["XGROUP", "SETID", STREAM, GROUP, "$"]).await;
        tokio::time::sleep(length / 4).await;
        self.by_hand(&self.alive.clone(), SET_BACK, &[&last, &choice])
            .await;
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
        let destroy = "redis.pcall('XGROUP', 'DESTROY', KEYS[1], ARGV[1])";
        self.by_hand(&self.alive.clone(), destroy, &[]).await;
    }

    pub(super) async fn state_deleted(&mut self) {
        self.by_hand(&self.alive.clone(), "redis.call('DEL', KEYS[3])", &[])
            .await;
    }

    /// Renames the stream and renames it back. This loses nothing, because the operator appends the
    /// entries that were added meanwhile.
    pub(super) async fn stream_renamed_and_back(&mut self, length: Duration) {
        let away = "redis.pcall('RENAMENX', KEYS[1], KEYS[2])";
        self.by_hand(&self.alive.clone(), away, &[]).await;
        tokio::time::sleep(length / 4).await;
        self.by_hand(&self.alive.clone(), PUT_BACK, &[]).await;
    }
}
