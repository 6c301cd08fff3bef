//! A batch of settlements on its way to Redis: which of them one command settles, and which
//! commands go out in one round trip.
//!
//! Everything here is decided from values. Nothing here writes a command or waits for a reply:
//! `settling` does both.

use std::collections::VecDeque;

use super::destination::{CommandKind, Destination};
use super::entry::EntryId;

/// How many bytes of jobs one command moves. Redis serves nobody else while it works on one.
const MAX_SCRIPTED_BYTES: usize = 1024 * 1024;
/// About how many bytes a command has on the wire before its first entry: the script.
const SCRIPT_BYTES: usize = 2048;

/// Tells which entry a settlement is for, and where the entry goes.
pub(crate) type Address<S> = fn(&S) -> (EntryId, Destination<'_>);

/// Settlements that one command settles.
#[derive(Debug)]
pub(super) struct Part<S> {
    pub(super) kind: CommandKind,
    pub(super) settlements: Vec<S>,
    /// How many bytes of jobs Redis moves for the command.
    pub(super) moved_bytes: usize,
    /// About how many bytes the command has on the wire.
    pub(super) sent_bytes: usize,
}

/// What is left to be sent of the settlements that were taken together.
#[derive(Debug)]
pub(crate) struct Batch<S> {
    pub(super) address: Address<S>,
    parts: VecDeque<Part<S>>,
}

impl<S> Batch<S> {
    /// Sorts settlements by the command that settles them, within the limits of the commands
    /// and within `window`, the number of bytes of a round trip.
    pub(crate) fn new(settlements: Vec<S>, window: usize, address: Address<S>) -> Self {
        let mut parts: Vec<Part<S>> = Vec::new();
        for settlement in settlements {
            let (_, destination) = address(&settlement);
            let (kind, moved, sent) = (
                destination.kind(),
                destination.moved_bytes(),
                destination.sent_bytes(),
            );
            // Only the latest part of a kind may have room.
            let latest = parts.iter().rposition(|part| part.kind == kind);
            let open = latest.filter(|latest| parts[*latest].has_room(moved, sent, window));
            let open = open.unwrap_or_else(|| {
                parts.push(Part::new(kind));
                parts.len() - 1
            });
            let part = &mut parts[open];
            part.settlements.push(settlement);
            part.moved_bytes += moved;
            part.sent_bytes += sent;
        }
        Self {
            address,
            parts: parts.into(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// All settlements that were not answered, in their order within each kind.
    pub(crate) fn into_settlements(self) -> Vec<S> {
        let parts = self.parts.into_iter();
        parts.flat_map(|part| part.settlements).collect()
    }

    /// Takes the parts that go out together: as many as `window` allows, and one at least.
    /// A round trip has to end within the time that a reply may take, or it would be given up
    /// and sent again for ever.
    pub(super) fn next_trip(&mut self, window: usize) -> Vec<Part<S>> {
        let mut bytes = 0;
        let fits = |part: &&Part<S>| {
            bytes += part.sent_bytes;
            bytes <= window
        };
        let count = self.parts.iter().take_while(fits).count().max(1);
        self.parts.drain(..count.min(self.parts.len())).collect()
    }

    /// No reply came to a round trip: its parts are the first again.
    pub(super) fn restore(&mut self, trip: Vec<Part<S>>) {
        for part in trip.into_iter().rev() {
            self.parts.push_front(part);
        }
    }
}

impl<S> Part<S> {
    fn new(kind: CommandKind) -> Self {
        Self {
            kind,
            settlements: Vec::new(),
            moved_bytes: 0,
            sent_bytes: SCRIPT_BYTES,
        }
    }

    fn has_room(&self, moved: usize, sent: usize, window: usize) -> bool {
        self.settlements.is_empty()
            || (self.settlements.len() < self.kind.max_entries()
                && self.moved_bytes + moved <= MAX_SCRIPTED_BYTES
                && self.sent_bytes + sent <= window)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::window::NAME_BYTES;
    use super::*;
    use crate::service::jobqueue::job::Edits;

    const WINDOW: usize = 1024 * 1024;

    /// A settlement of these tests, with a number that tells it from the others.
    #[derive(Debug, PartialEq, Eq)]
    enum TestSettlement {
        Done(u64),
        Retry(u64, Edits),
        PutBack(u64),
    }

    fn address(settled: &TestSettlement) -> (EntryId, Destination<'_>) {
        let (n, destination) = match settled {
            TestSettlement::Done(n) => (n, Destination::Gone),
            TestSettlement::Retry(n, edits) => {
                let pause = Duration::ZERO;
                (n, Destination::Pause { edits, pause })
            }
            TestSettlement::PutBack(n) => (n, Destination::PutBack { deliveries: 1 }),
        };
        (format!("{n}-0").parse().unwrap(), destination)
    }

    fn done(numbers: std::ops::Range<u64>) -> Vec<TestSettlement> {
        numbers.map(TestSettlement::Done).collect()
    }

    fn retries(count: u64, of_bytes: usize) -> Vec<TestSettlement> {
        let edits = Edits {
            of_bytes,
            edits: Vec::new(),
        };
        let retry = |n| TestSettlement::Retry(n, edits.clone());
        (0..count).map(retry).collect()
    }

    fn batch(settlements: Vec<TestSettlement>, window: usize) -> Batch<TestSettlement> {
        Batch::new(settlements, window, address)
    }

    fn sizes<'a>(parts: impl IntoIterator<Item = &'a Part<TestSettlement>>) -> Vec<usize> {
        let parts = parts.into_iter();
        parts.map(|part| part.settlements.len()).collect()
    }

    #[test]
    fn an_acknowledgement_names_at_most_five_hundred_entries() {
        let sizes = |count| sizes(&batch(done(0..count), WINDOW).parts);
        assert_eq!(sizes(500), [500]);
        assert_eq!(sizes(501), [500, 1]);
    }

    #[test]
    fn a_script_call_moves_a_bounded_number_of_bytes() {
        let large = retries(5, MAX_SCRIPTED_BYTES / 2);
        assert_eq!(sizes(&batch(large, WINDOW).parts), [2, 2, 1]);
        let larger = retries(2, 2 * MAX_SCRIPTED_BYTES);
        assert_eq!(sizes(&batch(larger, WINDOW).parts), [1, 1]);
    }

    #[test]
    fn a_round_trip_has_no_more_bytes_than_the_line_carries() {
        let window = SCRIPT_BYTES + 10 * NAME_BYTES;
        let mut settlements = done(0..25);
        settlements.extend(retries(1, 0));
        let mut batch = batch(settlements, window);
        assert_eq!(sizes(&batch.next_trip(window)), [10]);
        assert_eq!(sizes(&batch.next_trip(10)), [10], "one part at least");
        let trip = batch.next_trip(3 * window);
        assert_eq!(sizes(&trip), [5, 1], "parts of all kinds go together");
        assert!(batch.is_empty());
    }

    #[test]
    fn settlements_of_one_kind_share_a_command_whatever_lies_between() {
        let mut settlements = done(0..3);
        settlements.extend((3..5).map(TestSettlement::PutBack));
        settlements.extend(done(5..8));
        assert_eq!(sizes(&batch(settlements, WINDOW).parts), [6, 2]);
    }

    #[test]
    fn what_got_no_reply_is_left_in_its_old_order() {
        let window = SCRIPT_BYTES + 10 * NAME_BYTES;
        let mut batch = batch(done(0..35), window);
        drop(batch.next_trip(window));
        let trip = batch.next_trip(2 * window);
        assert_eq!(sizes(&trip), [10, 10]);
        batch.restore(trip);
        assert_eq!(batch.into_settlements(), done(10..35));
    }
}
