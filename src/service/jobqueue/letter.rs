//! What a dead letter says: the job as it was, why it is dead, and where it came from.

use super::broker::DeadLetter;
use super::held::Delivery;
use super::job::Job;
use super::reply::{Body, Entry, EntryId};

/// An error's text is cut at this many bytes: it is for a reader, not an archive.
const MAX_ERROR_BYTES: usize = 1024;
/// A dead letter has at most so many fields of a foreign entry each to itself.
/// Lua passes no more than about 8,000 arguments to a command; the fields beyond
/// are kept together in one, as lines of escaped text.
const MAX_FOREIGN_FIELDS: usize = 1000;

/// A job whose retries are used up.
pub(crate) fn exhausted(delivery: &Delivery, error: &str) -> DeadLetter {
    let attempts = delivery.job.attempt.saturating_add(1);
    of_job(delivery, "retries used up", error, attempts)
}

/// A job that its handler cannot make sense of.
pub(crate) fn malformed(delivery: &Delivery, error: &dyn ToString) -> DeadLetter {
    of_job(
        delivery,
        "malformed",
        &error.to_string(),
        delivery.job.attempt,
    )
}

/// An entry that was delivered again and again without an outcome.
pub(crate) fn poison(entry: Entry) -> DeadLetter {
    let deliveries = entry.deliveries.saturating_sub(1);
    let error = format!("{deliveries} deliveries ended without an outcome");
    let attempt = match &entry.body {
        Body::Job(json) => Job::parse(json).map_or(0, |job| job.attempt),
        Body::Foreign(_) => 0,
    };
    let (id, mut letter) = (entry.id, carried(entry.body));
    letter.extend(why("poison", &error, attempt, deliveries, id));
    letter
}

/// An entry that is not a job, and so was never attempted.
pub(crate) fn unreadable(entry: Entry, error: &str) -> DeadLetter {
    let (id, deliveries) = (entry.id, entry.deliveries);
    let mut letter = carried(entry.body);
    letter.extend(why("malformed", error, 0, deliveries, id));
    letter
}

fn of_job(delivery: &Delivery, reason: &str, error: &str, attempt: u32) -> DeadLetter {
    let mut letter = carried(Body::Job(delivery.json.clone()));
    letter.extend(why(
        reason,
        error,
        attempt,
        delivery.deliveries,
        delivery.id,
    ));
    letter
}

/// Everything that the entry carried.
fn carried(body: Body) -> DeadLetter {
    let mut fields = match body {
        Body::Job(json) => return vec![(b"job".to_vec(), json)],
        Body::Foreign(fields) => fields,
    };
    let beyond = fields.split_off(fields.len().min(MAX_FOREIGN_FIELDS));
    let mut letter: DeadLetter = fields
        .into_iter()
        .map(|(field, value)| ([b"entry.", field.as_slice()].concat(), value))
        .collect();
    if !beyond.is_empty() {
        let lines = beyond
            .iter()
            .map(|(field, value)| format!("{}\t{}\n", field.escape_ascii(), value.escape_ascii()));
        letter.push((b"entries".to_vec(), lines.collect::<String>().into_bytes()));
    }
    letter
}

fn why(reason: &str, error: &str, attempt: u32, deliveries: u32, id: EntryId) -> DeadLetter {
    let error = &error[..error.floor_char_boundary(MAX_ERROR_BYTES)];
    let fields = [
        ("reason", reason.to_owned()),
        ("error", error.to_owned()),
        ("attempt", attempt.to_string()),
        ("deliveries", deliveries.to_string()),
        ("died_from", id.to_string()),
    ];
    let bytes = |(name, value): (&str, String)| (name.as_bytes().to_vec(), value.into_bytes());
    fields.into_iter().map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(count: usize) -> Entry {
        let field = |n: usize| (format!("f{n}").into_bytes(), vec![0xff, b'\n']);
        Entry {
            id: "5-1".parse().unwrap(),
            body: Body::Foreign((0..count).map(field).collect()),
            deliveries: 1,
        }
    }

    #[test]
    fn a_foreign_entry_keeps_each_field() {
        let letter = unreadable(foreign(2), "why");
        assert_eq!(letter[0], (b"entry.f0".to_vec(), vec![0xff, b'\n']));
        assert_eq!(letter[1].0, b"entry.f1");
        assert!(letter.contains(&(b"died_from".to_vec(), b"5-1".to_vec())));
        assert!(letter.contains(&(b"error".to_vec(), b"why".to_vec())));
    }

    #[test]
    fn a_foreign_entry_with_too_many_fields_keeps_them_all() {
        let letter = unreadable(foreign(MAX_FOREIGN_FIELDS + 2), "why");
        let (_, rest) = &letter[MAX_FOREIGN_FIELDS];
        assert_eq!(rest, b"f1000\t\\xff\\n\nf1001\t\\xff\\n\n");
        assert!(letter.len() < 2000);
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let letter = unreadable(foreign(0), &"é".repeat(1000));
        let error = letter.iter().find(|(name, _)| name == b"error").unwrap();
        assert_eq!(error.1.len(), MAX_ERROR_BYTES);
    }
}
