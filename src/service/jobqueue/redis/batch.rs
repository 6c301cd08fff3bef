//! The settlements that go to Redis in one round trip, and which of them one command settles.
//!
//! Everything here is decided from values. Nothing here writes a command or waits for a reply:
//! `settling` does both.

use super::destination::{CommandKind, Destination};
use super::entry::EntryId;

/// How many bytes of jobs one command moves. Redis serves nobody else while it works on one.
const MAX_SCRIPTED_BYTES: usize = 1024 * 1024;
/// About how many bytes a command has on the wire before its first entry.
const COMMAND_BYTES: usize = 256;

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

/// The settlements of one round trip.
#[derive(Debug)]
pub(crate) struct Batch<S> {
    pub(super) address: Address<S>,
    pub(super) parts: Vec<Part<S>>,
}

impl<S> Batch<S> {
    /// Sorts settlements by the command that settles them, within the limits of the commands.
    ///
    /// A round trip has to end within the time that a reply may take, or it would be given up and sent
    /// again for ever. So the batch has as many commands as `window` allows, a number of bytes, and one
    /// at least. The settlements of the other commands are given back, in their order within each kind.
    pub(crate) fn new(settlements: Vec<S>, window: usize, address: Address<S>) -> (Self, Vec<S>) {
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
        let mut bytes = 0;
        let fits = |part: &&Part<S>| {
            bytes += part.sent_bytes;
            bytes <= window
        };
        let count = parts.iter().take_while(fits).count().max(1);
        let rest = parts.split_off(count.min(parts.len()));
        let rest = rest.into_iter().flat_map(|part| part.settlements).collect();
        (Self { address, parts }, rest)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// All that it settles.
    pub(crate) fn settlements_mut(&mut self) -> impl Iterator<Item = &mut S> {
        let parts = self.parts.iter_mut();
        parts.flat_map(|part| &mut part.settlements)
    }

    /// About how many bytes it has on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.sent_bytes).sum()
    }
}

impl<S> Part<S> {
    fn new(kind: CommandKind) -> Self {
        Self {
            kind,
            settlements: Vec::new(),
            moved_bytes: 0,
            sent_bytes: COMMAND_BYTES,
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

    /// The batch alone. Nothing is left over.
    fn batch(settlements: Vec<TestSettlement>, window: usize) -> Batch<TestSettlement> {
        let (batch, rest) = Batch::new(settlements, window, address);
        assert_eq!(rest, []);
        batch
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
        let window = COMMAND_BYTES + 10 * NAME_BYTES;
        let (batch, rest) = Batch::new(done(0..35), window, address);
        assert_eq!((sizes(&batch.parts), rest), (vec![10], done(10..35)));
        let (batch, rest) = Batch::new(done(0..2), 10, address);
        assert_eq!(
            (sizes(&batch.parts), rest.len()),
            (vec![1], 1),
            "one at least"
        );
        let mut settlements = done(0..5);
        settlements.extend(retries(1, 0));
        let both = self::batch(settlements, 3 * window);
        assert_eq!(sizes(&both.parts), [5, 1], "parts of all kinds go together");
    }

    #[test]
    fn settlements_of_one_kind_share_a_command_whatever_lies_between() {
        let mut settlements = done(0..3);
        settlements.extend((3..5).map(TestSettlement::PutBack));
        settlements.extend(done(5..8));
        assert_eq!(sizes(&batch(settlements, WINDOW).parts), [6, 2]);
    }
}
