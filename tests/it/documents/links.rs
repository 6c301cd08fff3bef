//! Links from one file of the project to another lead to a file that is there, and to a heading
//! that is there.

use std::path::Path;

use super::{Document, all, root};

/// The anchor that GitHub gives a heading: `See the backlog` is `#see-the-backlog`.
fn anchor(heading: &str) -> String {
    let lowered = heading.to_lowercase();
    let kept = lowered.chars().filter_map(|char| match char {
        ' ' => Some('-'),
        '-' | '_' => Some(char),
        _ => char.is_alphanumeric().then_some(char),
    });
    kept.collect()
}

/// The targets of the links and pictures of a document: what stands in `](...)`.
fn targets(document: &Document) -> Vec<&str> {
    let lines = document.sections.iter().flat_map(|section| {
        let heading = std::iter::once(&section.heading);
        heading.chain(&section.text)
    });
    lines
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .collect()
}

/// What is wrong with a link in the file at `from`.
fn fault(from: &Path, target: &str) -> Option<String> {
    let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
    let file = match path {
        "" => from.to_owned(),
        path => from.parent().unwrap().join(path),
    };
    if !root().join(&file).exists() {
        return Some(format!("there is no {}", file.display()));
    }
    if wanted.is_empty() {
        return None;
    }
    let sections = Document::read(&file).sections;
    let found = sections.iter().any(|it| anchor(&it.heading) == wanted);
    (!found).then(|| format!("{} has no heading for #{wanted}", file.display()))
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut checked = 0;
    let mut faults = Vec::new();
    for path in all() {
        let document = Document::read(&path);
        for target in targets(&document) {
            if target.contains("://") {
                continue;
            }
            checked += 1;
            let fault = fault(&path, target);
            faults.extend(fault.map(|fault| format!("{}: {fault}", path.display())));
        }
    }
    assert!(checked > 50, "{checked}");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_link_to_nowhere_is_found() {
    let readme = Path::new("README.md");
    assert_eq!(fault(readme, "#quick-start"), None);
    assert_eq!(fault(readme, "docs/operations.md#exit-statuses"), None);
    assert!(fault(readme, "docs/nowhere.md").is_some());
    assert!(fault(readme, "docs/operations.md#nowhere").is_some());
}
