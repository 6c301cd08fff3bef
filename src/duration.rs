//! Durations as humans write them: `250ms`, `2m 30s`.

use std::time::Duration;

/// Why a text is not an accepted duration.
#[derive(Debug)]
pub(crate) enum BadDuration {
    TooLong,
    NotADuration(humantime::DurationError),
}

/// Reads a duration of at most `max`.
///
/// # Errors
/// When the text is not a duration, or a longer one.
pub(crate) fn parse(text: &str, max: Duration) -> Result<Duration, BadDuration> {
    // Each part is checked before the whole: humantime 2.4 panics at some sums that just overflow,
    // such as `18446744073709551615s 1000ms`.
    let mut parts = parts(text).filter_map(|part| humantime::parse_duration(part).ok());
    if parts.any(|part| part > max) {
        return Err(BadDuration::TooLong);
    }
    let duration = humantime::parse_duration(text).map_err(BadDuration::NotADuration)?;
    if duration > max {
        return Err(BadDuration::TooLong);
    }
    Ok(duration)
}

/// Cuts `2m 30s` into `2m ` and `30s`: a part begins at a digit that follows a unit.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut after_unit = false;
    let starts = text.char_indices().filter(move |(_, c)| {
        let starts = after_unit && c.is_ascii_digit();
        if !c.is_whitespace() {
            after_unit = c.is_alphabetic();
        }
        starts
    });
    let starts: Vec<_> = starts.map(|(start, _)| start).collect();
    let ends = starts.clone().into_iter().chain([text.len()]);
    let starts = [0].into_iter().chain(starts);
    starts.zip(ends).map(|(start, end)| &text[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_cut_at_each_number() {
        let cut = |text| parts(text).collect::<Vec<_>>();
        assert_eq!(cut("2m 30s"), ["2m ", "30s"]);
        assert_eq!(cut("1h2\u{b5}s"), ["1h", "2\u{b5}s"]);
        assert_eq!(cut("1 0.5 s"), ["1 0.5 s"]);
        assert_eq!(cut(""), [""]);
    }
}
