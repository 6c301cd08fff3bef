//! `jobctl show`: one job, wherever it is.

use super::console::Console;
use super::desk::Desk;
use super::failure::Failure;
use super::list::between;
use super::paint::Tone;
use super::progress::Progress;
use super::table::{Table, whole};
use super::words::{self, absolute, clean, count, relative};
use crate::service::jobqueue::inspector::{JobView, State};

/// Finds a job and shows all that is known of it.
pub(super) async fn run(desk: &mut Desk, id: &str) -> Result<(), Failure> {
    let mut progress = Progress::new(&desk.console, &desk.way);
    let mut looking = |at| progress.looking(at);
    let found = desk.way.call(desk.inspector.find(id, &mut looking)).await?;
    let looked = progress.looked();
    drop(progress);
    match found {
        Some(job) if desk.console.json => desk.console.document(&job),
        Some(job) => {
            let now = desk.way.call(desk.inspector.now_ms()).await?;
            desk.console.say(&text(&job, &desk.console, now))
        }
        None if desk.way.is_interrupted() => Err(Failure::Interrupted(format!(
            "{} was not found in what was looked at: {looked}",
            clean(id)
        ))),
        None => Err(Failure::NotDone(format!(
            "there is no job {}; looked at: {looked}. A finished job is only kept for a while",
            clean(id)
        ))),
    }
}

fn text(job: &JobView, console: &Console, now: u64) -> String {
    let zone = &console.zone;
    let mut table = Table::new(&[whole(""), whole("")]);
    let mut row = |name: &str, tone, value: Option<String>| {
        if let Some(value) = value {
            table.row([(Tone::Dim, format!("  {name}")), (tone, value)]);
        }
    };
    let time =
        |at: Option<u64>| at.map(|at| format!("{} ({})", absolute(at, zone), relative(at, now)));
    row("type", Tone::Plain, job.job_type.clone());
    row("reason", Tone::Bad, job.reason.clone());
    row("error", Tone::Bad, job.error.clone());
    row("attempts", Tone::Plain, Some(attempts(job)));
    row("deliveries", Tone::Plain, job.deliveries.map(count));
    row("worker", Tone::Plain, job.worker.clone());
    row("registered", Tone::Plain, time(job.registered_ms));
    row("due", Tone::Plain, time(job.due_ms));
    row("expires", Tone::Plain, time(job.expires_at_ms));
    row("started", Tone::Plain, time(job.started_ms));
    row("finished", Tone::Plain, time(job.finished_ms));
    let ran = between(job.started_ms, job.finished_ms);
    row(
        "ran for",
        Tone::Plain,
        Some(ran).filter(|ran| !ran.is_empty()),
    );
    row("died", Tone::Plain, time(job.died_ms));
    row("entry", Tone::Dim, job.entry_id.clone());
    row(
        "payload",
        Tone::Plain,
        job.payload.as_ref().map(|payload| payload.get().to_owned()),
    );
    for (name, value) in &job.fields {
        row(name, Tone::Plain, Some(value.clone()));
    }
    let paint = console.paint;
    let id = paint.text(Tone::Strong, &clean(&job.job_id));
    let state = paint.text(Tone::of(job.state), words::state(job.state));
    let cancelling = match job.cancelling {
        true => paint.text(Tone::Bad, ", its worker was asked to end it"),
        false => String::new(),
    };
    let next = match job.cancelling {
        true => String::new(),
        false => paint.text(Tone::Dim, next(job.state)),
    };
    let lines = table.lines_whole(console);
    format!("{id}  {state}{cancelling}\n{lines}\n{next}")
        .trim_end()
        .to_owned()
}

fn attempts(job: &JobView) -> String {
    let failed = format!("{} failed", count(job.attempt.into()));
    match job.max_retry {
        Some(1) => format!("{failed}, at most 1 retry"),
        Some(retries) => format!("{failed}, at most {} retries", count(retries.into())),
        None => failed,
    }
}

/// What can be done to a job in this state.
fn next(state: State) -> &'static str {
    match state {
        State::Scheduled => "  jobctl run ID runs it now; jobctl cancel ID deletes it",
        State::Waiting => "  jobctl cancel ID deletes it",
        State::Running => "  jobctl cancel ID makes its worker end it",
        State::Dead => "  jobctl dead retry ID runs it again; jobctl dead delete ID deletes it",
        State::Done => "",
    }
}
