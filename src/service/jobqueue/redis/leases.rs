//! Leases: an entry's lease is renewed, or the entry is given up so that others may claim it.

use std::borrow::Cow;
use std::time::Duration;

use redis::{Cmd, Value};
use rustc_hash::FxHashSet;

use super::broker::Broker;
use super::entry::EntryId;
use super::error::{Class, Error};
use super::link::Link;
use super::reply::{flags, items};
use super::scripts::{TOUCH, evalsha, millis};
use crate::service::jobqueue::constants::GROUP;

/// How the log calls whatever needs to XCLAIM. All of it has one name, because the heartbeat
/// tries it again and again and so finds out when the trouble is over. The others may have no
/// reason to try again.
pub(super) const RENEW: &str = "renew";

/// What the touch script does to an entry that this consumer owns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Touch {
    Renew,
    /// Anybody may claim it at once.
    PutBack,
    /// It looks as if it had been idle for so long. Anybody may claim it after the rest of a
    /// lease.
    Idle(Duration),
}

impl Touch {
    fn word(self) -> Cow<'static, str> {
        match self {
            Self::Renew => "renew".into(),
            Self::PutBack => "put_back".into(),
            Self::Idle(idle) => millis(idle).into(),
        }
    }
}

impl Broker {
    /// Renews the leases of `ids`. Tells for each whether it was still this consumer's. Without
    /// any ids it still finds out whether Redis would allow it. The reply may take `time`
    /// longer than others.
    pub(crate) async fn renew(
        &self,
        link: &mut Link,
        ids: &[EntryId],
        time: Duration,
    ) -> Result<Vec<bool>, Error> {
        let mut cmd = self.touch(Touch::Renew);
        for id in ids {
            cmd.arg(id).arg("");
        }
        let reply = link.call_within(RENEW, &cmd, time).await?;
        flags(reply, ids.len(), "the touch script")
    }

    /// Which of `ids` somebody wants to be cancelled. None when Redis refuses to tell, until an operator
    /// mends something: jobs go on without that.
    pub(crate) async fn cancelled(
        &self,
        link: &mut Link,
        ids: &[EntryId],
    ) -> Result<FxHashSet<EntryId>, Error> {
        if ids.is_empty() {
            return Ok(FxHashSet::default());
        }
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(&self.keys().cancel).arg(ids);
        let reply = match link.ask(&cmd).await {
            Err(error) if error.class == Class::Operator => Value::Nil,
            reply => reply?,
        };
        let found = ids.iter().zip(items(reply).unwrap_or_default());
        let found = found.filter(|(_, since)| *since != Value::Nil);
        Ok(found.map(|(id, _)| *id).collect())
    }

    /// Sets the delivery counts of entries that this consumer owns, and renews their leases or
    /// puts them back. When this fails the counts are one too high, which is no reason to stop.
    pub(crate) async fn recount(&self, link: &mut Link, touch: Touch, counts: &[(EntryId, u32)]) {
        if !counts.is_empty() {
            let mut cmd = self.touch(touch);
            for (id, count) in counts {
                cmd.arg(id).arg(count);
            }
            drop(link.ask(&cmd).await);
        }
    }

    /// The command that does `touch` to entries. Each entry is added by its id and the delivery
    /// count that it gets; an empty string leaves the count.
    pub(super) fn touch(&self, touch: Touch) -> Cmd {
        let mut cmd = evalsha(&TOUCH, &[&self.keys().stream]);
        cmd.arg(GROUP).arg(self.consumer());
        cmd.arg(touch.word().as_ref());
        cmd
    }
}
