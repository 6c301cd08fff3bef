//! How much one reply brings: as many entries as get over the line in time.
//!
//! Redis counts entries and not bytes in most commands, so the size of an entry is estimated
//! from the replies before. How many bytes the line carries is for the [`Window`] to say.

use std::time::Duration;

use crate::service::jobqueue::redis::{LONG_TRIP, Window};

/// How many entries one reply brings at most: enough that a command costs little by the job, and few
/// enough that nobody else waits long for Redis while it makes the reply.
pub(super) const MAX_REPLY: usize = 256;
/// A read goes out behind another only for so many entries. A command costs Redis as much as some of
/// them. Entries so large that fewer of them fit are read one reply at a time.
const MANY: usize = 64;
/// The estimated size of an entry before any was seen, in bytes.
const USUAL_BYTES: usize = 1024;

/// The size of the next reply, learned from the replies before.
#[derive(Debug)]
pub(super) struct ReplySize {
    window: Window,
    /// The estimated size of an entry, in bytes.
    average: usize,
    asked: Asked,
}

/// What a command asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    /// How many entries its reply brings at most.
    pub(super) count: usize,
    /// How many entries the replies bring that are to come before it.
    before: usize,
}

impl Asked {
    fn all(self) -> usize {
        self.before + self.count
    }
}

impl ReplySize {
    pub(super) fn new() -> Self {
        Self {
            window: Window::new(LONG_TRIP),
            average: USUAL_BYTES,
            asked: Asked::default(),
        }
    }

    /// How many of `wanted` entries the next command asks for.
    pub(super) fn ask(&mut self, wanted: usize) -> Asked {
        self.asked = self.behind(wanted, 0);
        self.asked
    }

    /// How many of `wanted` entries the next command asks for, while `coming` others are on their way.
    /// `None` when they are not worth a command.
    pub(super) fn ask_behind(&mut self, wanted: usize, coming: usize) -> Option<Asked> {
        let asked = self.behind(wanted, coming);
        if coming > 0 && asked.count < MANY {
            return None;
        }
        self.asked = asked;
        Some(asked)
    }

    fn behind(&self, wanted: usize, coming: usize) -> Asked {
        let fit = (self.window.bytes() / self.average).max(1);
        Asked {
            count: wanted.min(fit.saturating_sub(coming)).min(MAX_REPLY),
            before: coming,
        }
    }

    /// What the last command asked for.
    pub(super) fn asked(&self) -> Asked {
        self.asked
    }

    /// How much longer than an empty reply the reply to the last command may take.
    pub(super) fn time(&self) -> Duration {
        self.window.time(self.asked.all() * self.average)
    }

    /// For a command that counts bytes: how many the reply may bring, and how much longer than
    /// an empty reply it may take.
    pub(super) fn bytes_and_time(&self) -> (usize, Duration) {
        let bytes = self.window.bytes();
        (bytes, self.window.time(bytes))
    }

    /// The last command asked for this many bytes, and not for a number of entries.
    pub(super) fn asked_for_bytes(&mut self, bytes: usize) {
        self.asked = Asked {
            count: (bytes / self.average).max(1),
            before: 0,
        };
    }

    /// There is another connection, perhaps to another server.
    pub(super) fn connected(&mut self) {
        self.window.connected();
    }

    /// The reply to a command that asked for `asked` has `count` entries with `bytes` in all. It took
    /// this long, with those that came before it.
    pub(super) fn measure(&mut self, asked: Asked, count: usize, bytes: usize, took: Duration) {
        if count == 0 {
            return;
        }
        let average = (bytes / count).max(1);
        self.average = average.max((3 * self.average + average) / 4);
        // A reply that is not full may have waited for its first entry, so its time says
        // nothing about the line.
        if count >= asked.count {
            self.window.passed(asked.before * average + bytes, took);
        }
    }

