//! Checks every `use` line and every path of `src` against the import rules of `src/lib.rs`.
//!
//! The rules are read from the comment under "Import rules" in that file, so they are written
//! once. Besides them, no files may import each other in a circle. Code under `#[cfg(test)]` is not
//! checked, because a test may build what it needs.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use imports::{Sources, is_in};

/// A rule of `src/lib.rs`, which has the form `room does not name a, b; except c`.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    room: String,
    forbidden: Vec<String>,
    exceptions: Vec<String>,
}

fn rules(lib: &str) -> Vec<Rule> {
    let block = lib.split("// # Import rules").nth(1).unwrap();
    let lines = block
        .lines()
        .skip(1)
        .map_while(|line| line.strip_prefix("//").map(str::trim));
    let names = |text: &str| text.split(',').map(|name| name.trim().to_owned()).collect();
    lines
        .filter_map(|line| line.split_once(" does not name "))
        .map(|(room, rest)| {
            let (forbidden, exceptions) = rest.split_once("; except ").unwrap_or((rest, ""));
            Rule {
                room: room.trim().to_owned(),
                forbidden: names(forbidden),
                exceptions: names(exceptions),
            }
        })
        .collect()
}

/// The violations of the rules, one line each.
fn violations(rules: &[Rule], imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for rule in rules {
        let covered = imports.iter().filter(|(file, _)| {
            (rule.room == "src" || is_in(file, &rule.room))
                && !rule.exceptions.iter().any(|room| is_in(file, room))
        });
        for (file, named) in covered {
            let named = named.iter().filter(|name| !is_in(name, file));
            for name in named.filter(|name| rule.forbidden.iter().any(|room| is_in(name, room))) {
                found.push(format!("{file} names {name}"));
            }
        }
    }
    found
}

/// The circles of files that import each other. Each circle is the set of its files.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = imports
        .keys()
        .map(|start| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
            while let Some(file) = next.pop() {
                let named = imports.get(file).into_iter().flatten();
                next.extend(named.filter(|name| *name != file && seen.insert(*name)));
            }
            (start, seen)
        })
        .collect();
    let mut circles = BTreeSet::new();
    for (file, seen) in &reached {
        let back = seen
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|seen| seen.contains(file)));
        let circle: BTreeSet<String> = back.map(|other| (*other).clone()).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn of_this_crate() -> (Vec<Rule>, BTreeMap<String, BTreeSet<String>>) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rules = rules(&fs::read_to_string(src.join("lib.rs")).unwrap());
    assert!(rules.len() > 5, "{rules:?}");
    (rules, Sources::read(&src).imports())
}

#[test]
fn no_file_names_what_the_import_rules_forbid() {
    let (rules, imports) = of_this_crate();
    for rule in &rules {
        // A rule about a room that has been renamed would forbid nothing.
        let rooms = rule
            .forbidden
            .iter()
            .chain(&rule.exceptions)
            .chain([&rule.room]);
        for room in rooms
            .filter(|room| !["", "src"].contains(&room.as_str()) && !room.starts_with("crate "))
        {
            assert!(
                imports.keys().any(|file| is_in(file, room)),
                "there is no {room}"
            );
        }
    }
    let found = violations(&rules, &imports);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let (_, imports) = of_this_crate();
    let found = circles(&imports);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_imports_the_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "tests", "benches", "examples"] {
        for (file, text) in imports::files(&root.join(folder)) {
            let taken = text
                .lines()
                .find(|line| line.trim_start().starts_with("#[path") && line.contains("bin/"));
            assert_eq!(taken, None, "{}", file.display());
        }
    }
}

/// The imports of a crate of three files. The second file contains `text`.
fn imports_with(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let files = [
        ("", "mod a; mod b; pub use a::Thing;"),
        ("a", "pub struct Thing;"),
        ("b", "mod c;"),
        ("b::c", text),
    ];
    Sources::new(files.map(|(path, text)| (path.to_owned(), text.to_owned()))).imports()
}

#[test]
fn every_way_to_name_something_is_seen() {
    for (text, named) in [
        ("use redis::Cmd;", "crate redis"),
        ("use {redis as r, std::fmt};", "crate redis"),
        ("fn f() { let x = redis::cmd(\"A\"); }", "crate redis"),
        ("fn f() { m!(::redis::cmd()); }", "crate redis"),
        ("use crate::a::Thing;", "a"),
        ("use crate::{a::{self, Thing}, b};", "a"),
        ("use super::super::a;", "a"),
        (
            "mod d { mod e { use super::super::super::super::a::Thing; } }",
            "a",
        ),
        ("fn f(x: crate::a::Thing) {}", "a"),
        ("use super::Other;", "b"),
        ("use crate::Thing;", ""),
    ] {
        let imports = imports_with(text);
        assert!(imports["b::c"].contains(named), "{text}: {imports:?}");
    }
    for text in [
        "// use redis::Cmd;\n/// [`redis::Cmd`]\nfn f() { \"redis::Cmd\"; }",
        "#[cfg(test)] mod tests { use crate::a::Thing; use redis::Cmd; }",
        "fn f() -> impl Fn() + use<> { redis } use self::redis::Cmd; use crate::b::c::redis; fn f(x: a::redis::Cmd) {}",
    ] {
        let imports = imports_with(text);
        assert!(
            !imports["b::c"].contains("crate redis"),
            "{text}: {imports:?}"
        );
        assert!(!imports["b::c"].contains("a"), "{text}: {imports:?}");
    }
}

#[test]
fn a_broken_rule_and_a_circle_are_found() {
    let lib =
        "// # Import rules\n//\n//     b does not name a, crate redis; except b::d\n\nmod a;\n";
    let rules = rules(lib);
    let expected = Rule {
        room: "b".into(),
        forbidden: vec!["a".into(), "crate redis".into()],
        exceptions: vec!["b::d".into()],
    };
    assert_eq!(rules, [expected]);
    assert_eq!(
        violations(&rules, &imports_with("use crate::a;")),
        ["b::c names a"]
    );
    assert_eq!(
        violations(&rules, &imports_with("use redis::Cmd;")),
        ["b::c names crate redis"]
    );
    assert!(violations(&rules, &imports_with("use std::fmt;")).is_empty());

    // The parent declares its child, which is not an import. The child takes a name from its
    // parent.
    assert!(circles(&imports_with("use crate::a;")).is_empty());
    let files = [("a", "use crate::b::B;"), ("b", "use crate::a::A;")];
    let sources = Sources::new(files.map(|(path, text)| (path.to_owned(), text.to_owned())));
    let circle = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    assert_eq!(circles(&sources.imports()), [circle]);
}

#[test]
fn a_face_and_a_file_of_tests_import_nothing() {
    let circle_with = |parent: &str| {
        let files = [("a", parent), ("a::b", "use super::A;")];
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        !circles(&Sources::new(files).imports()).is_empty()
    };
    assert!(!circle_with("mod b; pub use self::b::B;"));
    assert!(!circle_with("mod b; pub(crate) use self::b::{B, C};"));
    assert!(!circle_with("#[cfg(test)] mod b; use self::b::B;"));
    assert!(circle_with("mod b; use self::b::B;"));
}
