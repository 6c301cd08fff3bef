//! `jobctl stats`: the queue at this moment, once or again and again.

use std::time::Duration;

use super::console::Console;
use super::desk::Desk;
use super::failure::Failure;
use super::paint::Tone;
use super::table::{Table, figure, rest, whole};
use super::words::{count, counted, rate, span};
use crate::service::jobqueue::inspector::{Quantiles, Stats, Totals};

/// Shows the queue once.
pub(super) async fn once(desk: &mut Desk) -> Result<(), Failure> {
    let stats = desk.way.call(desk.inspector.stats()).await?;
    match desk.console.json {
        true => desk.console.document(&stats),
        false => desk.console.say(&text(&stats, &desk.console)),
    }
}

/// Shows the queue every `pause`, until Ctrl-C. While Redis is away it says so, and goes on afterwards.
pub(super) async fn watch(desk: &mut Desk, pause: Duration) -> Result<(), Failure> {
    let over = desk.console.is_screen() && !desk.console.json;
    if over {
        desk.console.say("\u{1b}[2J")?;
    }
    loop {
        match desk.way.call(desk.inspector.stats()).await {
            Ok(stats) if desk.console.json => desk.console.document(&stats)?,
            Ok(stats) if over => desk.console.redraw(&text(&stats, &desk.console))?,
            Ok(stats) => desk
                .console
                .say(&format!("{}\n", text(&stats, &desk.console)))?,
            Err(Failure::Redis(away)) if over => {
                desk.console
                    .redraw(&desk.console.paint.text(Tone::Bad, &away))?;
            }
            Err(Failure::Redis(away)) => desk.console.note(&away),
            Err(failure) => return Err(failure),
        }
        desk.way.rest(pause).await?;
    }
}

fn text(stats: &Stats, console: &Console) -> String {
    let paint = console.paint;
    let mut head = paint.text(Tone::Strong, &format!("queue {}", stats.queue));
    if stats.paused {
        head.push_str(&paint.text(
            Tone::Late,
            "  PAUSED: no job is started until jobctl resume",
        ));
    }
    let mut table = Table::new(&[whole(""), figure(""), rest("")]);
    let mut row = |name: &str, tone, number: Option<u64>, more: String| {
        let tone = if number == Some(0) { Tone::Dim } else { tone };
        let number = number.map(count).unwrap_or_default();
        table.row([
            (Tone::Plain, name.to_owned()),
            (tone, number),
            (Tone::Plain, more),
        ]);
    };
    let none = String::new;
    row("waiting", Tone::Late, Some(stats.waiting), oldest(stats));
    row("running", Tone::Good, Some(stats.running), slots(stats));
    row("scheduled", Tone::Late, Some(stats.scheduled), due(stats));
    row("dead", Tone::Bad, Some(stats.dead), none());
    let last = &stats.last_minute;
    let pace = format!("done, {}/s", rate(last.per_second));
    row("last minute", Tone::Good, Some(last.completed), pace);
    for (name, of) in [("  waited", last.wait_ms), ("  ran", last.run_ms)] {
        if let Some(of) = of {
            row(name, Tone::Plain, None, quantiles(of));
        }
    }
    let today = &stats.today;
    row(
        "today (UTC)",
        Tone::Good,
        Some(today.completed),
        so_far(today),
    );
    let died = today.dead.values().sum();
    row("  died", Tone::Bad, Some(died), reasons(today));
    let mut lines = format!("{head}\n{}", table.lines(console));
    if stats.workers == 0 {
        let alarm = paint.text(Tone::Bad, "no worker lives: no job is run");
        lines.push_str(&format!("\n{alarm}"));
    }
    lines
}

/// How long the oldest job waits.
pub(super) fn oldest(stats: &Stats) -> String {
    let oldest = stats
        .oldest_waiting_ms
        .map(|ms| format!("the oldest for {}", span(ms)));
    oldest.unwrap_or_default()
}

/// Who runs the running jobs.
pub(super) fn slots(stats: &Stats) -> String {
    let slots = counted(stats.slots, "slot");
    let workers = counted(stats.workers, "worker");
    format!("{} of {slots} busy in {workers}", count(stats.slots_busy))
}

/// When the scheduled jobs are due.
pub(super) fn due(stats: &Stats) -> String {
    let due = (stats.due > 0).then(|| format!("{} due", count(stats.due)));
    let next = stats.next_due_ms.filter(|_| stats.due == 0);
    due.or_else(|| next.map(|ms| format!("the next in {}", span(ms))))
        .unwrap_or_default()
}

fn quantiles(of: Quantiles) -> String {
    let Quantiles { p50, p95, max } = of;
    format!("p50 {}, p95 {}, max {}", span(p50), span(p95), span(max))
}

/// What happened today beside what was done.
fn so_far(today: &Totals) -> String {
    let Totals {
        failed,
        retried,
        reclaimed,
        put_back,
        ..
    } = today;
    let [failed, retried, reclaimed, put_back] =
        [failed, retried, reclaimed, put_back].map(|number| count(*number));
    format!("done, {failed} failed, {retried} retried, {reclaimed} reclaimed, {put_back} put back")
}

/// Why jobs died today.
fn reasons(today: &Totals) -> String {
    let reasons = today.dead.iter();
    let reasons = reasons.map(|(reason, number)| format!("{reason} {}", count(*number)));
    reasons.collect::<Vec<_>>().join(", ")
}
