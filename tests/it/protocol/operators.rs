//! What operators do to jobs: what their scripts must do, and the real scripts.

use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Just, Strategy, prop_oneof};
use proptest::sample::select;

use super::reference::{Expected, Job, Lease, Place, Reference};
use super::system::{System, eval, json, script, sha1, worker};
use super::transitions::Target;
use crate::support::{CANCEL, DEAD, GROUP, SCHEDULED, STREAM, TOTALS};

/// A job is named by an entry that it has or had: the one in the stream, the one that it left for the
/// scheduled set, or the one that died. The second value says whether the operator saw this
/// job there, and not another one.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Cancel {
        targets: Vec<(Target, bool)>,
    },
    Unschedule {
        targets: Vec<Target>,
    },
    RunNow {
        targets: Vec<Target>,
    },
    RetryDead {
        letters: Vec<(Target, bool)>,
    },
    DeleteDead {
        letters: Vec<Target>,
    },
    /// The janitor of any worker drops the cancels of entries that are no longer there.
    Tidy,
}

impl Operation {
    pub(crate) fn any(one: impl Strategy<Value = Target> + Clone + 'static) -> BoxedStrategy<Self> {
        let some = vec(one.clone(), 1..4);
        // An operator has mostly seen the right job.
        let seen = select(vec![true, true, true, false]);
        let seen = vec((one, seen), 1..4);
        prop_oneof![
            3 => seen.clone().prop_map(|targets| Self::Cancel { targets }),
            1 => some.clone().prop_map(|targets| Self::Unschedule { targets }),
            1 => some.clone().prop_map(|targets| Self::RunNow { targets }),
            2 => seen.prop_map(|letters| Self::RetryDead { letters }),
            1 => some.prop_map(|letters| Self::DeleteDead { letters }),
            1 => Just(Self::Tidy),
        ]
        .boxed()
    }

    /// The entries that it names.
    pub(crate) fn targets(&self) -> Vec<Target> {
        match self {
            Self::Cancel { targets } | Self::RetryDead { letters: targets } => {
                targets.iter().map(|(target, _)| *target).collect()
            }
            Self::Unschedule { targets }
            | Self::RunNow { targets }
            | Self::DeleteDead { letters: targets } => targets.clone(),
            Self::Tidy => Vec::new(),
        }
    }
}

impl Reference {
    pub(crate) fn operate(&mut self, operation: &Operation) -> Expected {
        let outcomes = match operation {
            Operation::Cancel { targets } => {
                let cancelled = targets.iter().map(|(target, seen)| match seen {
                    true => self.cancel(*target),
                    false => 0,
                });
                cancelled.collect()
            }
            Operation::Unschedule { targets } => self.each_ended(targets, is_scheduled),
            Operation::RunNow { targets } => self.each_appended(targets, is_scheduled),
            Operation::RetryDead { letters } => {
                let retried = letters.iter().map(|(letter, seen)| {
                    let moved = *seen && self.each_appended(&[*letter], is_dead) == [1];
                    if moved {
                        self.jobs[letter.0].attempt = 0;
                    }
                    u8::from(moved)
                });
                retried.collect()
            }
            Operation::DeleteDead { letters } => self.each_ended(letters, is_dead),
            Operation::Tidy => {
                let mut cancelling = std::mem::take(&mut self.cancelling);
                cancelling.retain(|target| self.entry(*target).is_some());
                self.cancelling = cancelling;
                Vec::new()
            }
        };
        let jobs = &self.jobs;
        self.dead.retain(|job| jobs[*job].place == Place::Dead);
        Expected::Outcomes(outcomes)
    }
}

impl Reference {
    /// Every entry that ever existed. The last ones of jobs that have not ended are listed more often.
    pub(crate) fn named(&self) -> Vec<Target> {
        let mut named = Vec::new();
        for (job, state) in self.jobs.iter().enumerate() {
            named.extend((0..=state.entry).map(|entry| (job, entry)));
            if state.place != Place::Gone {
                named.extend([(job, state.entry); 6]);
            }
        }
        named
    }

    /// 0: it is not there. 1: it is deleted. 2 and 3: its worker is to end it, and was told before.
    fn cancel(&mut self, target: Target) -> u8 {
        match self.entry(target).map(|job| job.place) {
            None => 0,
            Some(Place::Pending { lease, .. }) if lease != Lease::PutBack => {
                3 - u8::from(self.cancelling.insert(target))
            }
            Some(_) => {
                self.jobs[target.0].place = Place::Gone;
                self.cancelling.remove(&target);
                1
            }
        }
    }

    /// Ends the jobs that are named by their present entry and are where they should be.
    fn each_ended(&mut self, targets: &[Target], is_there: fn(&Job) -> bool) -> Vec<u8> {
        let ended = targets.iter().map(|(number, entry)| {
            let job = &mut self.jobs[*number];
            let there = job.entry == *entry && is_there(job);
            if there {
                job.place = Place::Gone;
            }
            u8::from(there)
        });
        ended.collect()
    }

