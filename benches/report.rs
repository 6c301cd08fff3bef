//! Collects the measured figures. Prints them as a table and writes them to
//! `target/bench/results.json`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The value that a figure must reach.
#[derive(Clone, Copy)]
enum Target {
    /// The figure divided by its limit must be at least this.
    Share(f64),
    Below(f64),
    AtMost(f64),
}

/// The targets, by the names of the figures. A name that ends with a dot stands for all figures below it
/// that have a limit.
const TARGETS: &[(&str, Target)] = &[
    ("drain.noop.c100.w1", Target::Share(0.85)),
    ("drain.noop.c10.w1", Target::Share(0.85)),
    ("drain.print.c100.w1", Target::Share(0.75)),
    ("enqueue.client.t1", Target::Share(0.9)),
    ("enqueue.client.t50", Target::Share(0.65)),
    ("enqueue.batch", Target::Share(0.9)),
    ("enqueue.http", Target::Share(0.65)),
    ("delayed.due_at_once", Target::Share(0.5)),
    ("pickup.p99_ms", Target::Below(1.0)),
    ("lateness.p99_ms", Target::Below(2.0)),
    ("lateness.early", Target::AtMost(0.0)),
    ("cost.idle_cpu_percent", Target::AtMost(0.1)),
    ("cost.idle_commands_per_s", Target::AtMost(4.0)),
    ("cost.idle_rss_mib", Target::Below(20.0)),
    ("cost.peak_rss_mib", Target::Below(64.0)),
    ("cost.redis_bytes_per_waiting_job", Target::AtMost(200.0)),
    ("growth.backlog.ratio", Target::AtMost(1.3)),
    ("growth.scheduled.1k", Target::AtMost(13.5)),
    ("growth.scheduled.ratio", Target::AtMost(1.3)),
    ("growth.pending.ratio", Target::AtMost(1.3)),
    ("growth.workers.ratio", Target::AtMost(1.3)),
    ("far.drain.", Target::Share(0.8)),
    ("far.enqueue.one.", Target::Share(0.9)),
];

/// The figures, in the order of their first sample.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

struct Figure {
    name: String,
    unit: String,
    samples: Vec<f64>,
    /// The name of the limit that the figure is compared with. Empty for a figure without one.
    limit: String,
    /// The figure divided by its limit, in each run.
    ratios: Vec<f64>,
    trouble: Trouble,
}

#[derive(PartialEq, Eq)]
enum Trouble {
    None,
    /// The figure cannot be measured here. The text says why.
    Absent(String),
    /// The measurement failed. The text says why.
    Failed(String),
}

impl Report {
    pub(crate) fn sample(&mut self, name: &str, unit: &str, value: f64) {
        let figure = self.figure(name);
        unit.clone_into(&mut figure.unit);
        figure.samples.push(value);
    }

    pub(crate) fn ratio(&mut self, name: &str, limit: &str, ratio: f64) {
        let figure = self.figure(name);
        limit.clone_into(&mut figure.limit);
        figure.ratios.push(ratio);
    }

    pub(crate) fn absent(&mut self, name: &str, why: &str) {
        self.figure(name).trouble = Trouble::Absent(why.to_owned());
    }

    pub(crate) fn is_absent(&self, name: &str) -> bool {
        let figure = self.figures.iter().find(|figure| figure.name == name);
        figure.is_some_and(|figure| matches!(figure.trouble, Trouble::Absent(_)))
    }

    pub(crate) fn failed(&mut self, name: &str, why: &str) {
        self.figure(name).trouble = Trouble::Failed(why.to_owned());
    }

