//! A model of the queue's protocol. The checker visits every state that the model can reach. The
//! model has leases, fences, zombies, crashes, stalls, and commands and replies that come late or
//! never.
//!
//! There are two workers, and one or two jobs. A job may fail once, or has a delay, or has neither.
//! Up to a given number of disturbances come at any time: a crash, a freeze, a stall of Redis, a
//! lost reply, a command that reaches Redis after its sender has given up on it, a put back, a
//! shutdown, a handler that the shutdown cuts off, deliveries that Redis forgets, a clock that goes
//! back, a consumer that is deleted, and a backlog that is skipped. Up to a given number of times
//! operators cancel, retry or delete a job.
//!
//! The model leaves out some things. This is why it hides no fault with them:
//!
//! - **Time.** A lease may end at any moment, unless a live process would renew it. A scheduled job
//!   may be due at any moment. A delay may be over when the job is parked. So the model has every
//!   order of events that some clock allows. It assumes that a live process renews in time, and that
//!   the hold after a stall is long enough for a renewal. `tests/it` measures both.
//! - **Steps without anything in between** are one step, when an event between them would make no
//!   difference:
//!     - A reply with a new entry arrives at once. Before that nobody else can do anything with the
//!       entry.
//!     - A read that returns an entry which its process was given before only asks for an orphan
//!       check.
//!     - A reclaim is sent and run in one step, unless an entry is about to leave `held`.
//!     - The reply to an outcome arrives at once when the entry has left the stream.
//!     - The leases of a process end together with the process.
//!     - The look that finds a clock that went back follows at once.
//!
//!   A process that has not started yet is the same as one that does nothing.
//! - **Batches.** A command names one entry. Only a take names several. The scripts treat each entry
//!   of a batch by itself. A claim that is too large puts entries back at once, as a worker may do a
//!   moment later.
//! - **The order of reclaims.** A reclaim may return any expired entry.
//! - **A group that is set back** keeps its pending entries. In the model Redis forgets the delivery
//!   just before the entry is read again. Nothing asks for the delivery in between.
//! - **How much is fetched, poison suspects, pauses of an operator.** They decide when an entry is
//!   taken or put back. In the model both may happen at any time. The model does bury poison jobs.
//! - **A frozen process and one that is cut off from Redis are the same.** Neither reaches Redis. The
//!   handlers of such a process may do the same afterwards.
//! - **Counts.** All delivery counts beyond the limit are the same. The command that takes back a
//!   claim may get lost, which leaves a count one too high. The model leaves that out.
//! - **What an operator saw.** It names an entry, which the script looks for. What it no longer finds it
//!   leaves alone. So an operator acts only on what is there.
//! - **Running a scheduled job now** is the same as promoting it, since it may be due at any moment.
//! - **Cancels of entries that have left the stream** are dropped at once. Nobody asks for them.
//! - **Redis losing jobs** is not part of the protocol. Redis forgetting a delivery is in the model.
//!
//! Names and places of workers mean nothing, so states that differ only in them count as one. With
//! `--nocapture` the tests print how many states there were, and how each [`Bug`] is found.
//! `./scripts/test --all` also visits the larger state spaces, as does
//! `cargo test --release --test model -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints on stderr what it found"
)]

mod actions;
mod bugs;
mod calm;
mod marks;
mod normal;
mod operator;
mod properties;
mod questions;
mod redis;
mod settler;
mod state;
mod steps;
mod worker;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use self::actions::Action;
use self::bugs::Bug;
use self::calm::Drains;
use self::state::{Job, State};

#[derive(Debug, Default)]
struct Protocol {
    bug: Option<Bug>,
    jobs: &'static [Job],
    disturbances: u8,
    operations: u8,
    /// Redis may forget several deliveries at once. Otherwise it forgets only the newest.
    forgets_many: bool,
    /// Workers with different names are different. Traces are easier to read then, and there are
    /// twice as many states.
    told_apart: bool,
    drains: Drains,
}