    /// Moves such jobs to the end of the stream.
    fn each_appended(&mut self, targets: &[Target], is_there: fn(&Job) -> bool) -> Vec<u8> {
        let appended = targets.iter().map(|(number, entry)| {
            let job = &mut self.jobs[*number];
            let there = job.entry == *entry && is_there(job);
            if there {
                self.entries += 1;
                job.entry += 1;
                job.order = self.entries;
                job.place = Place::Waiting;
            }
            u8::from(there)
        });
        appended.collect()
    }
}

fn is_scheduled(job: &Job) -> bool {
    matches!(job.place, Place::Scheduled { .. })
}

fn is_dead(job: &Job) -> bool {
    job.place == Place::Dead
}

impl System<'_> {
    /// Carries out what an operator does, and compares the reply.
    pub(crate) fn operate(&mut self, operation: &Operation, reference: &Reference) {
        let outcomes = match operation {
            Operation::Cancel { targets } => self.cancel(targets, reference),
            Operation::Unschedule { targets } => {
                let members = targets.iter().map(|target| self.member(*target));
                let members: Vec<String> = members.collect();
                let removed = members.iter().map(|it| self.cmd(&["ZREM", SCHEDULED, it]));
                removed.collect()
            }
            Operation::RunNow { targets } => {
                let mut command = eval(script!("run_now"), &[SCHEDULED, STREAM], &[] as &[&str]);
                for target in targets {
                    let job = json(target.0, self.attempts[target.0]);
                    command.arg(self.member(*target)).arg(job);
                }
                let ids = self.query(&command);
                self.append(targets, ids)
            }
            Operation::RetryDead { letters } => self.retry_dead(letters),
            Operation::DeleteDead { letters } => {
                let ids: Vec<String> = letters.iter().map(|it| self.letter(*it)).collect();
                ids.iter().map(|id| self.cmd(&["XDEL", DEAD, id])).collect()
            }
            Operation::Tidy => {
                let keys = [STREAM, CANCEL, TOTALS];
                self.query::<()>(&eval(script!("tidy"), &keys, &[GROUP, "90"]));
                Vec::new()
            }
        };
        assert_eq!(Expected::Outcomes(outcomes), reference.expected);
    }

    fn cancel(&mut self, targets: &[(Target, bool)], reference: &Reference) -> Vec<u8> {
        let mut command = eval(script!("cancel"), &[STREAM, CANCEL], &[GROUP, "1000000"]);
        for (target, seen) in targets {
            command
                .arg(&self.ids[target])
                .arg(self.seen(*target, *seen));
        }
        let outcomes: Vec<(u8, String)> = self.query(&command);
        let checked = targets.iter().zip(outcomes).map(|((target, _), outcome)| {
            let (outcome, owner) = outcome;
            let expected = match reference.jobs[target.0].place {
                Place::Pending { owner, .. } if outcome > 1 => worker(owner),
                _ => String::new(),
            };
            assert_eq!(owner, expected);
            outcome
        });
        checked.collect()
    }

    fn retry_dead(&mut self, letters: &[(Target, bool)]) -> Vec<u8> {
        let mut command = eval(script!("retry"), &[DEAD, STREAM], &[] as &[&str]);
        for (target, seen) in letters {
            command.arg(self.letter(*target));
            command
                .arg(self.seen(*target, *seen))
                .arg(json(target.0, 0));
        }
        let ids = self.query(&command);
        let targets: Vec<Target> = letters.iter().map(|(target, _)| *target).collect();
        let retried = self.append(&targets, ids);
        for ((job, _), retried) in targets.iter().zip(&retried) {
            if *retried == 1 {
                self.attempts[*job] = 0;
            }
        }
        retried
    }

    /// Notes the new entries of those that were moved to the stream.
    fn append(&mut self, targets: &[Target], ids: Vec<String>) -> Vec<u8> {
        assert_eq!(targets.len(), ids.len());
        let moved = targets.iter().zip(ids).map(|((job, entry), id)| {
            let moved = !id.is_empty();
            if moved {
                self.ids.insert((*job, entry + 1), id);
            }
            u8::from(moved)
        });
        moved.collect()
    }

    /// The member that the job is in the scheduled set, if it left this entry last.
    fn member(&self, target: Target) -> String {
        format!(
            "{}:{}",
            self.ids[&target],
            json(target.0, self.attempts[target.0])
        )
    }

    /// The id of the dead letter of an entry. An entry that never died has one that is not there.
    fn letter(&self, target: Target) -> String {
        let id = self.letters.get(&target);
        id.map_or_else(|| "1-1".to_owned(), String::clone)
    }

    /// The SHA-1 of the job that the operator saw.
    fn seen(&self, target: Target, seen: bool) -> String {
        let attempts = self.attempts[target.0];
        sha1(&json(target.0, if seen { attempts } else { attempts + 1 }))
    }

    /// Notes which dead letter has which entry's job.
    pub(crate) fn note_letters(&mut self) {
        let dead: Vec<(String, Vec<String>)> = self.cmd(&["XRANGE", DEAD, "-", "+"]);
        for (id, fields) in dead {
            let died_from = fields.chunks(2).find(|field| field[0] == "died_from");
            let died_from = &died_from.expect("a dead letter says what died")[1];
            let known = self.ids.iter().find(|(_, known)| *known == died_from);
            self.letters
                .insert(*known.expect("an entry that was added").0, id);
        }
    }
}
