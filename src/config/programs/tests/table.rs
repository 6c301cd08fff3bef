//! `docs/configuration.md` has every setting with its default and its range, and no other.

use std::{collections::BTreeSet, convert::Infallible, fs, path::Path};

use super::super::{Config, keys};
use crate::config::section::{Setting, Visitor};
use crate::config::value::Value;

/// Lists the beginning of each row of the tables: key, default and what is accepted.
struct Rows(BTreeSet<String>);

impl Visitor for Rows {
    type Error = Infallible;

    fn visit<T: Value>(&mut self, setting: &Setting<'_, T>) -> Result<T, Infallible> {
        let default = setting.default.shown(&setting.limit);
        self.0.insert(row(&[
            &setting.key,
            default.trim_matches('"'),
            &T::range(&setting.limit),
        ]));
        Ok(setting.default.clone())
    }
}

fn row(cells: &[&str]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// The rows of the document that begin with a key, as [`Rows`] has them.
fn documented(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|line| {
        let cells = line.split('|').skip(1).take(3);
        let cells = cells.map(|cell| cell.replace('`', "").trim().to_owned());
        cells.collect::<Vec<_>>()
    });
    let of_keys = cells.filter(|cells| cells[0].contains('.'));
    of_keys
        .map(|cells| row(&cells.iter().map(String::as_str).collect::<Vec<_>>()))
        .collect()
}

#[test]
fn the_document_has_every_setting_with_its_default_and_its_range() {
    let mut rows = Rows(BTreeSet::new());
    let Ok(_) = Config::default().visit(&mut rows);
    let mut expected = rows.0;
    expected.extend(keys::WITHOUT_EFFECT.map(|key| row(&[key, "no effect", "anything"])));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let documented = documented(&fs::read_to_string(path).unwrap());
    let missing: BTreeSet<_> = expected.difference(&documented).collect();
    let untrue: BTreeSet<_> = documented.difference(&expected).collect();
    assert_eq!((missing, untrue), Default::default());
}
