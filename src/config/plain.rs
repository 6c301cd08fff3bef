//! What a message may show of a value. Anything can be pasted into the wrong place, also a password.
//! So a message shows only what is too plain to be a secret: numbers, durations, short words. All
//! messages about settings ask here.

use std::path::Path;

/// Stands for a value that is not plain.
pub(super) const HIDDEN: &str = "text that is not shown since it may hold a secret";

/// A longer word is shown only when it is one of [`WORDS`].
const MAX_LETTERS: usize = 5;
/// A number with more digits may be a key, or the number of a credit card.
const MAX_DIGITS: usize = 12;
const MAX_BYTES: usize = 32;
const MAX_NAME: usize = 64;

/// Longer words that people write into settings and nobody uses as a password.
const WORDS: [&str; 14] = [
    "critical",
    "default",
    "develop",
    "development",
    "disabled",
    "enabled",
    "localhost",
    "notice",
    "production",
    "release",
    "staging",
    "testing",
    "verbose",
    "warning",
];

/// The letters that a duration or a number may have beside its digits.
const UNITS: [&str; 31] = [
    "e", "y", "yr", "year", "years", "month", "months", "w", "week", "weeks", "d", "day", "days",
    "h", "hr", "hour", "hours", "m", "min", "mins", "minute", "minutes", "s", "sec", "secs",
    "second", "seconds", "ms", "us", "\u{b5}s", "ns",
];

/// The words for a text: the text itself in quotes when it is plain.
pub(crate) fn shown(text: &str) -> String {
    shown_if(is_plain(text), text)
}

/// The words for a text that may also hold some `known` words, with marks between them. The other
/// words must be plain when they are put together: `redis://:pw@host` is made of plain words, too.
pub(crate) fn shown_with(known: &[&str], text: &str) -> String {
    let is_known = |word: &str| known.iter().any(|each| each.eq_ignore_ascii_case(word));
    // A colon or an @ may stand before a password, except for the `::` between modules.
    let separated = text.replace("::", ",");
    let words = separated.split([' ', ',', ';', '=', '/', '[', '-']);
    let others: String = words.filter(|word| !is_known(word)).collect();
    shown_if(is_plain(&others), text)
}

fn shown_if(is_plain: bool, text: &str) -> String {
    match is_plain {
        true => format!("{text:?}"),
        false => HIDDEN.to_owned(),
    }
}

/// Whether a text is a number, a duration, or a word that no secret looks like.
pub(crate) fn is_plain(text: &str) -> bool {
    if text.len() > MAX_BYTES {
        return false;
    }
    let is_word = text.bytes().all(|b| b.is_ascii_alphabetic());
    if is_word {
        let is_known = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
        return text.len() <= MAX_LETTERS || is_known;
    }
    text.bytes().filter(u8::is_ascii_digit).count() <= MAX_DIGITS
        && text
            .split(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | ' '))
            .all(|letters| letters.is_empty() || UNITS.contains(&letters))
}

/// Whether the name of a key, a section or a variable may be shown. For YAML, `{password:s3cret}` is
/// a key.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// The words for a path: the path itself when it cannot be anything else.
pub(crate) fn path(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_path = text.starts_with('/') || text.starts_with("./") || text.starts_with("../");
    let is_plain_byte = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    match is_path && text.bytes().all(is_plain_byte) {
        true => text.into_owned(),
        false => shown(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_are_shown() {
        for text in [
            "15",
            "-1",
            "65536",
            "1.5",
            "abc",
            "many",
            "prod",
            "2s",
            "1h0m0s",
            "2m 30s",
            "7500ms",
            "1e3",
            "localhost",
            "Warning",
            "NaN",
            "100\u{b5}s",
        ] {
            assert_eq!(shown(text), format!("{text:?}"));
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for text in [
            "s3cret",
            "hunter",
            "correct horse",
            "p@ss",
            "a:b",
            "1234567890123",
            "0xdeadbeef",
            "user=me",
            "http://x",
            "a\nb",
            "\u{1b}[0m",
            "\u{e9}",
            "a-b",
            "1x",
        ] {
            assert_eq!(shown(text), HIDDEN, "{text:?}");
        }
    }

    #[test]
    fn known_words_are_shown_with_one_that_is_plain() {
        let known = ["info", "debug", "Asia"];
        for text in ["info hyper=debug", "a=b=c", "[job", "Asia/Tokio", "INFO::x"] {
            assert_eq!(shown_with(&known, text), format!("{text:?}"));
        }
        for text in [
            "redis://:pw@host",
            "host:6379,password=abc,ssl=True",
            "info:pw@host",
            "p@ss",
            "a:b",
            "correct horse",
            "info=hunter",
            "hunt-er-pw",
            "Asia/s3cret",
        ] {
            assert_eq!(shown_with(&known, text), HIDDEN, "{text:?}");
        }
    }

    #[test]
    fn a_path_is_shown_when_it_is_nothing_else() {
        for text in ["/etc/dm-jobqueue", "./config", "../go/config_1", "conf"] {
            assert!(path(Path::new(text)).contains(text));
        }
        for text in ["s3cret", "redis://:pw@host", "/pa+ss=", "abc/def"] {
            assert_eq!(path(Path::new(text)), HIDDEN, "{text:?}");
        }
    }

    #[test]
    fn a_name_is_one_word() {
        for name in [
            "DB_TYPE",
            "api",
            "x-common",
            ".defaults",
            "cache_server.redis.default",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in ["password:s3cret", "a b", "", "123", "a=b", "\u{e9}"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
