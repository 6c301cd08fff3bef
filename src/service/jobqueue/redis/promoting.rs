//! Promoting: jobs that are due move from the scheduled set to the stream.

use std::time::Duration;

use redis::Value;

use super::broker::Broker;
use super::error::Error;
use super::link::Link;
use super::reply::{array, int, items, micros, text};
use super::scripts::{PROMOTE, evalsha};

/// What a promotion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promoted {
    pub(crate) moved: u64,
    /// How long until the next job is due, if there is one.
    pub(crate) due_in: Option<Duration>,
    /// The moved jobs, for the log. Empty unless they were asked for.
    pub(crate) told: Vec<PromotedJob>,
}

/// What the script knows of a job that it moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PromotedJob {
    /// The entry that the job left when it went to the scheduled set.
    pub(crate) left: String,
    pub(crate) entry_id: String,
    pub(crate) job_id: Option<String>,
}

impl Broker {
    /// Moves up to `limit` due jobs to the stream. With `tell`, the reply names them.
    pub(crate) async fn promote(
        &self,
        link: &mut Link,
        limit: usize,
        tell: bool,
    ) -> Result<Promoted, Error> {
        let mut cmd = evalsha(&PROMOTE, &[&self.keys().scheduled, &self.keys().stream]);
        cmd.arg(limit).arg(u8::from(tell));
        let reply = link.call("promote", &cmd).await?;
        promoted(reply).ok_or_else(|| Error::unexpected_reply("the promote script"))
    }
}

/// The reply of the promote script.
fn promoted(reply: Value) -> Option<Promoted> {
    let [moved, due_in, told] = array(reply)?;
    let told = items(told)?.into_iter().map(|job| {
        let [left, entry_id, job_id] = array(job)?.map(text);
        let job_id = job_id.filter(|id| !id.is_empty());
        Some(PromotedJob {
            left: left?,
            entry_id: entry_id?,
            job_id,
        })
    });
    Some(Promoted {
        moved: int(&moved).and_then(|n| n.try_into().ok()).unwrap_or(0),
        due_in: micros(&due_in),
        told: told.collect::<Option<_>>()?,
    })
}
