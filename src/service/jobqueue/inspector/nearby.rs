//! Where in the stream a job probably is, by the time in its id. Decides from values alone.

use uuid::Uuid;

use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::redis::looking::Range;

/// Around the time of a job's own id the stream is searched in this order: ms before and behind it. The clocks of
/// a client and of Redis may differ by seconds.
const AROUND_MS: [(u64, u64); 3] = [(20, 1000), (2000, 0), (0, 5000)];

/// The parts of the stream around the time in an id, the likeliest first.
pub(super) fn around(id: &str) -> Vec<Range> {
    let uuid = Uuid::parse_str(id).ok();
    let Some(time) = uuid.and_then(|uuid| uuid.get_timestamp()) else {
        return Vec::new();
    };
    let (seconds, nanos) = time.to_unix();
    let ms = seconds
        .saturating_mul(1000)
        .saturating_add(u64::from(nanos / 1_000_000));
    let range = |(before, behind): (u64, u64)| Range {
        after: Some(EntryId::first_at(ms.saturating_sub(before))),
        before: Some(EntryId::first_at(ms.saturating_add(behind))),
        newest_first: false,
    };
    AROUND_MS.into_iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_version_7_says_where_to_look() {
        let id = "019b0000-0000-7000-8000-000000000000";
        let ms = 0x019b_0000_0000;
        let ranges = around(id);
        assert_eq!(ranges.len(), AROUND_MS.len());
        for range in &ranges {
            assert!(range.after < range.before);
        }
        let first = ranges[0];
        assert!(first.after < Some(EntryId::first_at(ms)));
        assert!(first.before > Some(EntryId::first_at(ms)));
        for other in ["5-1", "an id", "7a6f0b1e-0000-4000-8000-000000000000"] {
            assert!(around(other).is_empty(), "{other}");
        }
    }
}
