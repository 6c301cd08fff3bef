//! A job as an operator sees it, made of what Redis has of it, and what an action names it by.

use std::collections::BTreeMap;

use super::view::{JobView, State};
use crate::service::jobqueue::job::Outline;
use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::redis::looking::Stored;
use crate::service::jobqueue::redis::pending::Known;
use crate::service::jobqueue::redis::scheduled::Member;
use crate::shortened::shortened_to;

/// So many bytes of a field are shown of an entry that is no job.
const FIELD_BYTES: usize = 1024;
/// What a dead letter says of itself. Its other fields are those of the entry.
const OF_LETTER: [&str; 5] = ["reason", "error", "attempt", "deliveries", "died_from"];

/// A job that was found.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) view: JobView,
    pub(super) handle: Handle,
}

/// What an action names a job by, so that it is done to this job and to no other.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    /// An entry of the stream, and the value of its first field.
    Entry { id: EntryId, value: Vec<u8> },
    /// A member of the scheduled set.
    Member(Member),
    /// A dead letter.
    Letter {
        id: EntryId,
        job: Option<Vec<u8>>,
        died_from: Option<String>,
    },
    /// A job that has finished, to which nothing can be done.
    Finished,
}

impl Seen {
    /// Whether the job is the one that is called `id`: by its own id, or by that of an entry that it has or
    /// had in the stream. The dead letters are another stream, which may give the same ids to other jobs.
    pub(super) fn is_named(&self, id: &str) -> bool {
        let of_entry = match &self.handle {
            Handle::Entry { id: entry, .. } => entry.to_string() == id,
            Handle::Letter { died_from, .. } => died_from.as_deref() == Some(id),
            Handle::Member(member) => {
                let left = member.parts().0;
                left.is_some_and(|entry| entry.to_string() == id)
            }
            Handle::Finished => false,
        };
        of_entry || self.view.job_id == id
    }

    /// About how many bytes an action sends.
    pub(super) fn bytes(&self) -> usize {
        match &self.handle {
            Handle::Member(member) => member.bytes.len(),
            Handle::Letter { job: Some(job), .. } => job.len(),
            _ => 0,
        }
    }

    /// An entry of the stream that no worker has.
    pub(super) fn waiting(entry: Stored) -> Self {
        Self::entry(Known {
            entry,
            pending: None,
            cancelling: false,
        })
    }

    /// An entry of the stream.
    pub(super) fn entry(known: Known) -> Self {
        let Known {
            entry,
            pending,
            cancelling,
        } = known;
        let running = pending.as_ref().filter(|pending| !pending.is_put_back);
        let state = running.map_or(State::Waiting, |_| State::Running);
        let mut view = JobView::new(state, entry.id.to_string());
        view.entry_id = Some(entry.id.to_string());
        view.registered_ms = Some(entry.id.ms());
        match entry.only_job().and_then(Outline::read) {
            Some(job) => view.show(job),
            None => view.fields = texts(&entry, &[]),
        }
        view.worker = running.map(|pending| pending.consumer.clone());
        view.deliveries = pending.map(|pending| pending.deliveries);
        view.cancelling = cancelling;
        let value = entry.fields.into_iter().next().unwrap_or_default().1;
        let id = entry.id;
        let handle = Handle::Entry { id, value };
        Self { view, handle }
    }

    /// A member of the scheduled set.
    pub(super) fn member(member: Member) -> Self {
        let (entry, json) = member.parts();
        let job_id = entry.map(|id| id.to_string());
        let mut view = JobView::new(State::Scheduled, job_id.clone().unwrap_or_default());
        view.entry_id = job_id;
        view.registered_ms = entry.map(EntryId::ms);
        match Outline::read(json) {
            Some(job) => view.show(job),
            None => {
                let text = (String::from("job"), shown(json));
                view.fields = BTreeMap::from([text]);
            }
        }
        view.due_ms = member.due_ms();
        let handle = Handle::Member(member);
        Self { view, handle }
    }

    /// A dead letter.
    pub(super) fn letter(entry: Stored) -> Self {
        let text = |name| entry.field(name).map(String::from_utf8_lossy);
        let number = |name| text(name)?.parse::<u64>().ok();
        let died_from = text("died_from").map(String::from);
        let left: Option<EntryId> = died_from.as_ref().and_then(|id| id.parse().ok());
        let job_id = died_from.clone().unwrap_or_else(|| entry.id.to_string());
        let mut view = JobView::new(State::Dead, job_id);
        view.entry_id = Some(entry.id.to_string());
        view.registered_ms = left.map(EntryId::ms);
        match entry.field("job").and_then(Outline::read) {
            Some(job) => view.show(job),
            None => view.fields = texts(&entry, &OF_LETTER),
        }
        if let Some(attempt) = number("attempt") {
            view.attempt = attempt.try_into().unwrap_or(u32::MAX);
        }
        view.due_ms = None;
        view.deliveries = number("deliveries");
        view.died_ms = Some(entry.id.ms());
        view.reason = text("reason").map(|reason| shortened_to(FIELD_BYTES, &reason));
        view.error = text("error").map(|error| shortened_to(2 * FIELD_BYTES, &error));
        let handle = Handle::Letter {
            id: entry.id,
            job: entry.field("job").map(<[u8]>::to_vec),
            died_from,
        };
        Self { view, handle }
    }

