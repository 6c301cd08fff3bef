//! The tables of `docs/configuration.md` have every key that the programs know, and the defaults
//! that the programs have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use dm_jobqueue::program::inside::{Config, ConfigError};

use super::{Document, Section, root};

const PAGE: &str = "docs/configuration.md";

/// Loads the defaults and these variables.
fn load(variables: &[(String, &str)]) -> Result<String, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("develop")).unwrap();
    for name in ["develop.yaml", "develop/cacheserver.yaml"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let variables: BTreeMap<_, _> = variables
        .iter()
        .map(|(name, value)| (name.clone(), (*value).to_owned()))
        .collect();
    let config = Config::from_sources("develop", dir.path(), &variables)?;
    let Config {
        server,
        jobqueue,
        redis,
        cors,
        logging,
        ..
    } = config;
    Ok(format!(
        "{server:?} {jobqueue:?} {redis:?} {cors:?} {logging:?}"
    ))
}

/// The variable that overrides a key.
fn variable(key: &str) -> String {
    format!("APP__{}", key.replace('.', "__").to_uppercase())
}

/// What stands between the first two backticks.
fn quoted(cell: &str) -> Option<&str> {
    cell.split('`').nth(1)
}

/// The keys of the tables, each with the cell of its default.
fn documented() -> BTreeMap<String, String> {
    let sections = Document::read(PAGE).sections;
    let rows = sections.iter().flat_map(Section::rows);
    let keys = rows.filter_map(|cells| {
        let key = quoted(cells[0]).filter(|key| key.contains('.'))?;
        Some((key.to_owned(), cells[1].to_owned()))
    });
    keys.collect()
}

/// Every key of a settings file, also of lines that are commented out: `# heartbeat: 5s`.
fn keys_of(path: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim_start();
        let is_comment = line.starts_with("# ");
        let Some((name, value)) = line.trim_start_matches("# ").split_once(':') else {
            continue;
        };
        let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let is_value = value.is_empty() || value.starts_with(' ');
        if !is_name || !is_value || (is_comment && indent == 0) {
            continue;
        }
        parents.retain(|(depth, _)| *depth < indent);
        let value = value.split(" #").next().unwrap().trim();
        if value.is_empty() {
            parents.push((indent, name));
            continue;
        }
        let path = parents.iter().map(|(_, parent)| *parent);
        keys.insert(path.chain([name]).collect::<Vec<_>>().join("."));
    }
    keys
}

#[test]
fn every_setting_is_documented_and_every_documented_one_is_known() {
    let mut keys = keys_of("config/develop.yaml");
    keys.extend(keys_of("config/develop/cacheserver.yaml"));
    assert!(keys.len() > 40, "{keys:#?}");
    let documented: BTreeSet<_> = documented().into_keys().collect();
    assert_eq!(documented, keys);
    let is_unknown = |key: &str| {
        let said = load(&[(variable(key), "x")]);
        said.is_err_and(|error| error.to_string().contains("found an unknown key"))
    };
    assert!(is_unknown("jobqueue.nonsense"));
    let unknown: Vec<_> = documented.iter().filter(|key| is_unknown(key)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_documented_defaults_are_true() {
    let defaults = load(&[]).unwrap();
    let mut checked = 0;
    for (key, cell) in documented() {
        let Some(default) = quoted(&cell) else {
            assert!(
                ["none", "no effect", "a third of the lease"].contains(&cell.as_str()),
                "{key}: {cell}"
            );
            continue;
        };
        checked += 1;
        let loaded = load(&[(variable(&key), default)]).unwrap();
        assert_eq!(loaded, defaults, "{key}: {default}");
    }
    assert!(checked > 30, "{checked}");
}
