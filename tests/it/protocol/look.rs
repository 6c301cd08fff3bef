//! Compares everything that Redis holds with the model.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;

use super::reference::{Job, Lease, Place, Reference, is_stored};
use super::system::{HOUR, System, json, worker};
use super::transitions::WORKERS;
use crate::support::{CANCEL, DEAD, SCHEDULED, STREAM};

/// An entry that has been idle for longer than this, in ms, was put back.
const YEAR: u64 = 365 * 24 * HOUR;

impl System<'_> {
    /// Asserts that everything in Redis is as the model says, and that nothing else is there.
    pub(crate) fn compare(&mut self, reference: &Reference) {
        let stored = reference.in_order(is_stored);
        let stream: Vec<(String, Vec<String>)> = self.cmd(&["XRANGE", STREAM, "-", "+"]);
        let expected = stored.iter().map(|&job| {
            let state = &reference.jobs[job];
            let fields = vec!["job".to_owned(), json(job, state.attempt)];
            (self.ids[&(job, state.entry)].clone(), fields)
        });
        assert_eq!(stream, expected.collect::<Vec<_>>(), "the stream");

        let pending = self.pending();
        let expected = stored.iter().filter_map(|&job| {
            let state = &reference.jobs[job];
            let Place::Pending {
                owner,
                deliveries,
                lease,
            } = state.place
            else {
                return None;
            };
            let id = self.ids[&(job, state.entry)].clone();
            Some((id, worker(owner), lease, deliveries))
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(pending, expected, "what is pending");

        self.compare_counts(reference, stored.len(), &expected);
        self.compare_sets(reference);
    }

    /// The pending entries with the times of their deliveries. Only XINFO tells a time in the
    /// future.
    fn pending(&mut self) -> Vec<(String, String, Lease, u64)> {
        let (seconds, micros): (u64, u64) = self.cmd(&["TIME"]);
        let now = seconds * 1000 + micros / 1000;
        let full: BTreeMap<String, Value> =
            self.cmd(&["XINFO", "STREAM", STREAM, "FULL", "COUNT", "0"]);
        let groups: Vec<BTreeMap<String, Value>> =
            redis::from_redis_value_ref(&full["groups"]).unwrap();
        let rows: Vec<(String, String, u64, u64)> =
            redis::from_redis_value_ref(&groups[0]["pending"]).unwrap();
        let rows = rows.into_iter();
        rows.map(|(id, owner, at, count)| (id, owner, lease(now, at), count))
            .collect()
    }

    /// Compares the numbers that XINFO shows to an operator.
    fn compare_counts(
        &mut self,
        reference: &Reference,
        stored: usize,
        pending: &[(String, String, Lease, u64)],
    ) {
        let groups: Vec<BTreeMap<String, Value>> = self.cmd(&["XINFO", "GROUPS", STREAM]);
        let count = |name: &str| redis::from_redis_value_ref::<Option<usize>>(&groups[0][name]);
        assert_eq!(count("pending").unwrap(), Some(pending.len()));
        let at = |place| move |job: &&Job| job.place == place;
        let waiting = reference.jobs.iter().filter(at(Place::Waiting)).count();
        let stranded = reference.jobs.iter().filter(at(Place::Stranded)).count();
        assert_eq!(stored - pending.len(), waiting + stranded);
        // Redis 7.0 gives no lag while entries are deleted out of order. It never gives a wrong
        // lag, and when nothing is left it gives one.
        match count("lag").unwrap() {
            Some(lag) => assert_eq!(lag, waiting, "the lag"),
            None => assert_ne!(stored, 0, "there is no lag"),
        }
        let consumers = self.consumers();
        for name in (0..WORKERS).map(worker) {
            let owned = pending.iter().filter(|(_, owner, ..)| *owner == name);
            let owned = owned.count();
            assert_eq!(consumers.get(&name).copied().unwrap_or(0), owned, "{name}");
        }
    }

    fn compare_sets(&mut self, reference: &Reference) {
        let all = ["ZRANGE", SCHEDULED, "0", "-1", "WITHSCORES"];
        let scheduled: BTreeMap<String, f64> = self.cmd(&all);
        let mut expected = BTreeMap::new();
        for (number, job) in reference.jobs.iter().enumerate() {
            if let Place::Scheduled { due } = job.place {
                // A member begins with the id of the entry that the job left. The id keeps equal
                // jobs apart.
                let id = &self.ids[&(number, job.entry)];
                expected.insert(format!("{id}:{}", json(number, job.attempt)), due);
            }
        }
        let members: Vec<&String> = scheduled.keys().collect();
        assert_eq!(members, expected.keys().collect::<Vec<_>>(), "scheduled");
        for (member, due) in expected {
            let score = scheduled[&member];
            let (seconds, _): (f64, f64) = self.cmd(&["TIME"]);
            let expected = match due {
                #[allow(clippy::cast_precision_loss, reason = "turns are small numbers")]
                Some(turn) => score == turn as f64,
                None => score > seconds * 1000.0,
            };
            assert!(expected, "{member} is due at {score}, {due:?}");
        }

        let fields: Vec<String> = self.cmd(&["HKEYS", CANCEL]);
        let expected = reference.cancelling.iter();
        let expected: BTreeSet<_> = expected.map(|target| self.ids[target].clone()).collect();
        assert_eq!(
            BTreeSet::from_iter(fields),
            expected,
            "what is to be cancelled"
        );

        let dead: Vec<(String, Vec<String>)> = self.cmd(&["XRANGE", DEAD, "-", "+"]);
        let expected = reference.dead.iter();
        let expected = expected.map(|&job| json(job, reference.jobs[job].attempt));
        let dead = dead.into_iter().map(|(_, fields)| fields[1].clone());
        assert_eq!(dead.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}

fn lease(now: u64, delivered: u64) -> Lease {
    // A delivery of this moment may be a millisecond late.
    match (now + 1000).checked_sub(delivered) {
        None => Lease::Future,
        Some(0..HOUR) => Lease::Runs,
        Some(HOUR..YEAR) => Lease::Over,
        Some(_) => Lease::PutBack,
    }
}
