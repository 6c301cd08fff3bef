//! What colours mean: green is well (running, done), yellow waits or is late, red is dead or away, and
//! what is dim is beside the point.

use clap::builder::styling::{AnsiColor, Effects, Style};

use crate::service::jobqueue::inspector::State;

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Late,
    Bad,
    Dim,
    Strong,
}

impl Tone {
    /// The tone of the jobs in a state.
    pub(super) fn of(state: State) -> Self {
        match state {
            State::Running | State::Done => Self::Good,
            State::Waiting | State::Scheduled => Self::Late,
            State::Dead => Self::Bad,
        }
    }
}

/// Puts colours into text, or leaves it alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    coloured: bool,
}

impl Paint {
    pub(super) fn new(coloured: bool) -> Self {
        Self { coloured }
    }

    pub(super) fn is_coloured(self) -> bool {
        self.coloured
    }

    /// The text in its colour.
    pub(super) fn text(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            _ if !self.coloured => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Late => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Dim => Style::new().effects(Effects::DIMMED),
            Tone::Strong => Style::new().effects(Effects::BOLD),
        };
        format!("{style}{text}{style:#}")
    }
}
