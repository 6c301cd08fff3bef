//! What holds in every state of the model.

use stateright::Property;

use super::Protocol;
use super::state::{Job, State};

pub(crate) const ONE_PLACE: &str = "a job is in exactly one place";
pub(crate) const ACKNOWLEDGED_LAST: &str = "an acknowledged job was printed";
pub(crate) const ONE_OUTCOME: &str =
    "an outcome other than success takes effect only for the owner";
pub(crate) const ONCE_AT_A_TIME: &str = "a process runs an entry once at a time";
pub(crate) const EXPLAINED: &str = "a run is repeated only after a fault";
pub(crate) const SETTLED: &str = "a process does not start again what it has settled";
pub(crate) const DESERVED: &str = "only a job that was given up too often is poison";
pub(crate) const NO_THEFT: &str = "nobody takes an entry whose lease has not ended";
pub(crate) const CANCEL_KEPT: &str =
    "no attempt begins after its cancel, but by a process that has not asked since";
pub(crate) const NOT_CUT_SHORT: &str = "an operator deletes no entry that its owner has in hand";
pub(crate) const ALL_ATTEMPTS: &str = "a dead letter that is retried has all attempts of a new job";
pub(crate) const DRAINS: &str = "the queue drains when the faults stop";

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ONE_PLACE, |model: &Protocol, state| {
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
        Property::always(CANCEL_KEPT, |_, state: &State| !state.marks.lost_cancel),
        Property::always(NOT_CUT_SHORT, |_, state: &State| !state.marks.cut_short),
        Property::always(ALL_ATTEMPTS, |_, state: &State| !state.marks.short_retry),
        Property::always(DRAINS, Protocol::drains),
    ]
}

/// The number of places that a job is in.
fn places(state: &State, job: Job) -> usize {
    let redis = &state.redis;
    let stored = redis.stream.iter().filter(|stored| stored.entry.job == job);
    stored.count()
        + redis.scheduled.iter().filter(|e| e.job == job).count()
        + redis.dead.iter().filter(|e| e.job == job).count()
        + redis.gone.iter().filter(|gone| **gone == job).count()
        + redis.deleted.iter().filter(|gone| **gone == job).count()
}
