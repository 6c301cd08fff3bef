//! Which lines are logged: what `RUST_LOG` says, or else the level of the settings.
//!
//! tracing takes any word for the name of a crate, and a filter for a crate that does not exist
//! silences everything. So words that cannot be meant like this are refused here.

use tracing_subscriber::EnvFilter;

use crate::config::{LogLevel, plain};

use super::error::TelemetryError;

/// The crates that log the programs' lines: the library, and the two mains. A filter for one of them
/// means all of them.
const OWN: [&str; 3] = ["dm_jobqueue", "jobqueue", "server"];
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const EXPECTED: &str = "a level (off, error, warn, info, debug, trace) or filters such as \
                        \"info,dm_jobqueue=debug\"";

/// The filter that `found`, the value of `RUST_LOG`, asks for. When it is empty, the programs' lines are
/// logged from `level` on, and warnings of the libraries.
pub(super) fn filter(found: &str, level: LogLevel) -> Result<EnvFilter, TelemetryError> {
    let mut filters = Vec::new();
    for one in found
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty())
    {
        filters.extend(check(one).map_err(|expected| bad(found, expected))?);
    }
    if filters.is_empty() {
        filters = by_level(level);
    }
    EnvFilter::try_new(filters.join(",")).map_err(|_| bad(found, EXPECTED.to_owned()))
}

fn bad(found: &str, expected: String) -> TelemetryError {
    TelemetryError::BadFilter {
        found: plain::shown_with(&[&OWN[..], &LEVELS].concat(), found),
        expected,
    }
}

fn by_level(level: LogLevel) -> Vec<String> {
    let (own, libraries) = match level {
        LogLevel::Trace => ("trace", "warn"),
        LogLevel::Debug => ("debug", "warn"),
        LogLevel::Info => ("info", "warn"),
        LogLevel::Warn => ("warn", "warn"),
        LogLevel::Error => ("error", "error"),
    };
    let own = OWN.map(|name| format!("{name}={own}"));
    [libraries.to_owned()].into_iter().chain(own).collect()
}

/// The filters that one part of `RUST_LOG` stands for, or what is expected instead.
fn check(filter: &str) -> Result<Vec<String>, String> {
    // This is a filter by spans and their fields. tracing checks those itself.
    if filter.contains('[') {
        return Ok(vec![filter.to_owned()]);
    }
    let (target, level) = match filter.split_once('=') {
        None if is_level(filter) => return Ok(vec![filter.to_owned()]),
        None => (filter, "trace"),
        Some((target, level)) => (target.trim(), level.trim()),
    };
    let name = target.split("::").next().unwrap_or(target);
    if is_level(target) || !is_level(level) || !is_path(target) {
        return Err(EXPECTED.to_owned());
    }
    if OWN.contains(&target) {
        return Ok(OWN.map(|own| format!("{own}={level}")).into());
    }
    if name == OWN[0] {
        return Ok(vec![format!("{target}={level}")]);
    }
    if OWN.iter().any(|own| is_like(name, own)) {
        return Err(format!("{}={level}", OWN[0]));
    }
    // This is a library. With a level of its own it cannot be a level that was misspelt.
    match filter.contains('=') {
        true => Ok(vec![format!("{target}={level}")]),
        false => Err(EXPECTED.to_owned()),
    }
}

/// Whether `word` is the name of a level, or the number that tracing takes for one.
fn is_level(word: &str) -> bool {
    let is_it = |level: &&str| level.eq_ignore_ascii_case(word);
    LEVELS.iter().any(is_it) || matches!(word.as_bytes(), [b'0'..=b'5'])
}

fn is_path(target: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-:".contains(c);
    !target.is_empty() && target.chars().all(is_part)
}

/// Whether `name` is `own` with a slip, such as `dm-jobqueue`.
fn is_like(name: &str, own: &str) -> bool {
    strsim::damerau_levenshtein(&name.to_lowercase(), own) <= own.len() / 4
}

#[cfg(test)]
mod tests {
    use super::filter;
    use crate::config::LogLevel;

    /// The filters, sorted by their text.
    fn filters(found: &str) -> Result<Vec<String>, String> {
        let filter = filter(found, LogLevel::Info).map_err(|error| error.to_string())?;
        let mut filters: Vec<String> = filter.to_string().split(',').map(str::to_owned).collect();
        filters.sort();
        Ok(filters)
    }

    #[test]
    fn the_settings_decide_when_nothing_else_does() {
        for found in ["", " ", ","] {
            let expected = ["dm_jobqueue=info", "jobqueue=info", "server=info", "warn"];
            assert_eq!(filters(found).unwrap(), expected);
        }
        let error = filter("", LogLevel::Error).unwrap().to_string();
        assert!(
            error.contains("dm_jobqueue=error") && !error.contains("warn"),
            "{error}"
        );
    }

    #[test]
    fn what_tracing_understands_is_accepted() {
        for (found, expected) in [
            ("warn", &["warn"][..]),
            ("INFO,", &["info"]),
            (" info ", &["info"]),
            ("3", &["info"]),
            ("off", &["off"]),
            ("hyper=debug", &["hyper=debug"]),
            ("warn, redis=trace", &["redis=trace", "warn"]),
            ("dm_jobqueue::api=DEBUG", &["dm_jobqueue::api=debug"]),
            ("[job]=debug", &["[job]=debug"]),
        ] {
            assert_eq!(filters(found).unwrap(), expected, "{found}");
        }
    }

    #[test]
    fn the_programs_names_mean_all_their_lines() {
        let expected = ["dm_jobqueue=debug", "jobqueue=debug", "server=debug"];
        for name in ["dm_jobqueue", "jobqueue", "server"] {
            assert_eq!(filters(&format!("{name}=debug")).unwrap(), expected);
        }
    }

    #[test]
    fn a_word_that_would_silence_everything_is_refused() {
        for found in [
            "verbose",
            "debg",
            "9",
            "-1",
            "info;hyper=debug",
            "info hyper=debug",
            "info/x",
            "hyper",
            "dm_jobqueue=verbose",
            "dm_jobqueue=",
            "=info",
            "info=debug",
            "a=b=c",
            "[job",
            "true",
            "info,verbose",
        ] {
            let error = filters(found).unwrap_err();
            let expected = format!("RUST_LOG: found {found:?}, expected a level (off, error, ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_slip_in_a_name_is_refused_with_the_right_name() {
        for name in [
            "dm-jobqueue",
            "dm_jobque",
            "jobqueu",
            "DM_JOBQUEUE::api",
            "sever",
        ] {
            let error = filters(&format!("{name}=debug")).unwrap_err();
            assert!(error.ends_with("expected dm_jobqueue=debug"), "{error}");
        }
    }
}
