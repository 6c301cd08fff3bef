//! Tables for people. On a terminal a table fits its width: columns that matter less are left out,
//! and the last one has the rest of the line. Ids are never cut. In a pipe nothing is.

use super::console::Console;
use super::paint::{Paint, Tone};
use super::words::{self, clean, cut, width};

/// What is between two columns.
const GAP: usize = 2;
/// A column whose text may be cut has at least so many columns of the terminal.
const LEAST: usize = 12;
/// A type, a reason or a worker that is longer is cut on a terminal.
const MOST: usize = 40;

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Is always there, and whole.
    Whole,
    /// The same, to the right.
    Figure,
    Text,
    /// To the right.
    Number,
    /// Has what is left of the line.
    Rest,
}

/// A column that is always there, and whole.
pub(super) const fn whole(title: &'static str) -> Column {
    Column {
        title,
        kind: Kind::Whole,
    }
}

/// A column with numbers that is always there, and whole.
pub(super) const fn figure(title: &'static str) -> Column {
    Column {
        title,
        kind: Kind::Figure,
    }
}

/// A column that is left out where there is no place for it.
pub(super) const fn text(title: &'static str) -> Column {
    Column {
        title,
        kind: Kind::Text,
    }
}

/// The same, with numbers.
pub(super) const fn number(title: &'static str) -> Column {
    Column {
        title,
        kind: Kind::Number,
    }
}

/// A column that has what is left of the line.
pub(super) const fn rest(title: &'static str) -> Column {
    Column {
        title,
        kind: Kind::Rest,
    }
}

