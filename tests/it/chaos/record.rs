//! Writes a ledger to a file, in the form that `ledger/record.rs` reads.

use std::time::Instant;

use serde_json::json;

use super::ledger::{Answer, Ledger, Print};

impl Ledger {
    /// Writes a record. Its times count from `start`.
    pub(crate) fn to_lines(&self, start: Instant) -> String {
        let ms = |at: Instant| at.saturating_duration_since(start).as_millis();
        let (held, window) = (self.held, self.window.as_millis());
        let mut events = vec![json!({"event": "limits", "held": held, "window_ms": window})];
        for (job, answer) in &self.answers {
            let answer = match answer {
                Answer::Accepted => "accepted",
                Answer::Refused => "refused",
                Answer::Unknown => "unknown",
            };
            events.push(json!({"event": "answer", "job": job, "answer": answer}));
        }
        for Print { job, worker, at } in &self.prints {
            let worker = worker.to_string();
            let at = ms(*at);
            events.push(json!({"event": "printed", "job": job, "worker": worker, "at_ms": at}));
        }
        let dead = self.dead.iter();
        events.extend(dead.map(|job| json!({"event": "dead", "job": job})));
        for fault in &self.faults {
            let worker = fault.worker.to_string();
            let (from, to) = (ms(fault.from), ms(fault.to));
            let mut event =
                json!({"event": "fault", "worker": worker, "from_ms": from, "to_ms": to});
            if let Some(held) = fault.held {
                event["held"] = held.into();
            }
            events.push(event);
        }
        events.iter().map(|event| format!("{event}\n")).collect()
    }
}

const RECORD: &str = r#"{"event":"limits","held":1,"window_ms":1000}
{"event":"answer","job":1,"answer":"accepted"}
{"event":"answer","job":2,"answer":"unknown"}
{"event":"printed","job":1,"worker":"a","at_ms":20}
{"event":"fault","worker":"a","from_ms":30,"to_ms":40}
{"event":"fault","worker":"b","from_ms":30,"to_ms":40,"held":2}
{"event":"printed","job":1,"worker":"b","at_ms":900}
{"event":"dead","job":7}
"#;

#[test]
fn a_record_is_read_as_it_was_written() {
    let ledger = Ledger::from_lines(RECORD).unwrap();
    let start = ledger.prints.iter().map(|print| print.at).min().unwrap();
    let again = Ledger::from_lines(&ledger.to_lines(start)).unwrap();
    assert_eq!(again.verdict(), ledger.verdict());
    assert_eq!(again.answers, ledger.answers);
    assert_eq!((again.held, again.window), (ledger.held, ledger.window));
    assert_eq!(again.verdict().explained, 1);
    let held: Vec<_> = again.faults.iter().map(|fault| fault.held).collect();
    assert_eq!(held, [None, Some(2)]);
}
