//! What `jobctl` writes to, and reads answers from: stdout has what was asked for, stderr everything
//! that is said beside it.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use jiff::tz::TimeZone;
use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

use super::arguments::{Colour, Global};
use super::failure::Failure;
use super::paint::Paint;
use super::words::is_hidden;
use crate::time_zone;

/// Where the texts of a command go.
#[derive(Debug)]
pub(super) struct Console {
    pub(super) json: bool,
    pub(super) yes: bool,
    pub(super) paint: Paint,
    /// Whether stderr is a terminal: then it may be written over.
    pub(super) lively: bool,
    pub(super) zone: TimeZone,
}

impl Console {
    pub(super) fn new(global: &Global) -> Self {
        let coloured = match global.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => io::stdout().is_terminal() && wants_colours(),
        };
        Self {
            json: global.json,
            yes: global.yes,
            paint: Paint::new(coloured),
            lively: io::stderr().is_terminal() && is_capable(),
            zone: time_zone::local(),
        }
    }

    /// How many columns the terminal of stdout has. Nothing is cut where there is none.
    #[expect(
        clippy::unused_self,
        reason = "the terminal may change its size meanwhile"
    )]
    pub(super) fn columns(&self) -> Option<usize> {
        terminal_size_of(io::stdout()).map(|(Width(columns), _)| columns.into())
    }

    /// Whether stdout can be written over.
    #[expect(clippy::unused_self, reason = "stdout belongs to the console")]
    pub(super) fn is_screen(&self) -> bool {
        io::stdout().is_terminal() && is_capable()
    }

    /// Writes text to stdout, with a line break behind it.
    pub(super) fn say(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{text}").and_then(|()| out.flush());
        written.map_err(Failure::of_stdout)
    }

    /// Writes text to stdout over what was there before.
    pub(super) fn redraw(&self, text: &str) -> Result<(), Failure> {
        let lines = text.replace('\n', "\u{1b}[K\n");
        self.say(&format!("\u{1b}[H{lines}\u{1b}[K\n\u{1b}[J"))
    }

    /// Writes a JSON document to stdout, in one line.
    pub(super) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(document)
            .map_err(|error| Failure::Stdout(io::Error::other(error)))?;
        self.say(&tame(&json))
    }

    /// Says something beside the answer, on stderr. When nobody can read that, nothing is lost.
    #[expect(clippy::unused_self, reason = "stderr belongs to the console")]
    pub(super) fn note(&self, text: &str) {
        writeln!(io::stderr(), "{text}").ok();
    }
}

/// Escapes what a terminal would act on. In JSON such characters are only inside of strings, where an
/// escape means the same. JSON itself only asks for this below U+0020.
fn tame(json: &str) -> String {
    let mut tame = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Cannot fail because it writes to a text.
                write!(tame, "\\u{unit:04x}").ok();
            }
        } else {
            tame.push(c);
        }
    }
    tame
}

/// Whether people want colours (no-color.org), and the terminal has them.
fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && is_capable()
}

fn is_capable() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::tame;

    #[test]
    fn json_says_the_same_without_characters_that_a_terminal_acts_on() {
        let value = Value::from("\u{1b}[2J \u{7f} \u{9b}31m \u{202e} \u{e0001} 日本 \"q\" \\ \n");
        let json = tame(&value.to_string());
        assert!(!json.contains(super::is_hidden), "{json}");
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
    }
}