    /// The reply to the last command did not come, so the next one is to be smaller. A reply
    /// that was to bring nothing was not too large.
    pub(super) fn lost(&mut self) {
        let asked = self.asked.all();
        self.window.lost(asked * self.average);
        // When that still lets as many entries through, they are larger than all that were seen
        // before.
        if asked > 1 && self.window.bytes() / self.average >= asked {
            self.average = (2 * self.window.bytes() / asked).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::redis::CALM;

    /// What is asked for while no other reply is to come.
    fn ask(size: &mut ReplySize, wanted: usize) -> usize {
        size.ask(wanted).count
    }

    /// The reply to the last command came.
    fn measure(size: &mut ReplySize, count: usize, bytes: usize, took: Duration) {
        size.measure(size.asked(), count, bytes, took);
    }

    #[test]
    fn replies_that_are_on_their_way_together_carry_as_much_as_one() {
        let mut size = ReplySize::new();
        // 64 KiB.
        size.average = 256;
        let behind = |size: &mut ReplySize, coming| size.ask_behind(MAX_REPLY, coming);
        let count = |asked: Option<Asked>| asked.map(|asked| asked.count);
        assert_eq!(count(behind(&mut size, 100)), Some(156));
        assert_eq!(
            count(behind(&mut size, 193)),
            None,
            "63 are not worth a command"
        );
        assert_eq!(size.asked().all(), 256, "nothing was asked for");
        // A second is what they may take together.
        let asked = behind(&mut size, 192).unwrap();
        size.measure(asked, 64, 64 * 256, Duration::ZERO);
        let asked = behind(&mut size, 256).unwrap();
        size.measure(asked, 256, 256 * 256, Duration::from_secs(4));
        assert_eq!(size.bytes_and_time().0, 32 * 1024);
    }

    #[test]
    fn a_lost_reply_is_asked_for_in_halves() {
        let mut size = ReplySize::new();
        assert_eq!(ask(&mut size, 0), 0);
        size.lost();
        assert_eq!(ask(&mut size, MAX_REPLY), 64);
        for smaller in [32, 16, 8, 4, 2, 1, 1] {
            size.lost();
            assert_eq!(ask(&mut size, 64), smaller);
        }
        for _ in 0..2 * CALM {
            let count = ask(&mut size, 64);
            measure(&mut size, count, count * 100, Duration::ZERO);
        }
        assert_eq!(ask(&mut size, 64), 64);
    }

    #[test]
    fn a_lost_reply_of_many_bytes_is_asked_for_in_halves_too() {
        let mut size = ReplySize::new();
        let (bytes, _) = size.bytes_and_time();
        size.asked_for_bytes(bytes);
        size.lost();
        assert_eq!(size.bytes_and_time().0, bytes / 2);
    }

    #[test]
    fn a_reply_brings_as_many_entries_as_have_the_bytes() {
        let mut size = ReplySize::new();
        ask(&mut size, 10);
        measure(&mut size, 10, 10 * 32 * 1024, Duration::ZERO);
        assert_eq!(ask(&mut size, MAX_REPLY), 4, "128 KiB in all");
        for _ in 0..30 {
            let count = ask(&mut size, MAX_REPLY);
            measure(&mut size, count, count * 100, Duration::ZERO);
        }
        assert_eq!(ask(&mut size, MAX_REPLY + 1), MAX_REPLY);
    }

    #[test]
    fn a_reply_that_may_have_waited_says_nothing_about_the_line() {
        let mut size = ReplySize::new();
        ask(&mut size, 1);
        measure(&mut size, 1, 1024, Duration::from_millis(1));
        let before = size.bytes_and_time().0;
        ask(&mut size, 10);
        measure(&mut size, 9, 9 * 1024, Duration::from_secs(60));
        assert_eq!(size.bytes_and_time().0, before);
        ask(&mut size, 10);
        measure(&mut size, 10, 10 * 1024, Duration::from_secs(60));
        assert!(size.bytes_and_time().0 < before, "a full one does");
    }
}
