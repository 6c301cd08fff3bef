//! `jobctl list`: the jobs of one state, page by page.

use super::arguments::List;
use super::desk::Desk;
use super::failure::Failure;
use super::paint::Tone;
use super::progress::Progress;
use super::table::{Column, Table, number, rest, text, whole};
use super::words::{self, ago, count, relative, span};
use crate::service::jobqueue::inspector::{JobView, Looking, Page, State};

/// How many jobs are fetched at once when not each of them is shown.
const SIFTED: usize = 500;

/// Shows one page.
pub(super) async fn run(desk: &mut Desk, list: &List) -> Result<(), Failure> {
    let state: State = list.state.into();
    if let Some(after) = list.after.as_deref().filter(|it| !state.has_place(it)) {
        let after = words::clean(after);
        let expected = "expected what another page of this list has said";
        return Err(Failure::Usage(format!(
            "--after: found {after}, {expected}"
        )));
    }
    let page = page(desk, list).await?;
    if desk.console.json {
        desk.console.document(&page)?;
    } else if page.jobs.is_empty() {
        match list.sifts() {
            true => return Err(Failure::NotDone("no such job".to_owned())),
            false => desk.console.note("no job"),
        }
    } else {
        let now = desk.way.call(desk.inspector.now_ms()).await?;
        let table = table(list.state.into(), &page.jobs, now);
        desk.console.say(&table.lines(&desk.console))?;
    }
    if let Some(next) = page.next.as_deref().filter(|_| !desk.console.json) {
        let more = format!("more of them: add --after {}", words::clean(next));
        desk.console.note(&more);
    }
    Ok(())
}

impl List {
    fn sifts(&self) -> bool {
        self.job_type.is_some() || self.worker.is_some() || self.reason.is_some()
    }

    fn wants(&self, job: &JobView) -> bool {
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        is(&self.job_type, &job.job_type)
            && is(&self.worker, &job.worker)
            && is(&self.reason, &job.reason)
    }
}

/// Gathers as many jobs as are wanted. The cursor of the page is behind the last one of them.
async fn page(desk: &mut Desk, list: &List) -> Result<Page, Failure> {
    let state = list.state.into();
    let limit = usize::from(list.limit);
    let mut found = Page {
        jobs: Vec::new(),
        next: list.after.clone(),
    };
    let mut looked = 0;
    // For the words only. A page of all jobs is there at once.
    let of = match list.sifts() {
        true => size(desk, state).await?,
        false => 0,
    };
    let mut progress = Progress::new(&desk.console, &desk.way);
    loop {
        let wanted = limit - found.jobs.len();
        let size = if list.sifts() { SIFTED } else { wanted };
        let mut page = desk
            .way
            .call(desk.inspector.list(state, found.next.as_deref(), size))
            .await?;
        let matching = |page: &Page| -> Vec<usize> {
            let jobs = page.jobs.iter().enumerate();
            jobs.filter(|(_, job)| list.wants(job))
                .map(|(place, _)| place)
                .collect()
        };
        if let Some(last) = matching(&page)
            .get(wanted - 1)
            .filter(|last| **last + 1 < page.jobs.len())
        {
            // More match than are wanted. A shorter page says where to go on.
            let shorter = desk.inspector.list(state, found.next.as_deref(), last + 1);
            page = desk.way.call(shorter).await?;
        }
        looked += u64::try_from(page.jobs.len()).unwrap_or(0);
        found.next = page.next;
        let jobs = page.jobs.into_iter().filter(|job| list.wants(job));
        found.jobs.extend(jobs.take(wanted));
        if found.next.is_none() || found.jobs.len() >= limit {
            return Ok(found);
        }
        if !progress.looking(Looking { state, looked, of }) {
            let done = format!(
                "{} of {} looked through",
                count(looked),
                words::jobs(of, state)
            );
            return Err(Failure::Interrupted(done));
        }
    }
}