    /// A job that has finished.
    pub(super) fn finished(entry: &Stored) -> Self {
        let text = |name| entry.field(name).map(String::from_utf8_lossy);
        let number = |name| text(name)?.parse::<u64>().ok();
        let job_id = text("job_id").map_or_else(|| entry.id.to_string(), String::from);
        let mut view = JobView::new(State::Done, job_id);
        view.job_type = text("type").map(String::from);
        view.attempt = number("attempt").map_or(0, |n| n.try_into().unwrap_or(u32::MAX));
        view.registered_ms = number("registered_ms");
        view.due_ms = number("due_ms");
        view.started_ms = number("started_ms");
        view.finished_ms = number("finished_ms").or(Some(entry.id.ms()));
        view.worker = text("consumer").map(String::from);
        view.stands_for = number("count");
        let handle = Handle::Finished;
        Self { view, handle }
    }
}

impl JobView {
    /// Adds what the job says of itself. When it does not say when it was registered, its entry does.
    fn show(&mut self, job: Outline) {
        self.attempt = job.attempt();
        self.max_retry = Some(job.max_retry());
        self.registered_ms = job.registered_ms.or(self.registered_ms);
        let delay_ms = job.delay_ms.unwrap_or(0);
        let due_ms = self.registered_ms.map(|ms| ms.saturating_add(delay_ms));
        self.due_ms = due_ms.filter(|_| delay_ms > 0);
        let expires_at_ms = due_ms.zip(job.expires_in_ms);
        self.expires_at_ms = job
            .expires_at_ms
            .or(expires_at_ms.map(|(due, wait)| due.saturating_add(wait)));
        if let Some(id) = job.id {
            self.job_id = id;
        }
        self.job_type = job.job_type;
        self.payload = job.payload;
    }
}

/// The fields of an entry as text, but for those that are named.
fn texts(entry: &Stored, without: &[&str]) -> BTreeMap<String, String> {
    let fields = entry.fields.iter();
    let texts = fields.map(|(name, value)| (shown(name), shown(value)));
    texts
        .filter(|(name, _)| !without.contains(&name.as_str()))
        .collect()
}

fn shown(bytes: &[u8]) -> String {
    // A cut character at the end shows as one that is none.
    let beginning = &bytes[..bytes.len().min(FIELD_BYTES + 4)];
    let text = String::from_utf8_lossy(beginning);
    match bytes.len() > FIELD_BYTES {
        true => format!(
            "{}… ({} bytes)",
            &text[..text.floor_char_boundary(FIELD_BYTES)],
            bytes.len()
        ),
        false => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(id: &str, fields: &[(&str, &str)]) -> Stored {
        let fields = fields.iter();
        let fields = fields.map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()));
        Stored {
            id: id.parse().unwrap(),
            fields: fields.collect(),
        }
    }

    #[test]
    fn a_bare_entry_is_called_by_its_id_and_was_registered_then() {
        let job = r#"{"type":"x","delay_ms":500,"expires_in_ms":9,"payload":[1.0]}"#;
        let seen = Seen::waiting(stored("1000-7", &[("job", job)]));
        assert_eq!(seen.view.job_id, "1000-7");
        assert_eq!(seen.view.registered_ms, Some(1000));
        assert_eq!(seen.view.due_ms, Some(1500));
        assert_eq!(seen.view.expires_at_ms, Some(1509));
        assert_eq!(seen.view.payload.as_ref().unwrap().get(), "[1.0]");
        assert!(seen.is_named("1000-7") && !seen.is_named("1000-8"));
    }

    #[test]
    fn what_is_no_job_shows_its_fields() {
        let long = "é".repeat(1000);
        for fields in [
            &[("task", "{}"), ("x", long.as_str())][..],
            &[("job", "[1]")],
            &[("job", "{}"), ("job", "{}")],
        ] {
            let seen = Seen::waiting(stored("5-1", fields));
            assert_eq!(seen.view.job_id, "5-1");
            assert!(!seen.view.fields.is_empty() && seen.view.job_type.is_none());
        }
        let seen = Seen::waiting(stored("5-1", &[("x", &long)]));
        assert_eq!(
            seen.view.fields["x"].len(),
            FIELD_BYTES + "… (2000 bytes)".len()
        );
        let letter = [
            ("entry.a", "b"),
            ("reason", "malformed"),
            ("died_from", "3-1"),
        ];
        let seen = Seen::letter(stored("9-1", &letter));
        assert_eq!(seen.view.job_id, "3-1");
        assert_eq!(seen.view.fields.len(), 1);
        assert_eq!(seen.view.reason.as_deref(), Some("malformed"));
        assert!(seen.is_named("3-1") && !seen.is_named("9-1"));
    }

    #[test]
    fn a_dead_letter_knows_more_of_its_attempts_than_its_job() {
        let job = r#"{"type":"x","id":"a","attempt":2,"registered_ms":77}"#;
        let letter = [("job", job), ("attempt", "3"), ("died_from", "3-1")];
        let seen = Seen::letter(stored("9-1", &letter));
        assert_eq!((seen.view.attempt, seen.view.job_id.as_str()), (3, "a"));
        assert_eq!(seen.view.registered_ms, Some(77));
        assert_eq!(seen.view.died_ms, Some(9));
    }
}
