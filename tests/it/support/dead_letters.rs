//! Dead letters as tests look at them: all fields by name, and found by the entry that died.

use std::collections::BTreeMap;

use super::{PATIENCE, Redis, eventually};

/// A dead letter's fields; each must be there once.
pub(crate) type Letter = BTreeMap<String, Vec<u8>>;

pub(crate) fn text<'a>(letter: &'a Letter, field: &str) -> &'a str {
    std::str::from_utf8(letter.get(field).unwrap_or_else(|| panic!("no {field}"))).unwrap()
}

/// The dead letter of the entry `id`, when it has come.
pub(crate) async fn letter_of(redis: &Redis, id: &str) -> Letter {
    eventually(format!("a dead letter of {id}"), PATIENCE, async || {
        let letters = redis.dead_letters().await.into_iter();
        let mut letters = letters.map(|(_, letter)| letter);
        letters.find(|letter| letter["died_from"] == id.as_bytes())
    })
    .await
}

/// A job that prints.
pub(crate) fn hello(n: usize) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"hello {n}"}}}}"#)
}
