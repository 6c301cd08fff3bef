//! What is said while something takes long: a bar on a terminal, otherwise a line each few seconds. It
//! goes to stderr, and nothing is said of what is over soon.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::Console;
use super::way::Way;
use super::words;
use crate::service::jobqueue::inspector::{Looking, State, Swept};

/// What is over by then needs no word.
const SOON: Duration = Duration::from_millis(300);
/// How often a line is written where there is no terminal.
const LINES: Duration = Duration::from_secs(3);
const BAR: &str = "{msg} [{bar:24}] {percent}% after {elapsed}";

/// How far something is. It is asked after each step whether to go on.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    console: &'a Console,
    way: &'a Way,
    started: Instant,
    /// When the last line was written.
    told: Option<Instant>,
    bar: Option<ProgressBar>,
    /// What was looked at in each state, in this order.
    looked: Vec<(State, u64)>,
    swept: Swept,
}

impl<'a> Progress<'a> {
    pub(super) fn new(console: &'a Console, way: &'a Way) -> Self {
        Self {
            console,
            way,
            started: Instant::now(),
            told: None,
            bar: None,
            looked: Vec::new(),
            swept: Swept::default(),
        }
    }

    /// A step of a search. False when it is to end.
    pub(super) fn looking(&mut self, at: Looking) -> bool {
        match self.looked.iter_mut().find(|(state, _)| *state == at.state) {
            Some((_, looked)) => *looked = at.looked.max(*looked),
            None => self.looked.push((at.state, at.looked)),
        }
        let what = format!(
            "looking through {}: {}",
            words::jobs(at.of, at.state),
            words::count(at.looked)
        );
        self.tell(&what, at.looked, at.of);
        !self.way.is_interrupted()
    }

    /// A step of an action on many jobs in `state`. `doing` is what is done to them. False when it is to
    /// end.
    pub(super) fn sweeping(&mut self, doing: &str, state: State, at: Swept) -> bool {
        self.swept = at;
        let what = format!(
            "{doing}: {} of {} looked at, {} {doing}",
            words::count(at.looked),
            words::jobs(at.of, state),
            words::count(at.done)
        );
        self.tell(&what, at.looked, at.of);
        !self.way.is_interrupted()
    }

    /// How far the action had come at its last step.
    pub(super) fn swept(&self) -> Swept {
        self.swept
    }

    /// What was looked at: `3 waiting jobs, 1,000 scheduled jobs`.
    pub(super) fn looked(&self) -> String {
        let parts = self
            .looked
            .iter()
            .map(|(state, looked)| words::jobs(*looked, *state));
        let parts: Vec<_> = parts.collect();
        match parts.is_empty() {
            true => "nothing yet".to_owned(),
            false => parts.join(", "),
        }
    }

    fn tell(&mut self, what: &str, looked: u64, of: u64) {
        if self.started.elapsed() < SOON {
            return;
        }
        if self.console.lively {
            let bar = self
                .bar
                .get_or_insert_with(|| new_bar(self.started.elapsed()));
            bar.set_length(of.max(looked));
            bar.set_position(looked);
            bar.set_message(what.to_owned());
        } else if self.told.is_none_or(|told| told.elapsed() >= LINES) {
            self.told = Some(Instant::now());
            let percent = (looked.min(of) * 100).checked_div(of).unwrap_or(100);
            let spent = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.console
                .note(&format!("{what} ({percent}%) after {}", words::span(spent)));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(elapsed: Duration) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_elapsed(elapsed)
}
