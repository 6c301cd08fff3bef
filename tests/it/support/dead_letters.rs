//! Dead letters as tests read them: all fields by name, found by the entry that died.

use std::collections::BTreeMap;

use super::{PATIENCE, Redis, eventually};

/// A dead letter's fields. Each name must occur once.
pub(crate) type Letter = BTreeMap<String, Vec<u8>>;

pub(crate) fn text<'a>(letter: &'a Letter, field: &str) -> &'a str {
    std::str::from_utf8(letter.get(field).unwrap_or_else(|| panic!("no {field}"))).unwrap()
}

/// Waits for the dead letter of the entry `id`, and returns it.
pub(crate) async fn letter_of(redis: &Redis, id: &str) -> Letter {
    eventually(format!("a dead letter of {id}"), PATIENCE, async || {
        let letters = redis.dead_letters().await.into_iter();
        let mut letters = letters.map(|(_, letter)| letter);
        letters.find(|letter| letter["died_from"] == id.as_bytes())
    })
    .await
}

/// A job that prints a line.
pub(crate) fn hello(n: usize) -> String {
    format!(r#"{{"type":"demo:delay_print","payload":{{"message":"hello {n}"}}}}"#)
}
