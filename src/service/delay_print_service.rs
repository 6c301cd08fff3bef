//! The line that a delay-print job prints: a local timestamp and the message. It is exactly one line,
//! whatever the message holds.

use std::sync::{Arc, Mutex};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::line_writer::{LineWriter, Written};
use crate::{lock::lock, time_zone};

/// Prints timestamped lines.
#[derive(Debug, Clone)]
pub(crate) struct DelayPrintService {
    out: LineWriter,
    zone: TimeZone,
    /// The second of the latest line, and its stamp. Converting a time to the local zone takes longer
    /// than everything else of a line.
    latest: Arc<Mutex<(i64, String)>>,
}

impl DelayPrintService {
    /// A service that prints to `out`, in the time zone that this process has now. Warns when the
    /// zone is unknown.
    pub(crate) fn new(out: LineWriter) -> Self {
        let latest = Arc::new(Mutex::new((i64::MIN, String::new())));
        let zone = time_zone::local();
        Self { out, zone, latest }
    }

    /// Prints `[2026-01-02 12:34:56] message` with the present local time.
    pub(crate) fn print(&self, message: &str) -> Written {
        let now = Timestamp::now();
        let mut latest = lock(&self.latest);
        if latest.0 != now.as_second() {
            let local = now.to_zoned_datetime(self.zone.clone());
            *latest = (now.as_second(), stamp(&local));
        }
        let line = line(&latest.1, message);
        drop(latest);
        self.out.write(line)
    }
}

fn stamp(now: &ZonedDateTime) -> String {
    now.strftime("[%Y-%m-%d %H:%M:%S] ").to_string()
}

/// The line, with its newline.
fn line(stamp: &str, message: &str) -> String {
    let mut line = String::with_capacity(stamp.len() + message.len() + 1);
    line.push_str(stamp);
    let mut rest = message;
    while let Some((start, c)) = rest.char_indices().find(|(_, c)| breaks_the_line(*c)) {
        line.push_str(&rest[..start]);
        line.extend(c.escape_default());
        rest = &rest[start + c.len_utf8()..];
    }
    line.push_str(rest);
    line.push('\n');
    line
}

/// Whether a reader could take a line with this character for something else.
///
/// That is so for control characters (C0, DEL, C1; newline and ESC are among them), for line and
/// paragraph separators, and for bidirectional controls (Unicode's `Bidi_Control` property), which
/// reorder what a terminal shows.
fn breaks_the_line(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{2028}' | '\u{2029}'
            | '\u{061C}' | '\u{200E}' | '\u{200F}'
            | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(message: &str) -> String {
        let now: ZonedDateTime = "2026-01-02T12:34:56.789+09:00[Asia/Tokyo]".parse().unwrap();
        line(&stamp(&now), message)
    }

    #[test]
    fn a_line_has_a_timestamp_and_the_message() {
        assert_eq!(printed("hi"), "[2026-01-02 12:34:56] hi\n");
        assert_eq!(
            printed("ジョブ \\ 完了 🎉"),
            "[2026-01-02 12:34:56] ジョブ \\ 完了 🎉\n"
        );
    }

    #[test]
    fn whatever_breaks_a_line_is_escaped() {
        for (message, shown) in [
            ("a\nb", r"a\nb"),
            ("a\r\tb", r"a\r\tb"),
            ("\u{1b}[31m\0\u{7f}\u{85}", r"\u{1b}[31m\u{0}\u{7f}\u{85}"),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            (
                "\u{202e}evil\u{2066}\u{200f}\u{61c}",
                r"\u{202e}evil\u{2066}\u{200f}\u{61c}",
            ),
        ] {
            assert_eq!(printed(message), format!("[2026-01-02 12:34:56] {shown}\n"));
        }
    }
}
