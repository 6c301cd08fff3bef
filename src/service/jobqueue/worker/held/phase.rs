//! The phases of an entry that this process holds, and the way from one to the next.
//!
//! [`next`] is the only place that knows the transitions. It has no clock and changes nothing: the
//! counters that follow from a transition are in `entries.rs`, the queues in `inner.rs`.
//!
//! | phase                               | event           | next               | who does it, and when |
//! |-------------------------------------|-----------------|--------------------|-----------------------|
//! | `New`, `SetAside`                   | `Deliver`       | `Ready`            | triage: a job that is to run |
//! | `New`, `SetAside`                   | `SetAside`      | `SetAside`         | triage: too large for a reply with others; large entry fetcher: another try |
//! | `New`, `SetAside`                   | `End`           | `Ended(Waiting)`   | triage: its outcome is known without a run (parked, buried, left to others) |
//! | `New`, `SetAside`                   | `GiveUp`        | `PutBack(Waiting)` | triage: a second suspect, too many large entries; the shutdown |
//! | `SetAside`                          | `LoseLease`     | `Lost`             | large entry fetcher: it is no longer this consumer's |
//! | `Ready`                             | `LoseLease`     | `Lost`             | heartbeat: it is no longer this consumer's, so it is not started |
//! | `Ready`                             | `Start`         | `Running`          | runner |
//! | `Ready`                             | `End`           | `Ended(Waiting)`   | heartbeat: somebody has cancelled it |
//! | `Ready`                             | `GiveUp`        | `PutBack(Waiting)` | fetcher: it waited for too long; the shutdown |
//! | `Running`                           | `LeaveToOutput` | `Output`           | runner: the handler is over, its output is on its way |
//! | `Running`, `Output`                 | `End`           | `Ended(Waiting)`   | runner: it is done, it failed, or it was cancelled |
//! | `Running`, `Output`                 | `GiveUp`        | `PutBack(Waiting)` | runner: it was cut off, or this process is unfit |
//! | `Ended(Waiting)`                    | `Send`          | `Ended(Sent)`      | settler: its outcome is in the next command |
//! | `Ended(Sent)`, `Ended(Refused)`     | `Unsettle`      | `Ended(Waiting)`   | settler: no reply came, the error is one that passes, a new epoch began, or Redis says that it ends in another way |
//! | `Ended(Sent)`, `Ended(Refused)`     | `Refuse`        | `Ended(Refused)`   | settler: the outcome waits until an operator mends something (a `Done` stays `Sent`, so that it stops the starting of others) |
//! | `Ended(Sent)`, `Ended(Refused)`     | `Confirm`       | `Settled`          | settler: Redis has answered |
//! | `Ended(Sent)`, `Ended(Refused)`     | `Resume`        | `Ready`            | settler: it was to be parked or to expire, and Redis says that it runs |
//! | `Ended(Sent)`, `Ended(Refused)`     | `GiveUp`        | `PutBack(Waiting)` | settler: too many outcomes wait for an operator |
//! | `PutBack(Waiting)`                  | `Send`          | `PutBack(Sent)`    | settler: the command that puts it back is the next |
//! | `PutBack(Sent)`, `PutBack(Refused)` | `Unsettle`      | `PutBack(Waiting)` | settler: the same |
//! | `PutBack(Sent)`, `PutBack(Refused)` | `Refuse`        | `PutBack(Refused)` | settler: it waits until an operator mends something |
//! | `PutBack(Sent)`, `PutBack(Refused)` | `Confirm`       | `Settled`          | settler: Redis has answered, or too many wait for an operator and its lease may run out |
//! | all but `New` and the ends          | `Forget`        | `Forgotten`        | settler: in a new epoch its id means another entry, or none |
//!
//! `Settled`, `Lost` and `Forgotten` are ends: the entry is no longer held. If it is delivered once
//! more, that is a `New` one.

use std::time::Instant;

/// Where an entry is on its way through this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It was just read.
    New,
    /// One reply could not carry it together with others: it is fetched by itself, not before `due`.
    SetAside { bytes: usize, due: Instant },
    /// It waits for a slot.
    Ready,
    /// Its handler runs, and has a slot. From this time on it counts as one that hangs.
    Running(Instant),
    /// Its handler is over, and its output is on its way. It still has its slot.
    Output,
    /// It has an outcome, which is on its way to Redis.
    Ended(Sending),
    /// It ended without a result and goes back to Redis, for any worker. It is not renewed: a renewal
    /// after the command that puts it back would keep it from the others for a whole lease.
    PutBack(Sending),
    /// Redis knows its outcome.
    Settled,
    /// It is another consumer's, or nobody's.
    Lost,
    /// Redis has lost it, or has another entry under its id.
    Forgotten,
}

/// How far an outcome has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// It waits for the settler.
    Waiting,
    /// The settler has it.
    Sent,
    /// The settler has it, and Redis refuses it until an operator mends something.
    Refused,
}

/// What happens to an entry. The table says who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Deliver,
    SetAside { bytes: usize, due: Instant },
    Start(Instant),
    LeaveToOutput,
    End,
    GiveUp,
    Send,
    Unsettle,
    Refuse,
    Confirm,
    Resume,
    LoseLease,
    Forget,
}

