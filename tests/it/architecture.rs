//! `docs/architecture.md` is true where a test can tell: the files that it names exist, and its
//! table of phases is the one of the code.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    fs::read_to_string(root().join("docs/architecture.md")).unwrap()
}

/// All files of the project's own folders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

#[test]
fn the_files_that_the_document_names_exist() {
    let folders = ["src", "tests", "migrations", "docs"];
    let files: Vec<_> = folders
        .iter()
        .flat_map(|folder| files(&root().join(folder)))
        .collect();
    let document = document();
    let names = document.split('`').skip(1).step_by(2);
    let names: Vec<_> = names
        .filter(|name| name.ends_with(".rs") || name.ends_with(".lua"))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        // From the root, or from a folder that the text is about: `redis/link.rs`.
        let exists = files.iter().any(|file| file.ends_with(name));
        assert!(
            exists,
            "docs/architecture.md names {name}, and there is no such file"
        );
    }
}

#[test]
fn the_table_of_phases_is_that_of_the_code() {
    let code = root().join("src/service/jobqueue/worker/held/phase.rs");
    let code = fs::read_to_string(code).unwrap();
    let in_code: Vec<_> = code
        .lines()
        .filter_map(|line| line.strip_prefix("//! "))
        .filter(|line| line.starts_with('|'))
        .collect();
    let document = document();
    let lines = document
        .lines()
        .skip_while(|line| !line.starts_with("| phase "));
    let in_document: Vec<_> = lines.take_while(|line| line.starts_with('|')).collect();
    assert!(in_code.len() > 10, "{in_code:?}");
    assert_eq!(in_document, in_code);
}
