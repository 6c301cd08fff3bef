//! The time zone of this process: the zone that `TZ` names, or the system's, or UTC.
//!
//! jiff looks up names in the system's database. If the system has none, it uses its own. A system
//! may have some names only (Debian keeps old ones, such as US/Pacific, in another package). Then
//! jiff does not look into its own database, so this does.

use std::io::ErrorKind;
use std::path::Path;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use tracing::warn;

use crate::config::plain;

/// The file that names the system's zone.
const SYSTEM: &str = "/etc/localtime";
/// The beginnings of the names of zones. A warning may show them, with a short word behind them.
const AREAS: [&str; 12] = [
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Etc",
    "Europe",
    "Indian",
    "Pacific",
    "US",
];

/// Finds the zone, and warns when the name is no zone: then it is UTC. Call it once at the start, since
/// files or descriptors may run out later.
pub(crate) fn local() -> TimeZone {
    if let Ok(zone) = TimeZone::try_system() {
        return zone;
    }
    let variable = std::env::var_os("TZ");
    let name = match &variable {
        Some(value) => value.to_str().map(str::to_owned),
        None => link(Path::new(SYSTEM)),
    };
    if let Some(zone) = name.as_deref().and_then(bundled) {
        return zone;
    }
    match variable {
        Some(value) => warn!(
            TZ = %plain::shown_with(&AREAS, &value.to_string_lossy()).trim_matches('"'),
            "TZ names no time zone that is known: what jobs print has UTC; set it to a name such \
             as Asia/Tokyo, or a rule such as JST-9, or unset it"
        ),
        // A slim image has no such file. Every program takes that for UTC.
        None if is_missing(Path::new(SYSTEM)) => {}
        None => warn!(
            "{SYSTEM} is no time zone: what jobs print has UTC; mend it, or set TZ to a name such \
             as Asia/Tokyo"
        ),
    }
    TimeZone::UTC
}

/// The zone of a name, or of a path that ends in a name, such as `:/usr/share/zoneinfo/Asia/Tokyo`.
fn bundled(name: &str) -> Option<TimeZone> {
    let name = name.strip_prefix(':').unwrap_or(name);
    let name = name.rsplit_once("zoneinfo/").map_or(name, |(_, name)| name);
    TimeZoneDatabase::bundled().get(name).ok()
}

fn link(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Path::to_str(&target).map(str::to_owned)
}

fn is_missing(path: &Path) -> bool {
    let metadata = std::fs::symlink_metadata(path);
    metadata.is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::bundled;

    #[test]
    fn a_name_is_found_without_a_database_of_the_system() {
        for name in [
            "Asia/Tokyo",
            ":Asia/Tokyo",
            "/usr/share/zoneinfo/Asia/Tokyo",
            ":../zoneinfo/Asia/Tokyo",
        ] {
            let zone = bundled(name).unwrap();
            assert_eq!(zone.iana_name(), Some("Asia/Tokyo"), "{name}");
        }
        assert!(bundled("US/Pacific").is_some());
        for name in ["Asia/Tokio", "", "/", "zoneinfo/"] {
            assert!(bundled(name).is_none(), "{name}");
        }
    }
}