/// The phase that follows. None where the event cannot happen in this phase.
#[inline(always)]
pub(super) fn next(phase: Phase, event: Event) -> Option<Phase> {
    use Phase::{Ended, Forgotten, Lost, New, Output, PutBack, Ready, Running, SetAside, Settled};
    use Sending::{Refused, Sent, Waiting};
    Some(match (phase, event) {
        (New | SetAside { .. }, Event::Deliver) => Ready,
        (New | SetAside { .. }, Event::SetAside { bytes, due }) => SetAside { bytes, due },
        (SetAside { .. } | Ready, Event::LoseLease) => Lost,
        (Ready, Event::Start(hangs_at)) => Running(hangs_at),
        (Running(_), Event::LeaveToOutput) => Output,
        (New | SetAside { .. } | Ready | Running(_) | Output, Event::End) => Ended(Waiting),
        (
            New | SetAside { .. } | Ready | Running(_) | Output | Ended(Sent | Refused),
            Event::GiveUp,
        ) => PutBack(Waiting),
        (Ended(Waiting), Event::Send) => Ended(Sent),
        (PutBack(Waiting), Event::Send) => PutBack(Sent),
        (Ended(Sent | Refused), Event::Unsettle) => Ended(Waiting),
        (PutBack(Sent | Refused), Event::Unsettle) => PutBack(Waiting),
        (Ended(Sent | Refused), Event::Refuse) => Ended(Refused),
        (PutBack(Sent | Refused), Event::Refuse) => PutBack(Refused),
        (Ended(Sent | Refused) | PutBack(Sent | Refused), Event::Confirm) => Settled,
        (Ended(Sent | Refused), Event::Resume) => Ready,
        (SetAside { .. } | Ready | Running(_) | Output | Ended(_) | PutBack(_), Event::Forget) => {
            Forgotten
        }
        _ => return None,
    })
}

impl Phase {
    /// Whether an entry in this phase is no longer held.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Settled | Self::Lost | Self::Forgotten)
    }

    pub(super) fn has_slot(self) -> bool {
        matches!(self, Self::Running(_) | Self::Output)
    }

    /// Whether it has an outcome that Redis has not confirmed.
    pub(super) fn is_unsettled(self) -> bool {
        matches!(self, Self::Ended(_) | Self::PutBack(_))
    }

    pub(super) fn is_set_aside(self) -> bool {
        matches!(self, Self::SetAside { .. })
    }

    /// Whether its lease is renewed. Nobody should wait for a handler that hangs.
    pub(super) fn is_renewed(self, now: Instant) -> bool {
        match self {
            Self::Running(hangs_at) => now < hangs_at,
            Self::PutBack(_) => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The table at the head of this file: the next phase by phase and event.
    fn table() -> BTreeMap<(String, String), String> {
        let names = |cell: &str| {
            let names = cell.split('`').skip(1).step_by(2);
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut table = BTreeMap::new();
        let rows = include_str!("phase.rs").lines();
        for row in rows.filter(|line| line.starts_with("//! |") && line.contains('`')) {
            let cells: Vec<&str> = row.split('|').collect();
            let mut phases = names(cells[1]);
            if cells[1].trim_start().starts_with("all but") {
                phases = phases_that_are_held().map(|phase| name(&phase)).collect();
            }
            for phase in phases {
                let (event, next) = (names(cells[2]).remove(0), names(cells[3]).remove(0));
                let before = table.insert((phase, event), next);
                assert_eq!(before, None, "two rows say it: {row}");
            }
        }
        table
    }

    fn phases() -> Vec<Phase> {
        let (bytes, due) = (1, Instant::now());
        let sending = [Sending::Waiting, Sending::Sent, Sending::Refused];
        let mut phases = vec![
            Phase::New,
            Phase::SetAside { bytes, due },
            Phase::Ready,
            Phase::Running(due),
            Phase::Output,
            Phase::Settled,
            Phase::Lost,
            Phase::Forgotten,
        ];
        phases.extend(sending.map(Phase::Ended));
        phases.extend(sending.map(Phase::PutBack));
        phases
    }

    fn phases_that_are_held() -> impl Iterator<Item = Phase> {
        let phases = phases().into_iter();
        phases.filter(|phase| *phase != Phase::New && !phase.is_over())
    }

    fn events() -> [Event; 13] {
        let (bytes, due) = (1, Instant::now());
        [
            Event::Deliver,
            Event::SetAside { bytes, due },
            Event::Start(due),
            Event::LeaveToOutput,
            Event::End,
            Event::GiveUp,
            Event::Send,
            Event::Unsettle,
            Event::Refuse,
            Event::Confirm,
            Event::Resume,
            Event::LoseLease,
            Event::Forget,
        ]
    }

    /// As the table writes it: without what `Running`, `SetAside` and `Start` carry.
    fn name(of: &impl std::fmt::Debug) -> String {
        let name = format!("{of:?}");
        match name.split_once(['(', ' ']) {
            Some((short @ ("Running" | "SetAside" | "Start"), _)) => short.to_owned(),
            _ => name,
        }
    }

    #[test]
    fn the_function_does_what_the_table_says_and_nothing_else() {
        let mut table = table();
        for phase in phases() {
            for event in events() {
                let said = table.remove(&(name(&phase), name(&event)));
                let done = next(phase, event).map(|next| name(&next));
                assert_eq!(done, said, "{event:?} in {phase:?}");
            }
        }
        assert!(table.is_empty(), "not a phase or not an event: {table:?}");
    }
}
