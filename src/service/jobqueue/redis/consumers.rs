//! Consumers: who is in the group, and how a connection that waits in a read is ended.

use std::time::Duration;

use super::broker::Broker;
use super::error::Error;
use super::link::Link;
use super::reclaiming::LeaseTimes;
use super::reply::int;
use super::scripts::{REMOVE_CONSUMERS, TIDY, evalsha, millis};
use crate::service::jobqueue::constants::GROUP;

/// A living worker looks for expired leases more often than this, however far away it is.
const MIN_CONSUMER_IDLE: Duration = Duration::from_secs(5);

/// For how many days counts are kept.
const TOTALS_DAYS: u32 = 90;

impl Broker {
    /// Removes other consumers that have nothing pending and were idle for two leases of their
    /// own. After a stall it removes none until the living workers had time to look for expired
    /// leases again. Answers how many it removed.
    pub(crate) async fn remove_consumers(
        &self,
        link: &mut Link,
        times: &LeaseTimes,
    ) -> Result<i64, Error> {
        let recovery = times.reconnect + 2 * times.interval;
        self.remove(link, false, recovery.max(MIN_CONSUMER_IDLE))
            .await
    }

    /// Removes this consumer, if it has nothing pending.
    pub(crate) async fn leave(&self, link: &mut Link) -> Result<i64, Error> {
        self.remove(link, true, Duration::ZERO).await
    }

    async fn remove(
        &self,
        link: &mut Link,
        leaving: bool,
        recovery: Duration,
    ) -> Result<i64, Error> {
        let keys = self.keys();
        let mut cmd = evalsha(
            &REMOVE_CONSUMERS,
            &[&keys.stream, &keys.leases, &keys.state, &keys.workers],
        );
        cmd.arg(GROUP).arg(self.consumer()).arg(u8::from(leaving));
        cmd.arg(millis(MIN_CONSUMER_IDLE)).arg(millis(recovery));
        let reply = link.call("remove consumers", &cmd).await?;
        Ok(int(&reply).unwrap_or(0))
    }

    /// Drops cancels whose entries have ended, and old counts. Nothing depends on it, so its failure is not
    /// told.
    pub(crate) async fn tidy(&self, link: &mut Link) {
        let keys = self.keys();
        let mut cmd = evalsha(&TIDY, &[&keys.stream, &keys.cancel, &keys.totals]);
        cmd.arg(GROUP).arg(TOTALS_DAYS);
        drop(link.ask(&cmd).await);
    }

    /// The id by which other connections can name this one. There is none when an ACL keeps it
    /// secret.
    pub(crate) async fn client_id(&self, link: &mut Link) -> Option<i64> {
        let mut cmd = redis::cmd("CLIENT");
        cmd.arg("ID");
        int(&link.ask(&cmd).await.ok()?)
    }

    /// Ends the blocking read of the connection `client_id`, if it is in one and an ACL allows
    /// it.
    pub(crate) async fn unblock(&self, link: &mut Link, client_id: i64) {
        let mut cmd = redis::cmd("CLIENT");
        cmd.arg("UNBLOCK").arg(client_id);
        drop(link.ask(&cmd).await);
    }
}
