//! How often this worker looks for expired leases, and how far away Redis is, by the clock of
//! this process.
//!
//! A worker that is far away from Redis looks rarely and renews late. That must not be taken for
//! a Redis that stands still, or nobody would ever take over from a dead worker.

use std::time::{Duration, Instant};

use crate::service::jobqueue::redis::{LeaseTimes, Look};

/// The shortest of so many gaps, or round trips, is the usual one. A single one that was longer,
/// by chance or because Redis stood still, changes nothing.
const REMEMBERED: usize = 4;
/// The usual gap is multiplied by this. A read between two looks makes the gap one round
/// trip longer, which less than doubles it.
const TOLERANCE: u32 = 2;
/// How many round trips a lease must be long, beside its heartbeats. Two are needed: a delivery
/// travels back for half a round trip, the renewal that was on its way then takes a whole one,
/// and the next renewal travels for half of one. The rest is for delays.
const ROUND_TRIPS_A_LEASE: u32 = 4;

/// What one connection has shown so far.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
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
    /// The rhythm on a new connection, of which nothing is known.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A round trip took so long.
    pub(super) fn answered(&mut self, took: Duration) {
        self.round_trips.add(took);
    }

    /// How long a command and its reply are on their way, as far as this is known.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trips.shortest()
    }

    /// A look begins at `now`. Answers the times that it is to judge by.
    pub(super) fn look(&mut self, now: Instant, times: &LeaseTimes) -> Look {
        let round_trip = self.round_trip();
        // A shorter gap is no measure: that look goes on with what the last one left.
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

/// A lease that heartbeats can keep over such a distance. It is doubled until it is long enough,
/// so that workers which are about as far away have the same one.
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
        let (mut rhythm, times) = (Rhythm::new(), times(600));
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
            let mut rhythm = Rhythm::new();
            rhythm.answered(ms(round_trip));
            rhythm.answered(ms(round_trip + 700));
            let look = rhythm.look(Instant::now(), &times(lease));
            assert_eq!(look.lease, ms(honest), "{lease} {round_trip}");
        }
    }
}
