//! Random events, held against the table of phases: a second, plain account of what must be held is
//! kept beside [`Held`], and the two must agree after each event.
//!
//! The account knows nothing of `phase.rs`. It keeps the entries in lists and counts by looking at
//! all of them, and it notes for each entry that was ever delivered whether it was started.

mod account;
mod check;
mod settling;

use proptest::prelude::*;

use self::account::Account;
use super::Limits;

/// So few ids that entries meet others of the same id.
const IDS: u64 = 6;

/// What happens. `of` picks one of those that are there, whatever their number.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Ready(Vec<u64>),
    SetAside(u64),
    Ended(u64, How),
    RunnerComes,
    EndRun { of: usize, how: How },
    LeaveToOutput { of: usize },
    TakeOutcomes(usize),
    Confirm { of: usize },
    Unsettle,
    Refuse { of: usize },
    PutOff { of: usize },
    Resume { of: usize },
    Replace { of: usize },
    Cancel { ids: Vec<u64> },
    PutBackReady,
    StopStarting,
    NewEpoch { same: Vec<u64> },
    TakeLeases,
    LoseLeases { lost: Vec<u64> },
    ClaimedAgain(u64),
    TryAside(u64),
    DropAside(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Done,
    Park,
    Cancelled,
    PutBack,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let ids = || prop::collection::vec(0..IDS, 1..4);
    let how = prop_oneof![Just(How::Done), Just(How::Park), Just(How::PutBack)];
    let run = prop_oneof![Just(How::Done), Just(How::Cancelled), Just(How::PutBack)];
    let op = prop_oneof![
        6 => ids().prop_map(Op::Ready),
        1 => (0..IDS).prop_map(Op::SetAside),
        3 => (0..IDS, how).prop_map(|(n, how)| Op::Ended(n, how)),
        8 => Just(Op::RunnerComes),
        6 => (0..9_usize, run).prop_map(|(of, how)| Op::EndRun { of, how }),
        3 => (0..9_usize).prop_map(|of| Op::LeaveToOutput { of }),
        4 => (1..4_usize).prop_map(Op::TakeOutcomes),
        4 => (0..9_usize).prop_map(|of| Op::Confirm { of }),
        1 => Just(Op::Unsettle),
        1 => (0..9_usize).prop_map(|of| Op::Refuse { of }),
        1 => (0..9_usize).prop_map(|of| Op::PutOff { of }),
        2 => (0..9_usize).prop_map(|of| Op::Resume { of }),
        1 => (0..9_usize).prop_map(|of| Op::Replace { of }),
        2 => ids().prop_map(|ids| Op::Cancel { ids }),
        1 => Just(Op::PutBackReady),
        1 => ids().prop_map(|same| Op::NewEpoch { same }),
        2 => Just(Op::TakeLeases),
        2 => ids().prop_map(|lost| Op::LoseLeases { lost }),
        1 => (0..IDS).prop_map(Op::ClaimedAgain),
        1 => (0..IDS).prop_map(Op::TryAside),
        1 => (0..IDS).prop_map(Op::DropAside),
    ];
    let stop = prop::option::of(0..60_usize);
    (prop::collection::vec(op, 0..60), stop).prop_map(|(mut ops, stop)| {
        if let Some(at) = stop {
            ops.insert(at.min(ops.len()), Op::StopStarting);
        }
        ops
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn whatever_happens_agrees_with_the_table(concurrency in 1..4_usize, ahead in 0..4_usize, ops in ops()) {
        let mut account = Account::new(Limits { concurrency, ahead });
        for op in ops {
            account.apply(op);
            account.check();
        }
    }
}
