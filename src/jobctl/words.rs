//! How numbers, times and foreign texts look for people. All of it is made of values.
//!
//! An id, a type, a payload or an error was written by somebody else. On a terminal it could write
//! escape sequences, or turn the direction of the text, so [`clean`] comes before everything else.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::service::jobqueue::inspector::State;

/// How many milliseconds a unit has.
const UNITS: [(u64, &str); 4] = [
    (86_400_000, "d"),
    (3_600_000, "h"),
    (60_000, "m"),
    (1000, "s"),
];

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of events in a second. Few of them have more digits behind the point.
pub(super) fn rate(per_second: f64) -> String {
    if (0.001..0.095).contains(&per_second) {
        return format!("{per_second:.2}");
    }
    format!("{per_second:.1}")
}

/// `1 job`, `2 jobs`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A span of time in its two largest units: `3m 12s`, `2d 4h`. What is less than ten seconds is more
/// exact.
pub(super) fn span(ms: u64) -> String {
    if ms < 1000 {
        return format!("{ms}ms");
    }
    if ms < 10_000 {
        return format!("{}.{}s", ms / 1000, ms % 1000 / 100);
    }
    let largest = UNITS
        .iter()
        .position(|(unit, _)| ms >= *unit)
        .unwrap_or(UNITS.len() - 1);
    let mut text = String::new();
    let mut rest = ms;
    for (unit, name) in UNITS.iter().skip(largest).take(2) {
        if rest >= *unit {
            let space = if text.is_empty() { "" } else { " " };
            // Cannot fail because it writes to a text.
            write!(text, "{space}{}{name}", rest / unit).ok();
        }
        rest %= unit;
    }
    text
}

/// A time as seen from `now`: `in 3m 12s`, `2h 5m ago`.
pub(super) fn relative(at_ms: u64, now_ms: u64) -> String {
    match at_ms.checked_sub(now_ms) {
        Some(0) => "now".to_owned(),
        Some(left) => format!("in {}", span(left)),
        None => format!("{} ago", span(now_ms - at_ms)),
    }
}

/// A time as seen from `now`, of something that has happened. Two clocks may differ by a little.
pub(super) fn ago(at_ms: u64, now_ms: u64) -> String {
    relative(at_ms.min(now_ms), now_ms)
}

/// A time on the calendar: `2026-11-27 22:50:12.345 +09:00`.
pub(super) fn absolute(at_ms: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match at {
        Some(at) => at
            .to_zoned_datetime(zone.clone())
            .strftime("%F %T.%3f %:z")
            .to_string(),
        None => format!("{at_ms} ms after 1970"),
    }
}

/// A text in which everything is visible: control characters, and those that hide or turn text around, are
/// escaped as `\u{1b}`. Line breaks and tabs are `\n` and `\t`.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        match is_hidden(c) {
            true => cleaned.extend(c.escape_default()),
            false => cleaned.push(c),
        }
    }
    Cow::Owned(cleaned)
}

/// Whether a terminal would not show a character as itself.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// How many columns a text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A text of at most `columns` columns: when it has more, its beginning and `…`.
pub(super) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut left = columns.saturating_sub(1);
    let fits = |c: &char| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= left;
        left = left.saturating_sub(wide);
        fits
    };
    let mut start: String = text.chars().take_while(fits).collect();
    start.push('…');
    Cow::Owned(start)
}

/// The word for a state.
pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Running => "running",
        State::Scheduled => "scheduled",
        State::Dead => "dead",
        State::Done => "done",
    }
}

/// `2 waiting jobs`, `1 dead letter`.
pub(super) fn jobs(number: u64, of: State) -> String {
    match of {
        State::Dead => counted(number, "dead letter"),
        of => counted(number, &format!("{} job", state(of))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(jobs(1, State::Dead), "1 dead letter");
        assert_eq!(jobs(1000, State::Waiting), "1,000 waiting jobs");
    }

    #[test]
    fn a_small_rate_is_not_nothing() {
        for (per_second, text) in [(0.0, "0.0"), (0.02, "0.02"), (0.1, "0.1"), (12.34, "12.3")] {
            assert_eq!(rate(per_second), text);
        }
    }

    #[test]
    fn spans_have_two_units() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (3_250, "3.2s"),
            (12_000, "12s"),
            (192_000, "3m 12s"),
            (3_600_000, "1h"),
            (7_500_000, "2h 5m"),
            (3_605_000, "1h"),
            (187_200_000, "2d 4h"),
        ] {
            assert_eq!(span(ms), text);
        }
        assert_eq!(relative(5_000, 5_000), "now");
        assert_eq!(relative(197_000, 5_000), "in 3m 12s");
        assert_eq!(relative(5_000, 197_000), "3m 12s ago");
        assert_eq!(ago(197_000, 5_000), "now");
    }

    #[test]
    fn a_time_is_in_the_zone_of_the_reader() {
        let tokyo = TimeZone::fixed(jiff::tz::offset(9));
        assert_eq!(
            absolute(1_764_283_812_345, &tokyo),
            "2025-11-28 07:50:12.345 +09:00"
        );
        assert_eq!(
            absolute(u64::MAX, &tokyo),
            format!("{} ms after 1970", u64::MAX)
        );
    }

    #[test]
    fn nothing_in_a_foreign_text_reaches_the_terminal_as_a_command() {
        for (text, shown) in [
            ("plain 日本語 🎉", "plain 日本語 🎉"),
            ("\u{1b}[2Jx", "\\u{1b}[2Jx"),
            ("a\r\n\tb", "a\\r\\n\\tb"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}abc", "\\u{202e}abc"),
            ("a\u{200b}b\u{7f}", "a\\u{200b}b\\u{7f}"),
        ] {
            assert_eq!(clean(text), shown);
        }
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(width("日本"), 4);
        for (columns, text) in [(4, "日本"), (3, "日…"), (2, "…"), (1, "…")] {
            assert_eq!(cut("日本", columns), text);
        }
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello", 4), "hel…");
    }
}