/// A table, row by row.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(Tone, String)>>,
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Its texts may be anybody's.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = (Tone, String)>) {
        let cells = cells
            .into_iter()
            .map(|(tone, text)| (tone, clean(&text).into_owned()));
        self.rows.push(cells.collect());
    }

    /// The lines of the table.
    pub(super) fn lines(&self, console: &Console) -> String {
        self.lines_in(console.columns(), console.paint)
    }

    /// The lines of the table, as long as they are.
    pub(super) fn lines_whole(&self, console: &Console) -> String {
        self.lines_in(None, console.paint)
    }

    fn lines_in(&self, columns: Option<usize>, paint: Paint) -> String {
        let lines = self.parts(columns).into_iter();
        let lines = lines.map(|parts| {
            let parts = parts.iter().map(|(tone, text)| paint.text(*tone, text));
            parts.collect::<String>()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The lines in pieces of one tone each, for whoever has colours of its own. The titles are the first
    /// line.
    pub(super) fn parts(&self, columns: Option<usize>) -> Vec<Vec<(Tone, String)>> {
        let widths = self.widths(columns);
        let mut lines = Vec::with_capacity(self.rows.len() + 1);
        if self.columns.iter().any(|column| !column.title.is_empty()) {
            let titles = self.columns.iter().map(|column| (Tone::Dim, column.title));
            lines.push(self.line(&widths, titles));
        }
        for row in &self.rows {
            let cells = row.iter().map(|(tone, text)| (*tone, text.as_str()));
            lines.push(self.line(&widths, cells));
        }
        lines
    }

    fn line<'a>(
        &self,
        widths: &[Option<usize>],
        cells: impl Iterator<Item = (Tone, &'a str)>,
    ) -> Vec<(Tone, String)> {
        let mut parts = Vec::new();
        // Spaces are only written in front of the next text, so that none end a line.
        let mut spaces = 0;
        for ((column, width), (tone, text)) in self.columns.iter().zip(widths).zip(cells) {
            let Some(width) = width else { continue };
            let text = cut(text, *width);
            let free = width.saturating_sub(words::width(&text));
            let before = match column.kind {
                Kind::Figure | Kind::Number => free,
                _ => 0,
            };
            spaces += before;
            if !text.is_empty() {
                parts.push((Tone::Plain, " ".repeat(spaces)));
                parts.push((tone, text.into_owned()));
                spaces = 0;
            }
            spaces += free - before + GAP;
        }
        parts
    }

    /// How wide each column is; none when it is left out.
    fn widths(&self, columns: Option<usize>) -> Vec<Option<usize>> {
        let natural = |place: usize, column: &Column| {
            let cells = self.rows.iter().map(|row| width(&row[place].1));
            cells.chain([width(column.title)]).max().unwrap_or(0)
        };
        let natural = self
            .columns
            .iter()
            .enumerate()
            .map(|(place, column)| natural(place, column));
        let natural: Vec<usize> = natural.collect();
        let Some(columns) = columns else {
            return natural.into_iter().map(Some).collect();
        };
        let kinds = || self.columns.iter().map(|column| column.kind);
        // What each column has at least.
        let least = kinds().zip(&natural).map(|(kind, natural)| match kind {
            Kind::Whole | Kind::Figure => *natural,
            Kind::Text | Kind::Number => (*natural).min(MOST),
            Kind::Rest => (*natural).min(LEAST),
        });
        let mut widths: Vec<Option<usize>> = least.map(Some).collect();
        let taken = |widths: &[Option<usize>]| -> usize {
            let shown = widths.iter().flatten();
            shown
                .map(|width| width + GAP)
                .sum::<usize>()
                .saturating_sub(GAP)
        };
        // The column before the rest matters less than the rest, and the later ones less than the earlier.
        let optional = kinds().enumerate().rev();
        let optional: Vec<_> = optional
            .filter(|(_, kind)| !matches!(kind, Kind::Whole | Kind::Figure))
            .collect();
        let order = optional.iter().filter(|(_, kind)| *kind != Kind::Rest);
        let order = order.chain(optional.iter().filter(|(_, kind)| *kind == Kind::Rest));
        for (place, _) in order {
            if taken(&widths) <= columns {
                break;
            }
            widths[*place] = None;
        }
        let left = columns.saturating_sub(taken(&widths));
        let rest = kinds().position(|kind| kind == Kind::Rest);
        if let Some(place) = rest
            && let Some(width) = &mut widths[place]
        {
            *width = natural[place].min(*width + left);
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            whole("JOB ID"),
            text("TYPE"),
            number("TRIES"),
            rest("ERROR"),
        ]);
        let row = |cells: [&str; 4]| cells.map(|cell| (Tone::Plain, cell.to_owned()));
        table.row(row([
            "0123456789abcdef",
            "日本語",
            "1",
            "failed as asked by somebody",
        ]));
        table.row(row(["1-0", "demo:x", "1,234", "\u{1b}[2J"]));
        table
    }

    #[test]
    fn columns_are_aligned_by_what_they_take_on_a_terminal() {
        assert_eq!(
            table().lines_in(None, Paint::new(false)),
            "JOB ID            TYPE    TRIES  ERROR\n\
             0123456789abcdef  日本語      1  failed as asked by somebody\n\
             1-0               demo:x  1,234  \\u{1b}[2J"
        );
    }

    #[test]
    fn a_table_fits_its_terminal_and_ids_are_never_cut() {
        for columns in 1..100 {
            let lines = table().lines_in(Some(columns), Paint::new(false));
            for line in lines.lines() {
                assert!(width(line) <= columns.max(16), "{columns}: {line}");
            }
            assert!(lines.contains("0123456789abcdef"), "{lines}");
        }
        let at = |columns| {
            table()
                .lines_in(Some(columns), Paint::new(false))
                .lines()
                .nth(1)
                .unwrap()
                .to_owned()
        };
        assert_eq!(at(50), "0123456789abcdef  日本語      1  failed as asked …");
        assert_eq!(at(40), "0123456789abcdef  日本語  failed as ask…");
        assert_eq!(at(16), "0123456789abcdef");
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let mut table = Table::new(&[whole("")]);
        table.row([(Tone::Bad, "x".to_owned())]);
        assert_eq!(table.lines_in(None, Paint::new(false)), "x");
        assert!(
            table
                .lines_in(Some(80), Paint::new(true))
                .contains("\u{1b}[")
        );
    }
}