/// How many jobs there are in a state.
async fn size(desk: &mut Desk, state: State) -> Result<u64, Failure> {
    let stats = desk.way.call(desk.inspector.stats()).await?;
    Ok(match state {
        State::Waiting => stats.waiting,
        State::Running => stats.running,
        State::Scheduled => stats.scheduled,
        State::Dead => stats.dead,
        // Nobody counts them.
        State::Done => 0,
    })
}

fn columns(state: State) -> Vec<Column> {
    let mut columns = vec![whole("JOB ID")];
    columns.extend(match state {
        State::Waiting => vec![
            text("REGISTERED"),
            text("TYPE"),
            number("FAILED"),
            rest("PAYLOAD"),
        ],
        State::Running => {
            vec![
                text("TYPE"),
                text("WORKER"),
                number("FAILED"),
                rest("PAYLOAD"),
            ]
        }
        State::Scheduled => vec![text("DUE"), text("TYPE"), number("FAILED"), rest("PAYLOAD")],
        State::Dead => {
            vec![
                text("REASON"),
                text("DIED"),
                text("TYPE"),
                number("FAILED"),
                rest("ERROR"),
            ]
        }
        State::Done => vec![
            text("FINISHED"),
            text("TYPE"),
            number("WAITED"),
            number("RAN"),
            number("STANDS FOR"),
            text("WORKER"),
        ],
    });
    columns
}

/// A table of jobs that are all in one state.
pub(super) fn table(state: State, jobs: &[JobView], now: u64) -> Table {
    let mut table = Table::new(&columns(state));
    for job in jobs {
        table.row(row(state, job, now));
    }
    table
}

fn row(state: State, job: &JobView, now: u64) -> Vec<(Tone, String)> {
    let dim = |text: String| (Tone::Dim, text);
    let plain = |text: &Option<String>| (Tone::Plain, text.clone().unwrap_or_default());
    let past = |at: Option<u64>| dim(at.map(|at| ago(at, now)).unwrap_or_default());
    let id = (Tone::Plain, job.job_id.clone());
    let failed = (Tone::Plain, count(job.attempt.into()));
    match state {
        State::Waiting => {
            vec![
                id,
                past(job.registered_ms),
                plain(&job.job_type),
                failed,
                dim(body(job)),
            ]
        }
        State::Running => vec![
            id,
            plain(&job.job_type),
            plain(&job.worker),
            failed,
            match job.cancelling {
                true => (Tone::Bad, "cancelling".to_owned()),
                false => dim(body(job)),
            },
        ],
        State::Scheduled => {
            let due = job.due_ms.unwrap_or(0);
            let tone = if due <= now { Tone::Late } else { Tone::Plain };
            vec![
                id,
                (tone, relative(due, now)),
                plain(&job.job_type),
                failed,
                dim(body(job)),
            ]
        }
        State::Dead => vec![
            id,
            (Tone::Bad, job.reason.clone().unwrap_or_default()),
            past(job.died_ms),
            plain(&job.job_type),
            failed,
            dim(job.error.clone().unwrap_or_default()),
        ],
        State::Done => vec![
            id,
            past(job.finished_ms),
            plain(&job.job_type),
            (
                Tone::Plain,
                between(job.due_ms.or(job.registered_ms), job.started_ms),
            ),
            (Tone::Plain, between(job.started_ms, job.finished_ms)),
            dim(job.stands_for.map(count).unwrap_or_default()),
            plain(&job.worker),
        ],
    }
}

/// The time from one moment to another, when both are known.
pub(super) fn between(from: Option<u64>, to: Option<u64>) -> String {
    let span_of = |(from, to): (u64, u64)| span(to.saturating_sub(from));
    from.zip(to).map(span_of).unwrap_or_default()
}

/// What a job is to do, or what an entry has that is no job.
pub(super) fn body(job: &JobView) -> String {
    match &job.payload {
        Some(payload) => payload.get().to_owned(),
        None => {
            let fields = job
                .fields
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            fields.collect::<Vec<_>>().join(" ")
        }
    }
}
