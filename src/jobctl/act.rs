//! What is done to jobs that are named by their ids. [`super::sweep`] does it to all that match.

use serde::Serialize;

use super::ask::confirm;
use super::console::Console;
use super::deed::Deed;
use super::desk::Desk;
use super::failure::Failure;
use super::paint::Tone;
use super::progress::Progress;
use super::words::{clean, counted, state};
use crate::service::jobqueue::inspector::{Acted, JobView};

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    jobs: Vec<Part<'a>>,
}

/// What became of one job.
#[derive(Debug, Serialize)]
struct Part<'a> {
    /// As it was given.
    id: &'a str,
    outcome: Outcome,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The job as it was before, or as it is when nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Done,
    /// Its worker was asked to do it.
    Asked,
    Refused,
    Missing,
}

/// Does it to these jobs, one after the other. What cannot be done to one of them stops none of the others.
pub(super) async fn run(desk: &mut Desk, deed: Deed, ids: &[String]) -> Result<(), Failure> {
    if deed.asks_for_each() {
        let names: Vec<_> = ids.iter().map(|id| clean(id)).collect();
        let letters = counted(u64::try_from(ids.len()).unwrap_or(0), "dead letter");
        let question = format!("{} {letters} for good ({})?", deed.verb(), names.join(", "));
        confirm(&desk.console, &desk.way, &question).await?;
    }
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut end = Ok(());
    for id in ids {
        match act(desk, deed, id).await {
            Ok(part) => {
                tell(&part, &desk.console, deed)?;
                parts.push(part);
            }
            Err(failure) => {
                end = Err(failure);
                break;
            }
        }
    }
    let failed = parts
        .iter()
        .any(|part| matches!(part.outcome, Outcome::Refused | Outcome::Missing));
    if desk.console.json {
        desk.console.document(&Report { jobs: parts })?;
    }
    end?;
    if failed { Err(Failure::Told) } else { Ok(()) }
}

async fn act<'a>(desk: &mut Desk, deed: Deed, id: &'a str) -> Result<Part<'a>, Failure> {
    let mut progress = Progress::new(&desk.console, &desk.way);
    let mut looking = |at| progress.looking(at);
    let acted = desk
        .way
        .call(desk.inspector.act(deed.action(), id, &mut looking))
        .await?;
    let part = |outcome, why, job| Part {
        id,
        outcome,
        why,
        job,
    };
    Ok(match acted {
        Acted::Done(job) => part(Outcome::Done, None, Some(job)),
        Acted::Asked(job) => part(Outcome::Asked, None, Some(job)),
        Acted::Refused { job, why } => part(Outcome::Refused, Some(why), Some(job)),
        Acted::Missing { looked } if desk.way.is_interrupted() => {
            return Err(Failure::Interrupted(format!(
                "{} was not found yet: {looked}",
                clean(id)
            )));
        }
        Acted::Missing { looked } => part(Outcome::Missing, Some(looked), None),
    })
}

/// Says what became of a job. What was not done is on stderr, with `--json` too.
fn tell(part: &Part<'_>, console: &Console, deed: Deed) -> Result<(), Failure> {
    // An entry id may be that of more than one job, so the job is named that it was done to.
    let id = match &part.job {
        Some(job) if job.job_id != part.id => {
            format!("{} (job {})", clean(part.id), clean(&job.job_id))
        }
        _ => clean(part.id).into_owned(),
    };
    let why = clean(part.why.as_deref().unwrap_or_default());
    let was = part.job.as_ref().map_or("", |job| state(job.state));
    let said = match part.outcome {
        Outcome::Done => format!(
            "{id}: {} (it was {was})",
            console.paint.text(Tone::Good, deed.done())
        ),
        Outcome::Asked => {
            let worker = part.job.as_ref().and_then(|job| job.worker.as_deref());
            let worker = clean(worker.unwrap_or_default());
            let asked = console.paint.text(Tone::Late, "cancelling");
            format!(
                "{id}: {asked} (worker {worker}, or whoever takes over from it, is to end it with the next \
                 heartbeat)"
            )
        }
        Outcome::Refused => {
            console.note(&format!("error: {id}: {why}"));
            return Ok(());
        }
        Outcome::Missing => {
            console.note(&format!(
                "error: {id}: there is no such job; looked at: {why}"
            ));
            return Ok(());
        }
    };
    if console.json {
        Ok(())
    } else {
        console.say(&said)
    }
}
