//! `jobctl workers`: who lives, and what each runs.

use serde::Serialize;

use super::console::Console;
use super::desk::Desk;
use super::failure::Failure;
use super::list::body;
use super::paint::Tone;
use super::table::{Table, number, rest, text, whole};
use super::words::{ago, clean, count};
use crate::service::jobqueue::inspector::{JobView, WorkerView};

/// How many jobs of a worker are shown.
const JOBS: usize = 10;

/// The document of `--json`.
#[derive(Serialize)]
struct Workers {
    workers: Vec<WorkerView>,
}

/// Shows all workers. Without a live one that is not well.
pub(super) async fn run(desk: &mut Desk) -> Result<(), Failure> {
    let workers = desk.way.call(desk.inspector.workers(JOBS)).await?;
    if desk.console.json {
        return desk.console.document(&Workers { workers });
    }
    if workers.is_empty() {
        desk.console.note("no worker lives: no job is run");
        return Ok(());
    }
    let now = desk.way.call(desk.inspector.now_ms()).await?;
    desk.console
        .say(&table(&workers, now).lines(&desk.console))?;
    let busy = workers.iter().filter(|worker| !worker.jobs.is_empty());
    for worker in busy {
        desk.console
            .say(&format!("\n{}", of(worker, &desk.console)))?;
    }
    Ok(())
}

fn table(workers: &[WorkerView], now: u64) -> Table {
    let mut table = Table::new(&[
        whole("WORKER"),
        text("STATE"),
        number("RUNNING"),
        number("SLOTS"),
        number("PENDING"),
        text("SEEN"),
        text("STARTED"),
        number("PID"),
        text("HOST"),
        rest("VERSION"),
    ]);
    for worker in workers {
        let figure = |number: Option<u64>| (Tone::Plain, number.map(count).unwrap_or_default());
        let past = |at: Option<u64>| (Tone::Dim, at.map(|at| ago(at, now)).unwrap_or_default());
        let plain = |text: &Option<String>| (Tone::Dim, text.clone().unwrap_or_default());
        let (tone, state) = life(worker);
        table.row([
            (Tone::Plain, worker.name.clone()),
            (tone, state.to_owned()),
            figure(worker.running),
            figure(worker.concurrency),
            figure(Some(worker.pending)),
            past(worker.seen_ms),
            past(worker.started_ms),
            (
                Tone::Dim,
                worker.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            ),
            plain(&worker.host),
            plain(&worker.version),
        ]);
    }
    table
}

/// Whether a worker lives, in its colour.
pub(super) fn life(worker: &WorkerView) -> (Tone, &'static str) {
    match worker.alive {
        true => (Tone::Good, "alive"),
        false => (Tone::Bad, "gone"),
    }
}

/// What one worker has.
fn of(worker: &WorkerView, console: &Console) -> String {
    let mut table = Table::new(&[whole("  JOB ID"), text("TYPE"), rest("PAYLOAD")]);
    for job in &worker.jobs {
        table.row(row(job));
    }
    let name = console.paint.text(Tone::Strong, &clean(&worker.name));
    let more = worker
        .pending
        .saturating_sub(u64::try_from(worker.jobs.len()).unwrap_or(0));
    let more = match more {
        0 => String::new(),
        more => format!("\n  and {} more", count(more)),
    };
    format!("{name}\n{}{more}", table.lines(console))
}

fn row(job: &JobView) -> [(Tone, String); 3] {
    [
        (Tone::Plain, format!("  {}", job.job_id)),
        (Tone::Plain, job.job_type.clone().unwrap_or_default()),
        (Tone::Dim, body(job)),
    ]
}
