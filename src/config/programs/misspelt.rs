//! Variables whose name is nearly one of ours. Such a variable stops the start, since it would have
//! no effect and nobody would notice. A variable that may be another program's is left alone.
//!
//! A name is nearly ours when it
//! - differs from ours in case and separators alone (`APP_JOBQUEUE__LEASE`, `APPENV`), also with
//!   `CACHE_SERVER` left out (`APP__REDIS_JOBQUEUE_ADDR`, `REDIS_JOBQUEUE_PASSWORD`);
//! - has `__` in it and is one slip away from ours (`AP__JOBQUEUE__LEASE`);
//! - is one or two slips away from `REDIS_JOBQUEUE_ADDR`, or one from `CONFIG_DIR`;
//! - is `APP_ENV` with a letter swapped, doubled or missing. A wrong letter, or one more, makes
//!   another word (`APP_END`).
//!
//! A digit or the s of a plural makes another name and is no slip (`CONFIG_DIR2`). Docker and
//! Kubernetes set variables for a service, such as `APP_SERVER_PORT=tcp://10.0.0.1:80`; their
//! value tells them apart.

use std::collections::BTreeSet;

use super::{
    names::Names,
    slips::{differ_in_digits, is_slip, letters},
    variables::{ADDR, DIRECTORY, ENVIRONMENT, OVERRIDE_PREFIX, override_of},
};
use crate::config::redis_config;

/// The variable of ours that was meant by `name`, when `name` is nearly that.
pub(super) fn meant_by(names: &Names, name: &str, value: &str) -> Option<String> {
    let mut ours: BTreeSet<_> = names.all().map(override_of).collect();
    ours.extend([ADDR, ENVIRONMENT, DIRECTORY].map(str::to_owned));
    if ours.contains(name) || is_of_a_service(name, value) {
        return None;
    }
    let found = letters(name);
    if let Some(right) = ours.iter().find(|right| letters(right) == found) {
        return Some(right.clone());
    }
    if let Some(right) = without_cache_server(names, &found) {
        return Some(right);
    }
    let special = [
        (ADDR, is_addr(&found)),
        (DIRECTORY, is_singular_slip(&found, &letters(DIRECTORY))),
        (ENVIRONMENT, is_environment(&found)),
    ];
    if let Some((right, _)) = special.iter().find(|(_, is_it)| *is_it) {
        return Some((*right).to_owned());
    }
    // Names with the prefix are checked by `Names`, like the keys of files.
    let is_override = name.contains("__") && !name.starts_with(OVERRIDE_PREFIX);
    let mut slips = ours
        .iter()
        .filter(|right| is_singular_slip(&found, &letters(right)));
    slips.next().filter(|_| is_override).cloned()
}

/// Whether Docker or Kubernetes set the variable for a service, such as one called `app-server`.
fn is_of_a_service(name: &str, value: &str) -> bool {
    !name.contains("__") && (value.starts_with("tcp://") || value.starts_with("udp://"))
}

/// The variable that `found` names without `CACHE_SERVER`.
fn without_cache_server(names: &Names, found: &str) -> Option<String> {
    let found = found.strip_prefix("app").unwrap_or(found);
    let key = names.all().find(|key| {
        let rest = key.strip_prefix("cache_server.");
        rest.is_some_and(|rest| letters(rest) == found)
    })?;
    Some(match key {
        redis_config::ADDR => ADDR.to_owned(),
        _ => override_of(key),
    })
}

fn is_addr(found: &str) -> bool {
    let ours = letters(ADDR);
    let distance = strsim::osa_distance(found, &ours);
    // …_ADDRESS is more slips away, but it can mean nothing else.
    (1..=2).contains(&distance) && !differ_in_digits(found, &ours) || found == format!("{ours}ess")
}

/// Whether `found` is `ours` with a slip. A plural is another program's variable.
fn is_singular_slip(found: &str, ours: &str) -> bool {
    is_slip(found, ours) && found.strip_suffix('s') != Some(ours)
}

