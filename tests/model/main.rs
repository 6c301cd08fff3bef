//! The queue's protocol as a model, checked over its whole state space: leases, fences,
//! zombies, crashes, stalls, and commands and replies that come late or never.
//!
//! Two workers and two jobs, of which one may fail once and one has a delay, or two plain
//! ones. Up to a number of disturbances, of any kind and at any time: a crash, a freeze, a
//! stall of Redis, a lost reply, a command that reaches Redis after its sender has given up
//! on it, a put back, a shutdown, a handler that it cuts off, deliveries that Redis forgets,
//! a clock that goes back, a consumer that is deleted, a backlog that is skipped.
//!
//! What is left out, and why nothing hides there:
//!
//! - **Time.** A lease ends at any moment at which no live process would renew it; a
//!   scheduled job is due at any moment; a delay may be over when the job is parked. So
//!   every order that some clock allows is here. That a live process renews in time, and
//!   that the hold after a stall is long enough to renew in, is assumed; `tests/it`
//!   measures both.
//! - **Steps that nothing can come between** are one: a reply that brings something new
//!   is received at once, since what it brings is in nobody's way before; one that brings
//!   what its process was given before does nothing but ask for an orphan check; a reclaim is
//!   done when it is sent, unless something held is about to be forgotten; the answer to
//!   an outcome, when the entry is out of the stream; the end of the leases of a process
//!   that is gone; a clock that goes back and the look that finds it. A process that has not started yet is one that does nothing.
//! - **Batches.** A command names one entry (a take: several). The scripts treat each
//!   entry of a batch by itself. A claim that is too large puts entries back at once, as a
//!   worker may do a moment later.
//! - **The order of reclaims.** Any expired entry is reclaimed next.
//! - **A group that is set back** keeps what is pending. That is a delivery which is
//!   forgotten just before the entry is read again, since until then nothing asks.
//! - **How much is fetched, poison suspects, pauses of an operator.** They decide when an
//!   entry is taken or put back, and it is both at any time here. A poison job's end is in.
//! - **A frozen process and one cut off from Redis are one thing:** neither reaches Redis,
//!   and what its handlers do meanwhile they may as well do afterwards.
//! - **Counts.** Deliveries beyond the limit are all the same. That a recount may get
//!   lost, which leaves a count one too high, is left out.
//! - **Redis losing jobs** is not a matter of the protocol; that it forgets a delivery is in.
//!
//! Names and places of workers mean nothing, so states that differ only in them count as
//! one. With `--nocapture` the tests tell how many states there were, and how each of
//! [`Bug`] is found. The larger spaces are for `./scripts/test --all`, or
//! `cargo test --release --test model -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells on stderr what it found"
)]

mod actions;
mod bugs;
mod calm;
mod marks;
mod normal;
mod redis;
mod state;
mod steps;
mod worker;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use self::actions::Action;
use self::bugs::Bug;
use self::calm::Drains;
use self::state::{Job, State};

const ONE_PLACE: &str = "a job is in exactly one place";
const ACKNOWLEDGED_LAST: &str = "what is gone was printed";
const ONE_OUTCOME: &str = "only the owner's outcome takes effect, and success";
const ONCE_AT_A_TIME: &str = "a process runs an entry once at a time";
const EXPLAINED: &str = "a run is repeated only after a fault";
const SETTLED: &str = "what a process has settled it does not start again";
const DESERVED: &str = "only what was given up too often is poison";
const NO_THEFT: &str = "a lease that runs is nobody else's";
const DRAINS: &str = "the queue drains when the faults stop";

#[derive(Debug, Default)]
struct Protocol {
    bug: Option<Bug>,
    jobs: &'static [Job],
    disturbances: u8,
    /// Redis may forget several deliveries at once; else it forgets the newest.
    forgets_many: bool,
    /// Workers are told apart: a trace reads better, and there are twice as many states.
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
        vec![State::start(self.jobs, self.disturbances)]
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
        vec![
            Property::always(ONE_PLACE, |model: &Self, state| {
                model.jobs.iter().all(|job| places(state, *job) == 1)
            }),
            Property::always(ACKNOWLEDGED_LAST, |_, state: &State| {
                let printed = &state.marks.printed;
                state.redis.gone.iter().all(|job| printed.contains(job))
            }),
            Property::always(ONE_OUTCOME, |_, state: &State| !state.marks.usurped),
            Property::always(ONCE_AT_A_TIME, |_, state: &State| {
                state.workers.iter().all(|worker| {
                    let held = worker.held.iter().map(|held| held.entry);
                    let mut entries = held.chain(worker.forgotten.iter().copied());
                    entries.all(|entry| worker.handlers(entry) <= 1)
                })
            }),
            Property::always(EXPLAINED, |_, state: &State| !state.marks.unexplained_run),
            Property::always(SETTLED, |_, state: &State| !state.marks.rerun),
            Property::always(DESERVED, |_, state: &State| !state.marks.undeserved_burial),
            Property::always(NO_THEFT, |_, state: &State| !state.marks.stolen_lease),
            Property::always(DRAINS, Protocol::drains),
        ]
    }
}

/// In how many places a job is.
fn places(state: &State, job: Job) -> usize {
    let redis = &state.redis;
    let stored = redis.stream.iter().filter(|stored| stored.entry.job == job);
    stored.count()
        + redis.scheduled.iter().filter(|e| e.job == job).count()
        + redis.dead.iter().filter(|dead| **dead == job).count()
        + redis.gone.iter().filter(|gone| **gone == job).count()
}

/// Visits every state there is.
fn check(jobs: &'static [Job], disturbances: u8) {
    check_all(Protocol {
        jobs,
        disturbances,
        ..Protocol::default()
    });
}

fn check_all(protocol: Protocol) {
    let began = Instant::now();
    let (jobs, disturbances) = (protocol.jobs, protocol.disturbances);
    let checker = protocol
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    eprintln!(
        "jobs {jobs:?}, {disturbances} disturbances: {} states, {} of them different, {} steps \
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

/// The way to the first state that breaks the property.
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
    check(&[0], 2);
}

#[test]
fn a_job_with_a_delay_survives_any_two_disturbances() {
    check(&[1], 2);
}

#[test]
fn two_jobs_survive_any_disturbance() {
    check(&[0, 1], 1);
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
    check(&[0], 3);
}

#[test]
#[ignore = "takes minutes"]
fn a_job_with_a_delay_survives_any_three_disturbances() {
    check(&[1], 3);
}

#[test]
fn every_mistake_is_found() {
    for (bug, property) in Bug::ALL {
        let (jobs, disturbances) = bug.needs();
        let protocol = Protocol {
            bug: Some(bug),
            jobs,
            disturbances,
            told_apart: true,
            ..Protocol::default()
        };
        // One thread finds the shortest way first.
        let only = HasDiscoveries::AnyOf([property].into());
        let checker = protocol.checker().finish_when(only).spawn_bfs().join();
        let path = checker.discovery(property);
        let path = path.unwrap_or_else(|| panic!("{bug:?} is not found: {property:?}"));
        let states = checker.unique_state_count();
        eprintln!("{bug:?} breaks {property:?} ({states} states):");
        show(&checker, property, path);
    }
}
