//! The table in `tests/README.md` names a test for every fault. Each name there must be the name of
//! a test that exists.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

#[test]
fn every_fault_has_tests_that_exist_and_are_long_when_it_says_so() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let table = std::fs::read_to_string(tests.join("README.md")).unwrap();
    let mut rows = BTreeSet::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _, names, _] = cells[..] else {
            continue;
        };
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        rows.insert(number.to_owned());
        for name in names.split(", ") {
            let (module, test) = name.trim_matches(['_', '`']).rsplit_once("::").unwrap();
            let source = source_of(&tests.join("it").join(module.replace("::", "/")));
            let source = source.unwrap_or_else(|why| panic!("{number}, {name}: {why}"));
            let (before, _) = source
                .split_once(&format!("fn {test}("))
                .unwrap_or_else(|| panic!("{number}: there is no {name}"));
            let attributes = before.rsplit("\n\n").next().unwrap();
            let is_test = attributes.contains("test]") || attributes.contains("::test(");
            assert!(is_test, "{number}: {name} is no test");
            let is_long = attributes.contains("#[ignore");
            assert_eq!(name.starts_with('_'), is_long, "{number}: {name}");
        }
    }
    let all = (1..=40).chain([51]).chain(56..=62).chain(101..=122);
    let all = all.chain([124]).chain(126..=132);
    let all = all.map(|number: u32| number.to_string());
    let missing: Vec<String> = all.filter(|number| !rows.contains(number)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The source of the module at `path`, which is given without an extension. For example, the source
/// of `it/chaos` is `it/chaos/mod.rs`.
fn source_of(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path.with_extension("rs"))
        .or_else(|_| std::fs::read_to_string(path.join("mod.rs")))
}
