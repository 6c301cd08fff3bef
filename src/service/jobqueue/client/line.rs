//! When the next batch of jobs is sent, and how much goes in it. Decides from values alone.
//!
//! Each batch costs a round trip's work, so it should be worth that. And no more bytes may be on
//! their way than the line carries while the callers wait.

use std::time::Duration;

use tokio::time::Instant;

use super::outbox::Wanted;
use crate::service::jobqueue::redis::Window;

/// How many batches are on their way at once.
const MAX_BATCHES: usize = 16;
/// A batch that takes so much longer than the fastest one had too many bytes. Callers do not
/// wait for long.
const LONG_TRIP: Duration = Duration::from_millis(250);
/// While a batch is on its way, a new batch needs this many jobs. Fewer jobs wait for a reply.
const WORTH_A_BATCH: usize = 8;
/// But they wait no longer than this after the last batch was sent.
const LONG_REPLY: Duration = Duration::from_millis(1);
/// How often the deadlines of waiting jobs are looked at while no batch can go.
const DEADLINE_CHECK: Duration = Duration::from_millis(10);

/// What is on its way, and what the line has shown.
#[derive(Debug)]
pub(super) struct Line {
    window: Window,
    batches: usize,
    /// How many bytes of jobs these batches have.
    in_flight: usize,
    /// When the last batch was sent.
    last: Instant,
    /// How long a round trip takes lately.
    usual: Duration,
    /// The connection of which that is known.
    generation: u64,
}

/// The bytes of a batch's jobs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    own: usize,
    /// With those that were sent before and have no reply yet.
    in_flight: usize,
    /// How much longer than others the batch's reply may take.
    pub(super) time: Duration,
}

/// A batch that has ended.
#[derive(Debug)]
pub(super) struct Trip {
    pub(super) bytes: Bytes,
    pub(super) took: Duration,
    pub(super) end: TripEnd,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum TripEnd {
    /// Nobody waited for it any more, or there was no connection.
    NotSent,
    /// No reply came.
    Lost,
    /// The reply came on the connection of this generation.
    Replied { generation: u64 },
}

impl Line {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window: Window::new(LONG_TRIP),
            batches: 0,
            in_flight: 0,
            last: now,
            usual: Duration::ZERO,
            generation: 0,
        }
    }

    /// What the next batch is to be. If there are not enough jobs for it, it is to be decided
    /// anew at the time that stands beside it.
    pub(super) fn next(&self, now: Instant) -> (Wanted, Option<Instant>) {
        let (enough, again) = if self.batches == 0 {
            (1, None)
        } else if self.batches == MAX_BATCHES || self.room() == 0 {
            (usize::MAX, Some(now + DEADLINE_CHECK))
        } else if now - self.last >= LONG_REPLY {
            (1, None)
        } else {
            (WORTH_A_BATCH, Some(self.last + LONG_REPLY))
        };
        let wanted = Wanted {
            enough,
            bytes: self.room(),
            lead: self.lead(),
        };
        (wanted, again)
    }

    fn room(&self) -> usize {
        self.window.bytes().saturating_sub(self.in_flight)
    }

    /// How long before its deadline it is too late to send a job: the reply would come after
    /// the deadline, and the job would be answered that its outcome is unknown. But while
    /// nothing is on its way, something has to be sent to find out how long a reply takes.
    fn lead(&self) -> Duration {
        match self.in_flight {
            0 => Duration::ZERO,
            _ => self.usual,
        }
    }

    /// A batch is sent, whose jobs have so many bytes.
    pub(super) fn begin(&mut self, own: usize, now: Instant) -> Bytes {
        self.batches += 1;
        self.in_flight += own;
        self.last = now;
        Bytes {
            own,
            in_flight: self.in_flight,
            time: self.window.time(self.in_flight),
        }
    }

    /// A batch has ended.
    pub(super) fn end(&mut self, trip: &Trip) {
        self.batches -= 1;
        self.in_flight -= trip.bytes.own;
        match trip.end {
            TripEnd::Replied { generation } => {
                if self.generation != generation {
                    self.generation = generation;
                    self.window.connected();
                }
                self.window.passed(trip.bytes.in_flight, trip.took);
                self.usual = (3 * self.usual + trip.took) / 4;
            }
            TripEnd::Lost => self.window.lost(trip.bytes.in_flight),
            TripEnd::NotSent => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replied(bytes: Bytes, took: Duration) -> Trip {
        let end = TripEnd::Replied { generation: 1 };
        Trip { bytes, took, end }
    }

    fn enough(line: &Line, now: Instant) -> (usize, Option<Instant>) {
        let (wanted, again) = line.next(now);
        (wanted.enough, again)
    }

    #[test]
    fn a_job_goes_at_once_unless_a_batch_is_on_its_way_for_less_than_a_moment() {
        let now = Instant::now();
        let mut line = Line::new(now);
        assert_eq!(enough(&line, now), (1, None));
        let batch = line.begin(100, now);
        let moment = now + LONG_REPLY;
        assert_eq!(enough(&line, now), (WORTH_A_BATCH, Some(moment)));
        assert_eq!(enough(&line, moment), (1, None));
        line.end(&replied(batch, LONG_REPLY));
        assert_eq!(enough(&line, now), (1, None));
    }

    #[test]
    fn no_more_batches_are_on_their_way_than_sixteen() {
        let now = Instant::now();
        let mut line = Line::new(now);
        let batches: Vec<Bytes> = (0..MAX_BATCHES).map(|_| line.begin(1, now)).collect();
        let full = (usize::MAX, Some(now + DEADLINE_CHECK));
        assert_eq!(enough(&line, now), full);
        line.end(&replied(batches[0], Duration::ZERO));
        assert_eq!(enough(&line, now).0, WORTH_A_BATCH);
    }

    #[test]
    fn no_more_bytes_are_on_their_way_than_the_line_carries() {
        let now = Instant::now();
        let mut line = Line::new(now);
        let first = line.begin(100, now);
        let (wanted, _) = line.next(now);
        line.begin(wanted.bytes, now);
        let full = (usize::MAX, Some(now + DEADLINE_CHECK));
        assert_eq!(enough(&line, now), full);
        line.end(&replied(first, Duration::ZERO));
        let (wanted, _) = line.next(now);
        assert_eq!((wanted.enough, wanted.bytes), (WORTH_A_BATCH, 100));
    }

    #[test]
    fn a_job_whose_reply_would_come_too_late_is_not_wanted_behind_others() {
        let now = Instant::now();
        let mut line = Line::new(now);
        let batch = line.begin(100, now);
        line.end(&replied(batch, Duration::from_millis(40)));
        assert_eq!(line.next(now).0.lead, Duration::ZERO, "nothing is sent");
        let batch = line.begin(100, now);
        assert_eq!(line.next(now).0.lead, Duration::from_millis(10));
        let (bytes, end) = (batch, TripEnd::NotSent);
        let took = Duration::from_secs(9);
        line.end(&Trip { bytes, took, end });
        line.begin(100, now);
        assert_eq!(line.next(now).0.lead, Duration::from_millis(10));
    }

    #[test]
    fn a_lost_batch_halves_what_the_next_ones_may_have() {
        let now = Instant::now();
        let mut line = Line::new(now);
        let before = line.next(now).0.bytes;
        let bytes = line.begin(before, now);
        let (took, end) = (Duration::ZERO, TripEnd::Lost);
        line.end(&Trip { bytes, took, end });
        assert_eq!(line.next(now).0.bytes, before / 2);
    }
}
