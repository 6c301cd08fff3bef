//! What an operator does to jobs and to the queue. Each action is one step that checks before it writes, and
//! answers what it did: another action, a worker or the promoter may have been first.

use redis::{Cmd, Pipeline, Value};

use super::entry::EntryId;
use super::error::Error;
use super::keys::Keys;
use super::link::Link;
use super::looking::SHOWN_BYTES;
use super::questions::NOT_PAUSED;
use super::reply::{array, entry_id, int, items, text};
use super::scripts::{CANCEL, PAUSE, RETRY, RUN_NOW, evalsha};
use super::window::time_for;
use crate::service::jobqueue::constants::GROUP;

/// What became of the cancel of a job in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// It was not there any more.
    Gone,
    /// No worker had it, and it is deleted.
    Deleted,
    /// The worker of this name is to end it.
    Asked { worker: String },
    /// The worker of this name was told before, and has not ended it yet.
    AskedBefore { worker: String },
}

/// Moves scheduled jobs to the stream: the members of the set, and what is to run. Answers for each the id
/// of its new entry, or none when the member was gone.
pub(crate) async fn run_now(
    link: &mut Link,
    keys: &Keys,
    jobs: &[(&[u8], Vec<u8>)],
) -> Result<Vec<Option<EntryId>>, Error> {
    let mut cmd = evalsha(&RUN_NOW, &[&keys.scheduled, &keys.stream]);
    for (member, job) in jobs {
        cmd.arg(*member).arg(job);
    }
    let reply = act(link, &cmd).await?;
    each(reply, jobs.len(), |id| Some(entry_id(&id))).ok_or_else(|| shape("run now"))
}

/// Deletes scheduled jobs, which are named whole. Answers for each whether it was there.
pub(crate) async fn cancel_scheduled(
    link: &mut Link,
    keys: &Keys,
    members: &[&[u8]],
) -> Result<Vec<bool>, Error> {
    let commands = members.iter().map(|member| {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(&keys.scheduled).arg(*member);
        cmd
    });
    delete(link, commands).await
}

/// Deletes jobs in the stream that wait, and tells the workers of the others to end them. Each is named by
/// its entry and by the value of that entry's first field, so that another job that got the same id is left
/// alone.
pub(crate) async fn cancel(
    link: &mut Link,
    keys: &Keys,
    jobs: &[(EntryId, &[u8])],
) -> Result<Vec<Cancelled>, Error> {
    let mut cmd = evalsha(&CANCEL, &[&keys.stream, &keys.cancel]);
    cmd.arg(GROUP).arg(SHOWN_BYTES);
    for (id, value) in jobs {
        cmd.arg(id).arg(digest(value));
    }
    let reply = act(link, &cmd).await?;
    let cancelled = |outcome| {
        let [outcome, worker] = array(outcome)?;
        let worker = text(worker)?;
        match int(&outcome)? {
            0 => Some(Cancelled::Gone),
            1 => Some(Cancelled::Deleted),
            2 => Some(Cancelled::Asked { worker }),
            3 => Some(Cancelled::AskedBefore { worker }),
            _ => None,
        }
    };
    each(reply, jobs.len(), cancelled).ok_or_else(|| shape("cancel"))
}

/// One dead letter that is to run again.
#[derive(Debug)]
pub(crate) struct Revival<'a> {
    pub(crate) id: EntryId,
    /// The job as it stands in the dead letter.
    pub(crate) was: &'a [u8],
    /// The job as it is to run.
    pub(crate) job: Vec<u8>,
}

/// Moves dead letters back to the stream. Answers for each the id of its new entry, or none when the dead
/// letter was gone.
pub(crate) async fn retry(
    link: &mut Link,
    keys: &Keys,
    letters: &[Revival<'_>],
) -> Result<Vec<Option<EntryId>>, Error> {
    let mut cmd = evalsha(&RETRY, &[&keys.dead, &keys.stream]);
    for letter in letters {
        let digest = sha1_smol::Sha1::from(letter.was).digest().to_string();
        cmd.arg(letter.id).arg(digest).arg(&letter.job);
    }
    let reply = act(link, &cmd).await?;
    each(reply, letters.len(), |id| Some(entry_id(&id))).ok_or_else(|| shape("retry"))
}

/// Deletes dead letters. Answers for each whether it was there.
pub(crate) async fn delete_dead(
    link: &mut Link,
    keys: &Keys,
    ids: &[EntryId],
) -> Result<Vec<bool>, Error> {
    let commands = ids.iter().map(|id| {
        let mut cmd = redis::cmd("XDEL");
        cmd.arg(&keys.dead).arg(id);
        cmd
    });
    delete(link, commands).await
}

/// Pauses the queue, or lets it go on. Answers whether that changed anything.
pub(crate) async fn set_paused(link: &mut Link, keys: &Keys, paused: bool) -> Result<bool, Error> {
    let mut cmd = evalsha(&PAUSE, &[&keys.state]);
    cmd.arg(u8::from(paused)).arg(&NOT_PAUSED);
    let reply = link.call("pause", &cmd).await?;
    let changed = int(&reply).ok_or_else(|| shape("pause"))?;
    Ok(changed == 1)
}

/// The SHA-1 of a value, or of its beginning when it is larger than any job.
fn digest(value: &[u8]) -> String {
    let value = &value[..value.len().min(SHOWN_BYTES)];
    sha1_smol::Sha1::from(value).digest().to_string()
}

async fn act(link: &mut Link, cmd: &Cmd) -> Result<Value, Error> {
    let bytes = cmd.get_packed_command().len();
    link.call_within("act", cmd, time_for(bytes)).await
}

/// Sends commands that delete one thing each, in one round trip.
async fn delete(link: &mut Link, commands: impl Iterator<Item = Cmd>) -> Result<Vec<bool>, Error> {
    let mut pipeline = Pipeline::new();
    commands.for_each(|cmd| {
        pipeline.add_command(cmd);
    });
    let (epoch, count) = (link.epoch(), pipeline.len());
    let time = time_for(pipeline.get_packed_pipeline().len());
    let sent = link.send(pipeline, time);
    let replies = sent.await.and_then(|replies| {
        let replies = replies.into_iter().map(|reply| match reply {
            Value::ServerError(error) => Err(Error::from(&error)),
            reply => Ok(int(&reply) == Some(1)),
        });
        let deleted: Vec<bool> = replies.collect::<Result<_, _>>()?;
        match deleted.len() == count {
            true => Ok(deleted),
            false => Err(shape("delete")),
        }
    });
    link.judge_in(epoch, "act", replies)
}

/// One value for each of `count` jobs. A reply with more or fewer of them is none.
fn each<T>(reply: Value, count: usize, read: impl Fn(Value) -> Option<T>) -> Option<Vec<T>> {
    let outcomes = items(reply).filter(|outcomes| outcomes.len() == count)?;
    outcomes.into_iter().map(read).collect()
}

fn shape(script: &str) -> Error {
    Error::unexpected_reply(&format!("the {script} script"))
}
