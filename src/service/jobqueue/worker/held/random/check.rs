//! What must hold after each event.

use std::collections::BTreeMap;

use super::How;
use super::account::{Account, Place};
use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::worker::held::phase::Phase;
use crate::service::jobqueue::worker::held::tests::id;

impl Account {
    pub(super) fn check(&self) {
        let inner = self.held.lock();
        let phases = inner.entries.iter().map(|(id, entry)| (id, entry.phase()));
        let places: BTreeMap<EntryId, Place> = phases
            .map(|(id, phase)| (id, place(phase, self.how(id))))
            .collect();
        let expected = self.entries.iter().map(|(n, entry)| (id(*n), entry.place));
        assert_eq!(places, expected.collect());
        let counts = inner.entries.counts();
        assert_eq!(counts, inner.entries.recount());
        assert_eq!(counts.slots(), self.runs.len(), "slots");
        let count = |is: fn(&Place) -> bool| places.values().filter(|place| is(place)).count();
        assert_eq!(
            counts.unsettled(),
            count(|place| matches!(place, Place::Ending { .. }))
        );
        let ready: Vec<_> = inner
            .ready
            .iter()
            .map(|(_, delivery)| delivery.id)
            .collect();
        assert_eq!(ready.len(), self.ready.len(), "{ready:?} are ready");
        let wanted = !self.ready.is_empty() && self.may_start();
        let on_its_way = self.on_its_way();
        assert!(on_its_way <= 1, "one runner at a time");
        assert!(!wanted || on_its_way == 1, "a runner is on its way");
        assert!(self.starts.iter().all(|starts| *starts <= 1), "twice");
    }

    fn how(&self, of: EntryId) -> How {
        let mut entries = self.entries.iter();
        match entries
            .find(|(n, _)| id(**n) == of)
            .map(|(_, entry)| entry.place)
        {
            Some(Place::Ending { how, .. }) => how,
            _ => How::Done,
        }
    }
}

/// The place that a phase means. What the outcome is, the phase does not say.
fn place(phase: Phase, how: How) -> Place {
    match phase {
        Phase::SetAside { .. } => Place::Aside,
        Phase::Ready => Place::Ready,
        Phase::Running(_) => Place::Running,
        Phase::Output => Place::Output,
        Phase::Ended(sending) if how != How::PutBack => Place::Ending { how, sending },
        Phase::PutBack(sending) => Place::Ending {
            how: How::PutBack,
            sending,
        },
        other => panic!("{other:?} is not the phase of an entry that is held"),
    }
}
