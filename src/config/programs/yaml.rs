//! Reads one YAML file into keys with their values, and says in this project's words what is wrong
//! with a file that cannot be read. No message quotes a value: a mistake beside a password looks
//! like any other.

use std::{collections::BTreeMap, fs, io, path::Path};

use ::config::ValueKind;
use yaml_rust2::{ScanError, Yaml, YamlLoader, yaml::Hash};

use super::error::ConfigError;

/// Each full key (`jobqueue.retry.max`) with its value. An empty section is a key whose value is
/// null. If a key is written in two forms (`server.port` and `server: {port}`), the last one in the
/// file holds.
pub(super) type Leaves = BTreeMap<String, ValueKind>;

/// The largest file that is read; settings are a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;
/// Stands for a key that is not a single value, as in `{{password}}`.
const NO_NAME: &str = "{}";

/// Reads the file `path`. Something exists at that path, but it may be of no use.
pub(super) fn read(path: &Path) -> Result<Leaves, ConfigError> {
    let unreadable = |source| unreadable(path, source);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() {
            "a directory"
        } else {
            "no regular file"
        };
        return Err(unfit(
            path,
            format!("found {kind}, expected a file with settings"),
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Err(unfit(
            path,
            "found more than 1 MiB, expected a file with settings",
        ));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let text = decode(&bytes).map_err(|reason| unfit(path, reason))?;
    parse(text).map_err(|reason| ConfigError::Syntax {
        path: path.to_owned(),
        reason,
    })
}

fn unfit(path: &Path, reason: impl Into<String>) -> ConfigError {
    ConfigError::Unfit {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn unreadable(path: &Path, source: io::Error) -> ConfigError {
    let target = fs::read_link(path);
    match (source.kind(), target) {
        (io::ErrorKind::NotFound, Ok(target)) => unfit(path, dangling(&target)),
        _ => ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        },
    }
}

fn dangling(target: &Path) -> String {
    format!(
        "found a symbolic link to {}, which is not there, expected a file with settings",
        target.display()
    )
}

/// The text of a file, without the byte order mark that some editors write.
fn decode(bytes: &[u8]) -> Result<&str, String> {
    const EXPECTED: &str = "expected UTF-8; save the file in that encoding";
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(format!("found UTF-16 text, {EXPECTED}"));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    if bytes.contains(&0) {
        return Err(format!("found NUL bytes as in UTF-16 text, {EXPECTED}"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        format!("found bytes that are not UTF-8 in line {line}, {EXPECTED}")
    })
}

fn parse(text: &str) -> Result<Leaves, String> {
    let mut documents = YamlLoader::load_from_str(text).map_err(|error| reason(text, &error))?;
    documents.retain(|document| !matches!(document, Yaml::Null | Yaml::BadValue));
    if documents.len() > 1 {
        let count = documents.len();
        return Err(format!(
            "it has {count} documents, expected one; remove the lines with --- between them"
        ));
    }
    match documents.pop() {
        None => Ok(Leaves::new()),
        Some(Yaml::Hash(root)) => {
            let mut leaves = Leaves::new();
            flatten("", &root, &mut leaves)?;
            Ok(leaves)
        }
        Some(_) => Err("the top level is no section".to_owned()),
    }
}

/// What the parser found wrong. Its words are fixed texts, except for two that quote the file.
fn reason(text: &str, error: &ScanError) -> String {
    let mark = error.marker();
    let what = match error.info() {
        info if info.ends_with("duplicated key in mapping") => "a duplicated key in a section",
        info if info.starts_with("unexpected character") => {
            "a character that needs quotes around the value"
        }
        info => info,
    };
    let near = text.lines().skip(mark.line().saturating_sub(2)).take(2);
    let has_tab = near.into_iter().any(|line| line.trim_end().contains('\t'));
    let hint = if has_tab {
        "; a tab is near, and YAML wants spaces"
    } else {
        ""
    };
    format!(
        "{what} at line {} column {}{hint}",
        mark.line(),
        mark.col() + 1
    )
}

/// Adds the full keys of a section with their values.
fn flatten(section: &str, table: &Hash, leaves: &mut Leaves) -> Result<(), String> {
    for (key, yaml) in merged(table)? {
        let name = match key {
            Yaml::String(name) | Yaml::Real(name) => name.clone(),
            Yaml::Integer(number) => number.to_string(),
            Yaml::Boolean(flag) => flag.to_string(),
            _ => NO_NAME.to_owned(),
        };
        let key = match section {
            "" => name,
            _ => format!("{section}.{name}"),
        };
        match yaml {
            Yaml::Hash(table) if !table.is_empty() => flatten(&key, table, leaves)?,
            yaml => drop(leaves.insert(key, value(yaml)?)),
        }
    }
    Ok(())
}

/// The value of a key. An empty section is no value, and neither is a section in a list.
fn value(yaml: &Yaml) -> Result<ValueKind, String> {
    Ok(match yaml {
        Yaml::Null | Yaml::Hash(_) => ValueKind::Nil,
        Yaml::Boolean(flag) => (*flag).into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Real(_) => yaml.as_f64().into(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Array(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(value).collect();
            values?.into()
        }
        Yaml::Alias(_) | Yaml::BadValue => {
            return Err("a value does not fit the tag or anchor before it".to_owned());
        }
    })
}

/// The entries of a section, and those that `<<: *anchor` adds to it. The section's own entries
/// win.
fn merged(table: &Hash) -> Result<Vec<(&Yaml, &Yaml)>, String> {
    let is_merge = |key: &Yaml| key.as_str() == Some("<<");
    let mut entries: Vec<_> = table.iter().filter(|(key, _)| !is_merge(key)).collect();
    let added = match table.iter().find(|(key, _)| is_merge(key)) {
        None => return Ok(entries),
        Some((_, Yaml::Array(tables))) => tables.iter().collect(),
        Some((_, table)) => vec![table],
    };
    for table in added {
        let Yaml::Hash(table) = table else {
            return Err("<< stands before something that is no section".to_owned());
        };
        for (key, value) in merged(table)? {
            if !entries.iter().any(|(own, _)| *own == key) {
                entries.push((key, value));
            }
        }
    }
    Ok(entries)
}

/// The words for the kind of a value.
pub(super) fn kind_of(value: &ValueKind) -> &'static str {
    match value {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) => "a list",
        _ => "a number",
    }
}
