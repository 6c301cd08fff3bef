//! How long finished jobs took. Decides from values alone.

use super::view::Quantiles;

/// Times, each of which stands for so many jobs.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<(u64, u64)>);

impl Times {
    /// Adds the time of `count` jobs.
    pub(super) fn add(&mut self, ms: u64, count: u64) {
        self.0.push((ms, count));
    }

    /// None without any time.
    pub(super) fn quantiles(mut self) -> Option<Quantiles> {
        self.0.sort_unstable();
        // Anybody may have written the counts.
        let counts = self.0.iter().map(|(_, count)| u128::from(*count));
        let total: u128 = counts.sum();
        let max = self.0.last()?.0;
        // The smallest time that this many of a hundred jobs do not exceed.
        let at = |percent: u128| {
            let (target, mut seen) = ((total * percent).div_ceil(100), 0);
            let mut times = self.0.iter();
            let reached = times.find(|(_, count)| {
                seen += u128::from(*count);
                seen >= target
            });
            reached.map_or(max, |(ms, _)| *ms)
        };
        Some(Quantiles {
            p50: at(50),
            p95: at(95),
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_as_often_as_it_stands_for_jobs() {
        let of = |times: &[(u64, u64)]| Times(times.to_vec()).quantiles();
        let is = |p50, p95, max| Some(Quantiles { p50, p95, max });
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(7, 1)]), is(7, 7, 7));
        let hundred: Vec<_> = (1..=100).rev().map(|ms| (ms, 1)).collect();
        assert_eq!(of(&hundred), is(50, 95, 100));
        assert_eq!(of(&[(1, 1), (9, 1), (5, 98)]), is(5, 5, 9));
        assert_eq!(of(&[(1, 90), (100, 10)]), is(1, 100, 100));
        assert_eq!(of(&[(1, u64::MAX), (2, u64::MAX)]), is(1, 2, 2));
    }
}
