//! How far apart this worker's looks for expired leases are, and how far away Redis is, by
//! this process' own clock.
//!
//! A worker far from Redis looks rarely and renews late. Both must not be taken for a Redis
//! that stands still, or nobody would ever take over from a dead worker.

use std::time::{Duration, Instant};

use crate::service::jobqueue::redis::broker::{LeaseTimes, Look};

/// The shortest of so many gaps, or round trips, is what is usual. One that was longer by
/// chance, or for a stall, changes nothing.
const REMEMBERED: usize = 4;
/// A read between two looks makes the gap longer by a round trip, which is less than twice.
const TOLERANCE: u32 = 2;
/// A delivery travels back for half a round trip, the renewal that was on its way then for a
/// whole one, and the next renewal for half of one. That is two. The rest is for delays.
const ROUND_TRIPS_A_LEASE: u32 = 4;

/// What one connection has shown so far.
#[derive(Debug, Default)]
pub(crate) struct Rhythm {
    last_look: Option<Instant>,
    gaps: Recent,
    round_trips: Recent,
}

#[derive(Debug, Default)]
struct Recent {
    times: [Option<Duration>; REMEMBERED],
    next: usize,
}

impl Rhythm {
    /// A round trip took so long.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.round_trips.add(took);
    }

    /// A look begins now. Answers with what times it is to judge.
    pub(crate) fn look(&mut self, now: Instant, times: &LeaseTimes) -> Look {
        let round_trip = self.round_trips.shortest();
        // A look that goes on with what the last one left comes sooner, and is no measure.
        let gap = self.last_look.replace(now).map(|last| now - last);
        if let Some(gap) = gap.filter(|gap| *gap >= times.interval + round_trip) {
            self.gaps.add(gap);
        }
        let reconnect = times.reconnect + round_trip * ROUND_TRIPS_A_LEASE;
        // With the default proportions, a stall shorter than `stall` cannot age a renewed
        // lease to its end, and `hold` is enough for every worker to reconnect and renew.
        Look {
            lease: honest_lease(times, round_trip),
            stall: times.heartbeat + times.interval,
            usual: self.gaps.shortest() * TOLERANCE,
            hold: times.heartbeat + reconnect,
            reconnect,
            interval: times.interval,
        }
    }
}

impl Recent {
    fn add(&mut self, time: Duration) {
        self.times[self.next] = Some(time);
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// Zero when nothing is known.
    fn shortest(&self) -> Duration {
        self.times
            .iter()
            .flatten()
            .min()
            .copied()
            .unwrap_or_default()
    }
}

/// A lease that heartbeats over this way can keep. In steps of twice the length, so that
/// workers which are about as far away have the same one.
fn honest_lease(times: &LeaseTimes, round_trip: Duration) -> Duration {
    let needed = times.heartbeat * 2 + round_trip * ROUND_TRIPS_A_LEASE;
    let mut lease = times.lease;
    while lease < needed {
        lease *= 2;
    }
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn times(lease: u64) -> LeaseTimes {
        LeaseTimes {
            lease: ms(lease),
            heartbeat: ms(lease / 3),
            reconnect: ms(1500),
            interval: ms(lease / 6),
        }
    }

    #[test]
    fn one_long_gap_is_not_usual_and_four_are() {
        let (mut rhythm, times) = (Rhythm::default(), times(600));
        let mut now = Instant::now();
        assert_eq!(rhythm.look(now, &times).usual, ms(0), "nothing is known");
        for (gap, usual) in [
            (99, 0),
            (100, 200),
            (5000, 200),
            (99, 200),
            (120, 200),
            (5000, 200),
            (5000, 240),
            (5000, 240),
            (5000, 10_000),
        ] {
            now += ms(gap);
            assert_eq!(rhythm.look(now, &times).usual, ms(usual), "{gap}");
        }
    }

    #[test]
    fn a_lease_is_the_one_that_is_set_unless_the_way_is_too_long_for_it() {
        for (lease, round_trip, honest) in [
            (15_000, 0, 15_000),
            (15_000, 1_250, 15_000),
            (600, 50, 600),
            (600, 51, 1200),
            (90, 500, 2880),
        ] {
            let mut rhythm = Rhythm::default();
            rhythm.answered(ms(round_trip));
            rhythm.answered(ms(round_trip + 700));
            let look = rhythm.look(Instant::now(), &times(lease));
            assert_eq!(look.lease, ms(honest), "{lease} {round_trip}");
        }
    }
}