fn is_environment(found: &str) -> bool {
    let ours = letters(ENVIRONMENT);
    let sorted = |text: &str| {
        let mut letters: Vec<_> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    let without_repeats = |text: &str| {
        let mut letters: Vec<_> = text.chars().collect();
        letters.dedup();
        letters
    };
    let one_off = strsim::osa_distance(found, &ours) == 1;
    let is_swapped = sorted(found) == sorted(&ours);
    let is_doubled = without_repeats(found) == without_repeats(&ours);
    let is_missing = found.len() < ours.len() && found.ends_with('v');
    one_off && (is_swapped || is_doubled || is_missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(name: &str) -> Option<String> {
        let names = Names::new(super::super::keys::known());
        meant_by(&names, name, "1")
    }

    #[test]
    fn a_name_that_is_nearly_ours_means_the_right_one() {
        for (name, right) in [
            ("APP_JOBQUEUE__LEASE", "APP__JOBQUEUE__LEASE"),
            ("APP_JOBQUEUE_LEASE", "APP__JOBQUEUE__LEASE"),
            ("app__jobqueue__lease", "APP__JOBQUEUE__LEASE"),
            ("APP__JOBQUEUE_LEASE", "APP__JOBQUEUE__LEASE"),
            ("APP__JOBQUEUE.LEASE", "APP__JOBQUEUE__LEASE"),
            ("APP__JOBQUEUE__lease", "APP__JOBQUEUE__LEASE"),
            ("APP__jobqueue__LEASE", "APP__JOBQUEUE__LEASE"),
            ("APP___JOBQUEUE__LEASE", "APP__JOBQUEUE__LEASE"),
            ("App-Jobqueue-Lease", "APP__JOBQUEUE__LEASE"),
            ("AP__JOBQUEUE__LEASE", "APP__JOBQUEUE__LEASE"),
            ("APP_JOBQUEUE__LEAES", "APP__JOBQUEUE__LEASE"),
            ("APP__JOBQUEUE__RETRY_MAX", "APP__JOBQUEUE__RETRY__MAX"),
            ("APP_SERVER_PORT", "APP__SERVER__PORT"),
            ("APP__REDIS_JOBQUEUE_ADDR", "REDIS_JOBQUEUE_ADDR"),
            ("APP_REDIS_JOBQUEUE_ADDR", "REDIS_JOBQUEUE_ADDR"),
            ("REDIS_JOBQUEUE_ADRR", "REDIS_JOBQUEUE_ADDR"),
            ("REDIS_JOBQUEUE_ADR", "REDIS_JOBQUEUE_ADDR"),
            ("REDIS_JOBQEUE_ADRR", "REDIS_JOBQUEUE_ADDR"),
            ("REDIS_JOBQUEUE_ADDRESS", "REDIS_JOBQUEUE_ADDR"),
            ("REDIS__JOBQUEUE__ADDR", "REDIS_JOBQUEUE_ADDR"),
            ("REDIS_JOB_QUEUE_ADDR", "REDIS_JOBQUEUE_ADDR"),
            ("redis_jobqueue_addr", "REDIS_JOBQUEUE_ADDR"),
            (
                "REDIS_JOBQUEUE_PASSWORD",
                "APP__CACHE_SERVER__REDIS__JOBQUEUE__PASSWORD",
            ),
            ("APPENV", "APP_ENV"),
            ("APP__ENV", "APP_ENV"),
            ("app_env", "APP_ENV"),
            ("APP_EVN", "APP_ENV"),
            ("APP_ENVV", "APP_ENV"),
            ("AP_ENV", "APP_ENV"),
            ("CONFIGDIR", "CONFIG_DIR"),
            ("CONFIG_DRI", "CONFIG_DIR"),
            ("CONFG_DIR", "CONFIG_DIR"),
        ] {
            assert_eq!(meant(name).as_deref(), Some(right), "{name}");
        }
    }

    #[test]
    fn right_names_and_names_of_other_programs_are_left_alone() {
        for name in [
            "APP_ENV",
            "CONFIG_DIR",
            "REDIS_JOBQUEUE_ADDR",
            "APP__JOBQUEUE__LEASE",
            "APP_PORT",
            "APP_NAME",
            "APP_ENVIRONMENT",
            "APP_END",
            "APP_EN",
            "APP_ENVS",
            "APP_ENV2",
            "APP_KEY",
            "APPLE",
            "APPDATA",
            "APP_URL",
            "REDIS_URL",
            "REDIS_ADDR",
            "REDIS_PASSWORD",
            "REDIS_DEFAULT_ADDR",
            "REDIS_JOBQUEUE_PORT",
            "REDIS_JOBQUEUE_ADDR2",
            "REDIS_JOBQUEUE_SERVICE_HOST",
            "CONFIG_HOME",
            "CONFIG_DIRS",
            "XDG_CONFIG_DIRS",
            "CONFIG_FILE",
            "CONFIG",
            "RAILS_ENV",
            "NODE_ENV",
            "APP__DATABASE__DSN",
            "APP__DB__X",
            "APP__ADMIN__PORT",
            "DB_MASTER_DSN",
            "PATH",
            "LOG_FORMAT",
            "__CF_USER_TEXT_ENCODING",
        ] {
            assert_eq!(meant(name), None, "{name}");
        }
    }

    #[test]
    fn variables_that_kubernetes_sets_for_a_service_are_not_ours() {
        let names = Names::new(super::super::keys::known());
        let meant = |value| meant_by(&names, "APP_SERVER_PORT", value);
        assert_eq!(meant("tcp://10.0.0.1:8080"), None);
        assert_eq!(meant("8080").as_deref(), Some("APP__SERVER__PORT"));
    }

    #[test]
    fn no_two_settings_have_names_of_the_same_letters() {
        let known = super::super::keys::known();
        let letters: BTreeSet<_> = known.iter().map(|key| letters(&override_of(key))).collect();
        assert_eq!(letters.len(), known.len());
    }
}