    /// Prints the table and writes the file. Returns whether no measurement failed.
    pub(crate) fn finish(&self) -> bool {
        println!("{}", table(self.rows()));
        let path = results_path();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, self.json()).unwrap();
        println!("written to {}", path.display());
        let mut figures = self.figures.iter();
        !figures.any(|figure| matches!(figure.trouble, Trouble::Failed(_)))
    }

    fn figure(&mut self, name: &str) -> &mut Figure {
        let position = self.figures.iter().position(|figure| figure.name == name);
        let position = position.unwrap_or_else(|| {
            self.figures.push(Figure {
                name: name.to_owned(),
                unit: String::new(),
                samples: Vec::new(),
                limit: String::new(),
                ratios: Vec::new(),
                trouble: Trouble::None,
            });
            self.figures.len() - 1
        });
        &mut self.figures[position]
    }

    fn rows(&self) -> Vec<[String; 8]> {
        let head = [
            "figure",
            "unit",
            "median",
            "min",
            "max",
            "of its limit",
            "target",
            "met",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        let is_limit = |figure: &&Figure| figure.name.starts_with("limit.");
        rows.extend(self.figures.iter().filter(is_limit).map(Figure::row));
        rows.extend(
            self.figures
                .iter()
                .filter(|figure| !is_limit(figure))
                .map(Figure::row),
        );
        rows
    }

    /// The text of the results file. A figure that could not be measured is in it with nulls.
    fn json(&self) -> String {
        let mut figures = Vec::new();
        for figure in &self.figures {
            figures.push(entry(&figure.name, &figure.unit, &figure.samples));
            if !figure.ratios.is_empty() {
                let name = format!("ratio.{}", figure.name);
                figures.push(entry(
                    &name,
                    &format!("of {}", figure.limit),
                    &figure.ratios,
                ));
            }
        }
        // Each figure is on its own line, because people read the file too.
        let lines: Vec<String> = figures.iter().map(ToString::to_string).collect();
        format!("[\n  {}\n]\n", lines.join(",\n  "))
    }
}

impl Figure {
    fn row(&self) -> [String; 8] {
        let [median, min, max] = spread(&self.samples)
            .map_or_else(|| ["-"; 3].map(str::to_owned), |values| values.map(number));
        let ratio = spread(&self.ratios).map(|[median, ..]| median);
        let share = ratio.map(|ratio| format!("{ratio:.2} of {}", self.limit));
        let is_ours = |name: &str| {
            let is_beside_a_limit = !self.ratios.is_empty();
            self.name == name
                || (is_beside_a_limit && name.ends_with('.') && self.name.starts_with(name))
        };
        let target = TARGETS.iter().find(|(name, _)| is_ours(name));
        let (target, met) = match target {
            None => (String::new(), ""),
            Some((_, target)) => {
                let value = match target {
                    Target::Share(_) => ratio,
                    _ => spread(&self.samples).map(|[median, ..]| median),
                };
                let met =
                    value.map_or("-", |value| if target.is_met(value) { "yes" } else { "NO" });
                (target.to_string(), met)
            }
        };
        let met = match &self.trouble {
            Trouble::None => met.to_owned(),
            Trouble::Absent(why) => format!("absent: {why}"),
            Trouble::Failed(why) => format!("FAILED: {}", why.lines().next().unwrap_or_default()),
        };
        let (name, unit) = (self.name.clone(), self.unit.clone());
        [
            name,
            unit,
            median,
            min,
            max,
            share.unwrap_or_default(),
            target,
            met,
        ]
    }
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::Share(share) => value >= share,
            Self::Below(limit) => value < limit,
            Self::AtMost(limit) => value <= limit,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Share(share) => write!(f, ">= {share} of it"),
            Self::Below(limit) => write!(f, "< {limit}"),
            Self::AtMost(limit) => write!(f, "<= {limit}"),
        }
    }
}

/// The path of the results file.
pub(crate) fn results_path() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("bench/results.json")
}

fn entry(name: &str, unit: &str, samples: &[f64]) -> Value {
    let [median, min, max] = spread(samples)
        .map_or([Value::Null, Value::Null, Value::Null], |values| {
            values.map(|value| json!(value))
        });
    json!({"name": name, "unit": unit, "median": median, "min": min, "max": max})
}

/// Median, minimum and maximum. `None` when there is no value.
fn spread(samples: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    };
    Some([median, min, max])
}

/// The value as text, with about three significant digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => thousands(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The value as text with commas. For example, `1234567.8` becomes `1,234,568`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The rows as text with aligned columns. Numbers are aligned on the right.
fn table(rows: Vec<[String; 8]>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..8).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if (2..=4).contains(&column) {
                write!(line, "{cell:>width$}  ").unwrap();
            } else {
                write!(line, "{cell:<width$}  ").unwrap();
            }
        }
        text.push('\n');
        text.push_str(line.trim_end());
    }
    text
}
