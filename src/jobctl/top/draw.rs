//! Draws the screen of `top`. What does not fit is left out: on a low terminal only the list in focus
//! is there, and in a narrow one the figures take more lines.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::super::list;
use super::super::paint::{Paint, Tone};
use super::super::stats::{due, oldest, slots};
use super::super::table::{Table, rest, text, whole};
use super::super::words::{clean, count, rate, span, width};
use super::super::workers::life;
use super::feed::Snapshot;
use super::screen::{Pane, Screen};
use crate::service::jobqueue::inspector::{Quantiles, State, Stats, WorkerView};

/// A terminal that is lower shows one list at a time.
const ALL_PANES: u16 = 18;
/// The height of the graph.
const GRAPH: u16 = 3;
/// What is between two figures.
const GAP: &str = "   ";

type Piece = (Tone, String);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    let head = flow(&head(screen), area.width.into());
    let height = u16::try_from(head.len())
        .unwrap_or(u16::MAX)
        .min(area.height / 2);
    let graph = if area.height >= ALL_PANES { GRAPH } else { 0 };
    let [top, middle, panes, foot] = Layout::vertical([
        Constraint::Length(height),
        Constraint::Length(graph),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    let lines = head.iter().map(|parts| line(parts, screen.paint));
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), top);
    draw_graph(frame, screen, middle);
    if let Some(latest) = &screen.latest {
        draw_panes(frame, screen, latest, panes);
    }
    let foot_line = line(&[foot_words(screen)], screen.paint);
    frame.render_widget(Paragraph::new(foot_line), foot);
}

/// The figures, in pieces that are not divided.
fn head(screen: &Screen) -> Vec<Piece> {
    let mut pieces = vec![(
        Tone::Strong,
        format!("queue {} at {}", screen.queue, screen.redis),
    )];
    if let Some(away) = &screen.away {
        pieces.push((Tone::Bad, clean(away).into_owned()));
    }
    let Some(latest) = &screen.latest else {
        if screen.away.is_none() {
            pieces.push((Tone::Dim, "looking".to_owned()));
        }
        return pieces;
    };
    let stats = &latest.stats;
    if stats.paused {
        pieces.push((Tone::Late, "PAUSED".to_owned()));
    }
    // What was seen before Redis went away is out of date.
    let tone = |tone| {
        if screen.away.is_some() {
            Tone::Dim
        } else {
            tone
        }
    };
    pieces.extend(
        figures(stats)
            .into_iter()
            .map(|(each, text)| (tone(each), text)),
    );
    pieces
}

fn figures(stats: &Stats) -> Vec<Piece> {
    let figure = |tone, name: &str, number: u64, more: String| {
        let tone = if number == 0 { Tone::Plain } else { tone };
        let more = if more.is_empty() {
            more
        } else {
            format!(" ({more})")
        };
        (tone, format!("{name} {}{more}", count(number)))
    };
    let last = &stats.last_minute;
    let quantiles = |name: &str, of: Option<Quantiles>| {
        of.map(|of| {
            (
                Tone::Plain,
                format!("{name} p50 {}, p95 {}", span(of.p50), span(of.p95)),
            )
        })
    };
    let mut pieces = vec![
        figure(Tone::Late, "waiting", stats.waiting, oldest(stats)),
        figure(Tone::Good, "running", stats.running, slots(stats)),
        figure(Tone::Late, "scheduled", stats.scheduled, due(stats)),
        figure(Tone::Bad, "dead", stats.dead, String::new()),
        (
            Tone::Plain,
            format!("last minute {}/s", rate(last.per_second)),
        ),
    ];
    pieces.extend(quantiles("waited", last.wait_ms));
    pieces.extend(quantiles("ran", last.run_ms));
    if stats.workers == 0 {
        pieces.push((Tone::Bad, "no worker lives".to_owned()));
    }
    pieces
}

/// Puts pieces into lines of at most `columns` columns. One that is wider has a line of its own, which
/// the terminal cuts.
fn flow(pieces: &[Piece], columns: usize) -> Vec<Vec<Piece>> {
    let mut lines: Vec<Vec<Piece>> = Vec::new();
    let mut taken = 0;
    for (tone, text) in pieces {
        let wide = width(text);
        match lines
            .last_mut()
            .filter(|_| taken + GAP.len() + wide <= columns)
        {
            Some(line) => {
                line.push((Tone::Plain, GAP.to_owned()));
                line.push((*tone, text.clone()));
                taken += GAP.len() + wide;
            }
            None => {
                lines.push(vec![(*tone, text.clone())]);
                taken = wide;
            }
        }
    }
    lines
}

