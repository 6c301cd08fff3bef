//! Makes docs/jobctl.md out of the arguments, and of `json.md` beside this file. A test holds the page
//! against them.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use serde_json::Value;

use super::arguments::Arguments;
use crate::service::jobqueue::inspector::{
    JobView, LastMinute, Page, Quantiles, State, Stats, WorkerView,
};

const PAGE: &str = "docs/jobctl.md";
/// Set to write the page instead of comparing it.
const WRITE: &str = "WRITE_DOCS";
const JSON: &str = include_str!("json.md");

/// The whole page.
fn page() -> String {
    let mut command = Arguments::command();
    command.build();
    let mut page = format!(
        "# jobctl\n\n{}\n\nThis page is made of the program's own help and of `src/jobctl/json.md`: \
         `{WRITE}=1 cargo test --lib jobctl::docs` writes it anew.\n",
        sentence(&command)
    );
    let whole = after_help(&command);
    let (examples, rest) = whole.split_once("\n\n").unwrap_or((&whole, ""));
    page.push_str(&code(
        "Examples",
        examples.trim_start_matches("Examples:\n"),
    ));
    let (notes, statuses) = rest.split_once("Exit status:\n").unwrap_or((rest, ""));
    page.push_str(&format!("\n{}\n", notes.trim()));
    page.push_str(&code("Exit status", statuses));
    page.push_str("\n## Options of every command\n\n");
    let global: Vec<_> = command
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .collect();
    page.push_str(&table(&global));
    for one in command.get_subcommands() {
        section(&mut page, one);
    }
    format!("{page}\n{JSON}")
}

fn section(page: &mut String, command: &Command) {
    let nested: Vec<_> = command
        .get_subcommands()
        .filter(|it| it.get_name() != "help")
        .collect();
    if command.get_name() == "help" {
        return;
    }
    let name = command.get_bin_name().unwrap_or(command.get_name());
    write!(page, "\n## {name}\n\n{}\n", sentence(command)).ok();
    let usage = command.clone().render_usage().to_string();
    let usage = usage
        .trim_start_matches("Usage: ")
        .replace("\n       ", "\n");
    page.push_str(&code("", &usage));
    let own: Vec<_> = command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && !arg.is_hide_set())
        .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        .collect();
    if !own.is_empty() {
        write!(page, "\n{}", table(&own)).ok();
    }
    let help = after_help(command);
    let (words, examples) = match help.split_once("Examples:\n") {
        Some((words, examples)) => (words, examples),
        None => (help.as_str(), ""),
    };
    match words.strip_prefix("Keys:\n") {
        Some(keys) => page.push_str(&code("Keys", keys)),
        None if words.trim().is_empty() => {}
        None => drop(write!(page, "\n{}\n", words.trim())),
    }
    page.push_str(&code("Examples", examples));
    for one in nested {
        section(page, one);
    }
}

fn sentence(command: &Command) -> String {
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    format!("{}.", about.trim_end_matches('.'))
}

fn after_help(command: &Command) -> String {
    command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// A block of code with a word above it.
fn code(title: &str, text: &str) -> String {
    let lines = text.trim_end().lines();
    let lines: Vec<_> = lines
        .map(|line| line.strip_prefix("  ").unwrap_or(line))
        .collect();
    match (lines.is_empty(), title) {
        (true, _) => String::new(),
        (false, "") => format!("\n```text\n{}\n```\n", lines.join("\n")),
        (false, title) => format!("\n{title}:\n\n```text\n{}\n```\n", lines.join("\n")),
    }
}

fn table(arguments: &[&Arg]) -> String {
    let mut table = "| argument | meaning |\n|---|---|\n".to_owned();
    for arg in arguments {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let mut more = String::new();
        // A switch has the values true and false.
        if arg.get_action().takes_values() {
            let values: Vec<_> = arg.get_possible_values();
            let values: Vec<_> = values
                .iter()
                .map(|it| format!("`{}`", it.get_name()))
                .collect();
            if !values.is_empty() && !arg.is_hide_possible_values_set() {
                write!(more, ": {}", values.join(", ")).ok();
            }
            if let Some(default) = arg.get_default_values().first() {
                write!(more, " (default `{}`)", default.display()).ok();
            }
        }
        let name = arg.to_string().replace('|', "\\|");
        writeln!(table, "| `{name}` | {help}{more} |").ok();
    }
    table
}

#[test]
fn the_page_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written, page,
        "{PAGE} is out of date: {WRITE}=1 cargo test --lib jobctl::docs writes it anew"
    );
}

/// The fields that the page has under a heading.
fn documented(heading: &str) -> Vec<String> {
    let section = JSON
        .split("### ")
        .find(|section| section.starts_with(heading));
    let rows = section.unwrap_or_else(|| panic!("no {heading}")).lines();
    let fields = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next());
    fields.map(str::to_owned).collect()
}

/// The names of the fields of a document. Those of an object in it are behind its name, if it has a name
/// in `opened`.
fn fields(document: &Value, opened: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in document.as_object().unwrap() {
        match opened.contains(&name.as_str()) {
            true => names.extend(
                fields(value, &[])
                    .iter()
                    .map(|inner| format!("{name}.{inner}")),
            ),
            false => names.push(name.clone()),
        }
    }
    names.sort();
    names
}

fn assert_documented(heading: &str, mut found: Vec<String>) {
    let mut documented = documented(heading);
    documented.sort();
    found.sort();
    assert_eq!(documented, found, "{heading}");
}

/// A job with all that a job can have.
fn whole_job() -> JobView {
    JobView {
        state: State::Dead,
        job_id: String::new(),
        attempt: 0,
        entry_id: Some(String::new()),
        job_type: Some(String::new()),
        max_retry: Some(0),
        registered_ms: Some(0),
        due_ms: Some(0),
        expires_at_ms: Some(0),
        worker: Some(String::new()),
        deliveries: Some(0),
        cancelling: true,
        started_ms: Some(0),
        finished_ms: Some(0),
        stands_for: Some(0),
        died_ms: Some(0),
        reason: Some(String::new()),
        error: Some(String::new()),
        payload: Some(serde_json::value::to_raw_value(&1).unwrap()),
        fields: [(String::new(), String::new())].into(),
    }
}

#[test]
fn the_page_has_every_field_of_the_documents_and_no_other() {
    let minute = LastMinute {
        wait_ms: Some(Quantiles::default()),
        ..LastMinute::default()
    };
    let stats = Stats {
        last_minute: minute,
        ..Stats::default()
    };
    assert_documented(
        "jobctl stats",
        fields(
            &serde_json::to_value(&stats).unwrap(),
            &["today", "last_minute"],
        ),
    );
    assert_documented(
        "A job",
        fields(&serde_json::to_value(whole_job()).unwrap(), &[]),
    );
    let page = Page {
        jobs: Vec::new(),
        next: None,
    };
    assert_documented(
        "jobctl list",
        fields(&serde_json::to_value(&page).unwrap(), &[]),
    );
    let worker = WorkerView {
        name: String::new(),
        alive: true,
        host: Some(String::new()),
        pid: Some(0),
        version: Some(String::new()),
        started_ms: Some(0),
        seen_ms: Some(0),
        concurrency: Some(0),
        running: Some(0),
        held: Some(0),
        pending: 0,
        jobs: Vec::new(),
    };
    let names = fields(&serde_json::to_value(&worker).unwrap(), &[]);
    let names = names
        .iter()
        .map(|name| format!("workers[].{name}"))
        .collect();
    assert_documented("jobctl workers", names);
}
