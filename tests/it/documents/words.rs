//! The words of the programs that the operations pages quote are words that the programs say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Document, Section, root};

const PAGE: &str = "docs/operations.md";
const JAPANESE_PAGE: &str = "docs/ja/operations.md";

/// The sources of the programs in one text, with each text of several lines in one line.
fn sources() -> String {
    fn read(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, text);
            } else if path.extension().is_some_and(|it| it == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    read(&root().join("src"), &mut text);
    let parts = text.split("\\\n").enumerate();
    let parts = parts.map(|(n, part)| if n == 0 { part } else { part.trim_start() });
    parts.collect()
}

fn section(page: &str, heading: &str) -> Section {
    let mut sections = Document::read(page).sections.into_iter();
    let found = sections.find(|section| section.heading == heading);
    found.unwrap_or_else(|| panic!("{page} has no section {heading}"))
}

/// What a text has between backticks.
fn quotes(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

#[test]
fn the_programs_say_what_the_page_quotes_of_the_log() {
    let mut words: BTreeSet<String> = BTreeSet::new();
    for (page, heading) in [(PAGE, "The log says"), (JAPANESE_PAGE, "ログのメッセージ")] {
        for cells in section(page, heading).rows() {
            words.extend(quotes(cells[0]));
        }
    }
    for section in Document::read(PAGE).sections {
        for cells in section.rows() {
            let told = cells.iter().filter_map(|cell| cell.split_once("the log: "));
            words.extend(told.flat_map(|(_, told)| quotes(told.split(';').next().unwrap())));
        }
    }
    for line in &section(PAGE, "Jobs are dead").text {
        words.extend(quotes(line).filter(|quote| quote.contains("; ")));
    }
    assert!(words.len() > 25, "{words:#?}");
    let sources = sources();
    let unsaid: Vec<_> = words.iter().filter(|it| !sources.contains(*it)).collect();
    assert!(unsaid.is_empty(), "{unsaid:#?}");
}

#[test]
fn the_page_has_the_exit_statuses_of_the_help() {
    let help = Command::new(env!("CARGO_BIN_EXE_jobqueue"))
        .arg("--help")
        .output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let (_, help) = help.split_once("Exit status:\n").unwrap();
    let in_help: Vec<_> = help
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let section = section(PAGE, "Exit statuses");
    let rows = section.rows();
    let in_page: Vec<_> = rows.iter().map(|cells| cells[0]).collect();
    assert_eq!(in_page, in_help);
}