impl Protocol {
    fn normal(&self, state: State) -> State {
        if self.told_apart {
            state
        } else {
            state.canonical()
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::start(self.jobs, self.disturbances, self.operations)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.all_actions(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.step(&mut next, action);
        next.tidy();
        Some(self.normal(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// Visits every state that can be reached.
fn check(jobs: &'static [Job], disturbances: u8, operations: u8) {
    check_all(Protocol {
        jobs,
        disturbances,
        operations,
        ..Protocol::default()
    });
}

fn check_all(protocol: Protocol) {
    let began = Instant::now();
    let (jobs, disturbances) = (protocol.jobs, protocol.disturbances);
    let operations = protocol.operations;
    let checker = protocol
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    eprintln!(
        "jobs {jobs:?}, {disturbances} disturbances, {operations} operations: {} states, {} of them different, {} steps \
         deep, {:?}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed()
    );
    for (property, path) in checker.discoveries() {
        eprintln!("{property}:");
        show(&checker, property, path);
    }
    checker.assert_properties();
}

/// Prints the way to the first state that breaks the property.
fn show(checker: &impl Checker<Protocol>, property: &'static str, path: Path<State, Action>) {
    let holds = checker.model().property(property).condition;
    for (state, action) in path.into_vec() {
        if !holds(checker.model(), &state) {
            eprintln!("    {state:?}");
            return;
        }
        if let Some(action) = action {
            eprintln!("    {action:?}");
        }
    }
}

#[test]
fn a_job_that_may_fail_survives_any_two_disturbances() {
    check(&[0], 2, 0);
}

#[test]
fn a_job_with_a_delay_survives_any_two_disturbances() {
    check(&[1], 2, 0);
}

#[test]
fn two_jobs_survive_any_disturbance() {
    check(&[0, 1], 1, 0);
}

#[test]
fn two_plain_jobs_survive_any_disturbance_and_that_both_are_forgotten() {
    check_all(Protocol {
        jobs: &[2, 3],
        disturbances: 1,
        forgets_many: true,
        ..Protocol::default()
    });
}

#[test]
fn operators_may_do_three_things_to_a_job_that_may_fail() {
    check(&[0], 1, 3);
}

#[test]
fn operators_may_do_three_things_to_a_job_with_a_delay() {
    check(&[1], 1, 3);
}

#[test]
fn operators_may_do_three_things_to_two_jobs() {
    check(&[0, 1], 0, 3);
}

#[test]
fn an_operator_meets_two_disturbances_of_a_plain_job() {
    check(&[2], 2, 1);
}

#[test]
#[ignore = "takes minutes"]
fn two_jobs_survive_any_disturbance_and_that_both_are_forgotten() {
    check_all(Protocol {
        jobs: &[0, 1],
        disturbances: 1,
        forgets_many: true,
        ..Protocol::default()
    });
}

#[test]
#[ignore = "takes minutes"]
fn a_job_that_may_fail_survives_any_three_disturbances() {
    check(&[0], 3, 0);
}

#[test]
#[ignore = "takes minutes"]
fn a_job_with_a_delay_survives_any_three_disturbances() {
    check(&[1], 3, 0);
}

#[test]
#[ignore = "takes minutes"]
fn two_operators_meet_two_disturbances_of_a_job_that_may_fail() {
    check(&[0], 2, 2);
}

#[test]
#[ignore = "takes minutes"]
fn two_operators_meet_two_disturbances_of_a_job_with_a_delay() {
    check(&[1], 2, 2);
}

#[test]
#[ignore = "takes minutes"]
fn an_operator_meets_a_disturbance_of_two_jobs() {
    check(&[0, 1], 1, 1);
}

#[test]
fn every_mistake_is_found() {
    for (bug, property) in Bug::ALL {
        let (jobs, disturbances, operations) = bug.needs();
        let protocol = Protocol {
            bug: Some(bug),
            jobs,
            disturbances,
            operations,
            told_apart: true,
            ..Protocol::default()
        };
        // With one thread the checker finds the shortest way first.
        let only = HasDiscoveries::AnyOf([property].into());
        let checker = protocol.checker().finish_when(only).spawn_bfs().join();
        let path = checker.discovery(property);
        let path = path.unwrap_or_else(|| panic!("{bug:?} is not found: {property:?}"));
        let states = checker.unique_state_count();
        eprintln!("{bug:?} breaks {property:?} ({states} states):");
        show(&checker, property, path);
    }
}
