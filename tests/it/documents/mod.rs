//! The documents are true where a test can tell: their commands work as they stand there, their
//! links lead somewhere, and the Japanese pages
//! say what the English ones say. `architecture` and `fault_table` do the same for two more.

mod commands;
mod links;
mod translations;
mod users;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// What is read of a Markdown file.
struct Document {
    /// The text before the first heading, and what stands under each heading.
    sections: Vec<Section>,
}

/// A heading and what stands under it, up to the next heading.
#[derive(Default)]
struct Section {
    heading: String,
    /// The lines that are no code.
    text: Vec<String>,
    /// Code blocks, fenced or indented, without their indentation.
    code: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the project, from its root.
fn all() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found
}

impl Document {
    fn read(path: impl AsRef<Path>) -> Self {
        let path = root().join(path);
        let text = fs::read_to_string(&path);
        Self::parse(&text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn parse(text: &str) -> Self {
        let mut sections = vec![Section::default()];
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let section = sections.last_mut().unwrap();
            let fence = line.trim_start().starts_with("```");
            if fence || line.starts_with("    ") {
                let indent = line.len() - line.trim_start().len();
                let mut code = Vec::new();
                if fence {
                    code.extend(lines.by_ref().take_while(|line| line.trim() != "```"));
                } else {
                    code.push(line);
                    while let Some(more) = lines.next_if(|line| line.starts_with("    ")) {
                        code.push(more);
                    }
                }
                let code = code
                    .iter()
                    .map(|line| line.get(indent..).unwrap_or_default());
                section.code.push(code.collect::<Vec<_>>().join("\n"));
            } else if line.starts_with('#') {
                sections.push(Section {
                    heading: line.trim_start_matches('#').trim().to_owned(),
                    ..Section::default()
                });
            } else {
                section.text.push(line.to_owned());
            }
        }
        Self { sections }
    }
}

impl Section {
    /// The cells of each row of its tables, without the heads and the lines under them.
    fn rows(&self) -> Vec<Vec<&str>> {
        let mut rows = Vec::new();
        for line in self.text.iter().filter(|line| line.starts_with('|')) {
            if line.starts_with("|---") {
                // The row before this line is the head.
                rows.pop();
            } else {
                let cells = line.trim().trim_matches('|').split('|').map(str::trim);
                rows.push(cells.collect());
            }
        }
        rows
    }
}

#[test]
fn a_document_is_read_with_its_sections_blocks_and_rows() {
    let text = "before\n# One\n| a | b |\n|---|---|\n| `x` | 1 |\n\n1. text\n\n   ```sh\n   ls \\\n     -l\n   ```\n\n\
                ## Two\n\n    echo\n    # no heading\n";
    let document = Document::parse(text);
    let headings: Vec<_> = document.sections.iter().map(|it| &it.heading).collect();
    assert_eq!(headings, ["", "One", "Two"]);
    assert_eq!(document.sections[1].rows(), [["`x`", "1"]]);
    assert_eq!(document.sections[1].code, ["ls \\\n  -l"]);
    assert_eq!(document.sections[2].code, ["echo\n# no heading"]);
}