fn draw_graph(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let shown = screen.throughput.iter().rev().take(area.width.into()).rev();
    let shown: Vec<u64> = shown.copied().collect();
    let style = style(Tone::Good, screen.paint);
    frame.render_widget(Sparkline::default().data(&shown).style(style), area);
}

fn draw_panes(frame: &mut Frame<'_>, screen: &Screen, latest: &Snapshot, area: Rect) {
    let shown: Vec<Pane> = match frame.area().height >= ALL_PANES {
        true => Pane::ALL.to_vec(),
        false => vec![screen.focus],
    };
    let places = Layout::vertical(shown.iter().map(|_| Constraint::Fill(1))).split(area);
    for (pane, place) in shown.into_iter().zip(places.iter()) {
        draw_pane(frame, screen, latest, pane, *place);
    }
}

fn draw_pane(frame: &mut Frame<'_>, screen: &Screen, latest: &Snapshot, pane: Pane, area: Rect) {
    let (title, table) = match pane {
        Pane::Workers => ("Workers, and what each runs", workers(&latest.workers)),
        Pane::Running => (
            "Running",
            list::table(State::Running, &latest.running, latest.now_ms),
        ),
        Pane::Dead => (
            "Newest dead letters",
            list::table(State::Dead, &latest.dead, latest.now_ms),
        ),
    };
    let in_focus = pane == screen.focus;
    let title = format!("{} {title}", if in_focus { ">" } else { " " });
    let tone = if in_focus { Tone::Strong } else { Tone::Dim };
    let mut rows = table.parts(Some(area.width.into()));
    let scrolled = if in_focus { screen.scrolled } else { 0 };
    // The first line has the titles of the columns.
    let end = (scrolled + 1).min(rows.len());
    rows.drain(1.min(end)..end);
    let mut lines = vec![line(&[(tone, title)], screen.paint)];
    lines.extend(rows.iter().map(|parts| line(parts, screen.paint)));
    frame.render_widget(Paragraph::new(lines), area);
}

fn workers(workers: &[WorkerView]) -> Table {
    let mut table = Table::new(&[whole("WORKER"), text("STATE"), text("SLOTS"), rest("RUNS")]);
    for worker in workers {
        let (tone, state) = life(worker);
        let busy = worker.running.unwrap_or(worker.pending);
        let slots = match worker.concurrency {
            Some(slots) => format!("{} of {}", count(busy), count(slots)),
            None => count(busy),
        };
        let jobs = worker.jobs.iter().map(|job| {
            let job_type = job.job_type.as_deref().unwrap_or("no job");
            format!("{job_type} {}", job.job_id)
        });
        let jobs = jobs.collect::<Vec<_>>().join(", ");
        table.row([
            (Tone::Plain, worker.name.clone()),
            (tone, state.to_owned()),
            (Tone::Plain, slots),
            (Tone::Dim, jobs),
        ]);
    }
    table
}

fn foot_words(screen: &Screen) -> Piece {
    match screen.asks {
        Some(true) => (
            Tone::Late,
            "pause the queue? y: yes, any other key: no".to_owned(),
        ),
        Some(false) => (
            Tone::Late,
            "let the queue go on? y: yes, any other key: no".to_owned(),
        ),
        None => (
            Tone::Dim,
            "q end   p pause or go on   Tab next list   arrows move".to_owned(),
        ),
    }
}

fn line(parts: &[Piece], paint: Paint) -> Line<'static> {
    let spans = parts
        .iter()
        .map(|(tone, text)| Span::styled(text.clone(), style(*tone, paint)));
    Line::from(spans.collect::<Vec<_>>())
}

fn style(tone: Tone, paint: Paint) -> Style {
    let plain = Style::new();
    match tone {
        _ if !paint.is_coloured() => plain,
        Tone::Plain => plain,
        Tone::Good => plain.fg(Color::Green),
        Tone::Late => plain.fg(Color::Yellow),
        Tone::Bad => plain.fg(Color::Red),
        Tone::Dim => plain.add_modifier(Modifier::DIM),
        Tone::Strong => plain.add_modifier(Modifier::BOLD),
    }
}
