//! What may happen to a queue, and how often each action is tried.

use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Just, Strategy, prop_oneof};
use proptest::sample::select;
use proptest_state_machine::ReferenceStateMachine;

use super::operators::Operation;
use super::reference::{Place, Reference};

const MAX_JOBS: usize = 8;
pub(crate) const WORKERS: usize = 3;

/// One of a job's entries: the job, and how many times it had been moved to the stream before.
pub(crate) type Target = (usize, u32);

#[derive(Debug, Clone)]
pub(crate) enum Transition {
    Enqueue,
    Read {
        by: usize,
        count: usize,
        /// Whether the script reads that bounds its reply.
        bounded: bool,
    },
    Acknowledge {
        targets: Vec<Target>,
    },
    Schedule {
        by: usize,
        moves: Vec<(Target, Wait)>,
    },
    Bury {
        by: usize,
        targets: Vec<Target>,
    },
    PutBack {
        by: usize,
        targets: Vec<Target>,
        count: u64,
    },
    Renew {
        by: usize,
        targets: Vec<Target>,
    },
    Recount {
        by: usize,
        target: Target,
        count: u64,
    },
    /// The orphan check takes the entries that it believes to own.
    Take {
        by: usize,
        targets: Vec<Target>,
    },
    Reclaim {
        by: usize,
        room: usize,
        /// How many bytes the reply may carry.
        bytes: usize,
    },
    Promote {
        limit: usize,
    },
    /// A scheduled job becomes due.
    FallDue {
        job: usize,
    },
    LoseLease {
        job: usize,
    },
    /// No worker has looked for longer than a stall.
    Stall,
    /// The hold after a stall ends.
    EndHold,
    /// The clock of Redis goes back by more than a lease.
    ClockBack,
    /// An operator deletes a consumer and the entries that are pending for it.
    DeleteConsumer {
        name: usize,
    },
    /// An operator sets the group to the end of the stream.
    SkipBacklog,
    Pause {
        on: bool,
    },
    /// An operator does something to jobs.
    Operate(Operation),
    RemoveConsumers {
        only: Option<usize>,
    },
    Migrate,
    /// Asks which entries are still the ones that were read.
    Recognise {
        targets: Vec<Target>,
    },
    /// Sends outcomes of a stream that no longer exists.
    SettleAnother {
        by: usize,
        targets: Vec<Target>,
    },
}

/// How long a job stays in the scheduled set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A retry in an hour.
    Retry,
    /// A retry at once.
    RetryNow,
    /// A delay of an hour.
    Park,
    /// A delay that is already over.
    ParkOver,
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Transition> {
        let by = 0..WORKERS;
        let on_queue = prop_oneof![
            4 => Just(Transition::Enqueue),
            6 => (by.clone(), 1..4_usize, proptest::bool::weighted(0.2))
                .prop_map(|(by, count, bounded)| Transition::Read { by, count, bounded }),
             // The reply has room for no body, for one, for two, or for all.
             6 => (by.clone(), 0..4_usize, select(vec![1, 60, 120, 1 << 20]))
                 .prop_map(|(by, room, bytes)| Transition::Reclaim { by, room, bytes }),
             1 => Just(Transition::ClockBack),
             1 => by.clone().prop_map(|name| Transition::DeleteConsumer { name }),
             1 => Just(Transition::SkipBacklog),
            3 => (1..4_usize).prop_map(|limit| Transition::Promote { limit }),
            1 => Just(Transition::Stall),
            3 => Just(Transition::EndHold),
            1 => proptest::bool::weighted(0.3).prop_map(|on| Transition::Pause { on }),
            1 => proptest::option::of(by).prop_map(|only| Transition::RemoveConsumers { only }),
            1 => Just(Transition::Migrate),
        ];
        let targets = state.targets();
        if targets.is_empty() {
            return on_queue.boxed();
        }
        let named = select(state.named());
        let one = select(targets);
        let some = vec(one.clone(), 1..4);
        let by = 0..WORKERS;
        let job = 0..state.jobs.len();
        let wait = select(vec![
            Wait::Retry,
            Wait::RetryNow,
            Wait::Park,
            Wait::ParkOver,
        ]);
        let moves = vec((one.clone(), wait), 1..4);
        let on_entries = prop_oneof![
            2 => some.clone().prop_map(|targets| Transition::Acknowledge { targets }),
            4 => (by.clone(), moves).prop_map(|(by, moves)| Transition::Schedule { by, moves }),
            1 => (by.clone(), some.clone())
                .prop_map(|(by, targets)| Transition::Bury { by, targets }),
            3 => (by.clone(), some.clone(), 0..5_u64)
                .prop_map(|(by, targets, count)| Transition::PutBack { by, targets, count }),
            3 => (by.clone(), some.clone())
                .prop_map(|(by, targets)| Transition::Renew { by, targets }),
            1 => (by.clone(), one, 0..5_u64)
                .prop_map(|(by, target, count)| Transition::Recount { by, target, count }),
            2 => (by.clone(), some.clone())
                .prop_map(|(by, targets)| Transition::Take { by, targets }),
            1 => some.clone().prop_map(|targets| Transition::Recognise { targets }),
            1 => (by, some).prop_map(|(by, targets)| Transition::SettleAnother { by, targets }),
            4 => job.clone().prop_map(|job| Transition::LoseLease { job }),
            4 => job.prop_map(|job| Transition::FallDue { job }),
            8 => Operation::any(named).prop_map(Transition::Operate),
        ];
        prop_oneof![on_queue, on_entries].boxed()
    }

    fn preconditions(state: &Self, transition: &Transition) -> bool {
        let known = |target: &Target| {
            state
                .jobs
                .get(target.0)
                .is_some_and(|job| target.1 <= job.entry)
        };
        let place = |job: &usize| state.jobs.get(*job).map(|job| job.place);
        match transition {
            Transition::Enqueue => state.jobs.len() < MAX_JOBS,
            // No worker has finished a job that was not delivered.
            Transition::Acknowledge { targets } => targets.iter().all(|target| {
                known(target)
                    && !(state.entry(*target).is_some() && place(&target.0) == Some(Place::Waiting))
            }),
            Transition::Schedule { moves, .. } => moves.iter().all(|(target, _)| known(target)),
            Transition::Bury { targets, .. }
            | Transition::PutBack { targets, .. }
            | Transition::Renew { targets, .. }
            | Transition::Recognise { targets }
            | Transition::SettleAnother { targets, .. }
            | Transition::Take { targets, .. } => targets.iter().all(known),
            Transition::Recount { target, .. } => known(target),
            Transition::Operate(operation) => operation.targets().iter().all(known),
            Transition::LoseLease { job } => matches!(place(job), Some(Place::Pending { .. })),
            Transition::FallDue { job } => place(job) == Some(Place::Scheduled { due: None }),
            _ => true,
        }
    }

    fn apply(mut state: Self, transition: &Transition) -> Self {
        state.expected = state.step(transition);
        state
    }
}

impl Reference {
    /// Every entry that ever existed. Present entries are listed more than once.
    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for (job, state) in self.jobs.iter().enumerate() {
            targets.extend((0..=state.entry).map(|entry| (job, entry)));
            if self.entry((job, state.entry)).is_some() {
                targets.extend([(job, state.entry); 6]);
            }
        }
        targets
    }
}
