//! Reading: new entries, and entries of this consumer whose delivery was lost on the way.

use std::time::Duration;

use super::broker::Broker;
use super::entry::{Entry, EntryId};
use super::error::Error;
use super::leases::RENEW;
use super::link::Link;
use super::reply::{array, counted, delivered, entry_id, flags, int, items};
use super::scripts::{READ, RECOGNISE, TAKE, evalsha, millis};
use crate::service::jobqueue::constants::GROUP;

/// What [`Broker::take`] is to bring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take {
    pub(crate) lease: Duration,
    /// How much longer than an empty reply this one may take.
    pub(crate) time: Duration,
    /// How many bytes all entries in the reply have at most. A single entry with more bytes
    /// comes without its body.
    pub(crate) max_bytes: usize,
    /// Whether this counts as a delivery.
    pub(crate) counts: bool,
}

impl Broker {
    /// Delivers up to `count` waiting entries. Waits up to `block` for the first one, if that is given.
    /// The future sends the command when it is polled first. More may be sent over the link meanwhile.
    ///
    /// The link's reply timeout must be longer than `block`. The reply may take `time` longer
    /// than that. The caller gives the result to [`Link::judge_in`], by the name `read`.
    ///
    /// Not cancel safe: a dropped future's command may still run, and its entries are lost until their
    /// lease ends.
    pub(crate) fn read(
        &self,
        link: &Link,
        count: usize,
        block: Option<Duration>,
        time: Duration,
    ) -> impl Future<Output = Result<Vec<Entry>, Error>> + use<> {
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP").arg(GROUP).arg(self.consumer());
        cmd.arg("COUNT").arg(count);
        if let Some(block) = block {
            // BLOCK 0 would wait for ever.
            let block_ms = block.as_millis().max(1);
            cmd.arg("BLOCK").arg(block_ms.to_string());
        }
        cmd.arg("STREAMS").arg(&self.keys().stream).arg(">");
        let reply = link.send_one(cmd, time);
        async move { delivered(reply.await?) }
    }

    /// Delivers up to `count` waiting entries, without waiting for any. The reply has at most
    /// `max_bytes`: the entry that exceeds them comes without its body. The reply may take
    /// `time` longer than others.
    pub(crate) async fn read_bounded(
        &self,
        link: &mut Link,
        count: usize,
        max_bytes: usize,
        time: Duration,
    ) -> Result<Vec<Entry>, Error> {
        let mut cmd = evalsha(&READ, &[&self.keys().stream]);
        cmd.arg(GROUP).arg(self.consumer());
        cmd.arg(count).arg(max_bytes);
        let reply = link.call_within("read", &cmd, time).await?;
        counted(reply).ok_or_else(|| Error::unexpected_reply("the read script"))
    }

    /// A page of the ids that are pending for this consumer: up to `count` ids after `after`,
    /// in order.
    pub(crate) async fn pending(
        &self,
        link: &mut Link,
        after: Option<EntryId>,
        count: usize,
    ) -> Result<Vec<EntryId>, Error> {
        let start = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let mut cmd = redis::cmd("XPENDING");
        cmd.arg(&self.keys().stream).arg(GROUP);
        cmd.arg(start).arg("+").arg(count).arg(self.consumer());
        let reply = link.call("pending", &cmd).await?;
        items(reply)
            .and_then(|rows| {
                rows.into_iter()
                    .map(|row| entry_id(items(row)?.first()?))
                    .collect()
            })
            .ok_or_else(|| Error::unexpected_reply("XPENDING"))
    }

    /// Delivers entries of `ids` once more that this consumer owns and whose lease runs, as
    /// many as one reply carries. Answers how many of the ids it looked at as well.
    pub(crate) async fn take(
        &self,
        link: &mut Link,
        take: Take,
        ids: &[EntryId],
    ) -> Result<(usize, Vec<Entry>), Error> {
        let mut cmd = evalsha(&TAKE, &[&self.keys().stream]);
        cmd.arg(GROUP).arg(self.consumer());
        cmd.arg(millis(take.lease)).arg(take.max_bytes);
        cmd.arg(u8::from(take.counts)).arg(ids);
        let reply = link.call_within(RENEW, &cmd, take.time).await?;
        let shape = || Error::unexpected_reply("the take script");
        let [looked, entries] = array(reply).ok_or_else(shape)?;
        let looked = int(&looked).and_then(|n| n.try_into().ok());
        let entries = counted(entries);
        looked.zip(entries).ok_or_else(shape)
    }

    /// Answers for which of the ids there is an entry whose job has the digest that stands
    /// beside the id.
    pub(crate) async fn recognise(
        &self,
        link: &mut Link,
        digests: Vec<(EntryId, String)>,
    ) -> Result<Vec<EntryId>, Error> {
        let mut cmd = evalsha(&RECOGNISE, &[&self.keys().stream]);
        for (id, digest) in &digests {
            cmd.arg(id).arg(digest);
        }
        let reply = link.call("recognise", &cmd).await?;
        let same = flags(reply, digests.len(), "the recognise script")?;
        let answered = digests.into_iter().zip(same).filter(|(_, same)| *same);
        Ok(answered.map(|((id, _), _)| id).collect())
    }
}
