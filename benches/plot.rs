//! Draws the plots of the README from the results. One shows the drain rate by concurrency beside
//! the limit, the other shows lateness and pickup by percentile. A bar ends at the median. A line
//! across its end shows the minimum and the maximum.
//!
//! This file writes the SVG itself. A plotting crate would need as many lines to describe the two
//! charts, and the result would not be readable on both a light and a dark page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::report::results_path;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 210.0;
/// The space for the value at the end of the longest bar.
const VALUES: f64 = 130.0;
const ROW: f64 = 26.0;
const TOP: f64 = 44.0;

const DRAIN: [(&str, &str); 10] = [
    ("limit.drain.1conn", "bare Redis, 1 connection"),
    ("limit.drain.2conn", "bare Redis, 2 connections"),
    ("drain.noop.c1.w1", "concurrency 1"),
    ("drain.noop.c10.w1", "concurrency 10"),
    ("drain.noop.c100.w1", "concurrency 100"),
    ("drain.noop.c1.w2", "concurrency 1, 2 workers"),
    ("drain.noop.c10.w2", "concurrency 10, 2 workers"),
    ("drain.noop.c100.w2", "concurrency 100, 2 workers"),
    ("drain.print.c100.w1", "concurrency 100, printing"),
    ("delayed.due_at_once", "delayed, due at once"),
];

const LATENESS: [(&str, &str); 8] = [
    ("lateness.p50_ms", "delayed job, p50"),
    ("lateness.p95_ms", "delayed job, p95"),
    ("lateness.p99_ms", "delayed job, p99"),
    ("lateness.max_ms", "delayed job, max"),
    ("pickup.p50_ms", "new job, p50"),
    ("pickup.p95_ms", "new job, p95"),
    ("pickup.p99_ms", "new job, p99"),
    ("pickup.max_ms", "new job, max"),
];

/// One figure of the results.
struct Bar {
    label: &'static str,
    is_limit: bool,
    median: f64,
    min: f64,
    max: f64,
}

/// Writes both plots into `docs/`.
pub(crate) fn draw() -> ExitCode {
    let path = results_path();
    let Ok(results) = fs::read_to_string(&path) else {
        eprintln!("no results at {}: run `cargo bench` first", path.display());
        return ExitCode::FAILURE;
    };
    let results: Vec<Value> = serde_json::from_str(&results).unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::create_dir_all(&docs).unwrap();
    let mut complete = true;
    for (file, title, unit, figures) in [
        (
            "drain.svg",
            "Jobs drained a second, no-op handler",
            "jobs/s",
            &DRAIN[..],
        ),
        (
            "lateness.svg",
            "From its time to the handler's start",
            "ms",
            &LATENESS[..],
        ),
    ] {
        let bars: Vec<Bar> = figures
            .iter()
            .filter_map(|figure| bar(&results, *figure))
            .collect();
        if bars.len() < figures.len() {
            eprintln!("{file} is not drawn: the results lack figures it shows");
            complete = false;
            continue;
        }
        fs::write(docs.join(file), chart(title, unit, &bars)).unwrap();
        println!("drawn: docs/{file}");
    }
    ExitCode::from(u8::from(!complete))
}

fn bar(results: &[Value], (name, label): (&str, &'static str)) -> Option<Bar> {
    let result = results.iter().find(|result| result["name"] == name)?;
    Some(Bar {
        label,
        is_limit: name.starts_with("limit."),
        median: result["median"].as_f64()?,
        min: result["min"].as_f64()?,
        max: result["max"].as_f64()?,
    })
}

fn chart(title: &str, unit: &str, bars: &[Bar]) -> String {
    let longest = bars
        .iter()
        .map(|bar| bar.max)
        .fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - VALUES) / longest;
    let rows = (0..bars.len()).fold(0.0, |height, _| height + ROW);
    let height = TOP + rows + 10.0;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">
<style>
text {{ font: 13px system-ui, sans-serif; fill: #57606a }}
.title {{ font-weight: 600; font-size: 15px }}
.queue {{ fill: #2f81f7 }} .limit {{ fill: #8c959f }}
.spread {{ stroke: #57606a; stroke-width: 1.5 }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #adbac7 }} .spread {{ stroke: #adbac7 }} }}
</style>
<text class="title" x="0" y="20">{title} ({unit})</text>
"#
    );
    let mut top = TOP;
    for bar in bars {
        let class = if bar.is_limit { "limit" } else { "queue" };
        let (width, low, high) = (bar.median * scale, bar.min * scale, bar.max * scale);
        let (middle, baseline) = (top + ROW / 2.0 - 3.0, top + ROW / 2.0 + 1.5);
        let (from, to, end) = (LABELS + low, LABELS + high, LABELS + high.max(width) + 8.0);
        let (label, value) = (bar.label, value(bar.median));
        let (labels_end, thickness) = (LABELS - 10.0, ROW - 8.0);
        let y = top - 2.0;
        writeln!(
            svg,
            r#"<text x="{labels_end}" y="{baseline}" text-anchor="end">{label}</text>
<rect class="{class}" x="{LABELS}" y="{y:.1}" width="{width:.1}" height="{thickness}" rx="2"/>
<line class="spread" x1="{from:.1}" y1="{middle:.1}" x2="{to:.1}" y2="{middle:.1}"/>
<text x="{end:.1}" y="{baseline}">{value}</text>"#
        )
        .unwrap();
        top += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

fn value(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0}k", value / 1000.0)
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
