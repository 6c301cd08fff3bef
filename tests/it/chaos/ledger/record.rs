//! Reads a ledger from a file: one JSON object a line, in any order.
//!
//!     {"event":"limits","held":276,"window_ms":10000}
//!     {"event":"answer","job":1,"answer":"accepted"}
//!     {"event":"printed","job":1,"worker":"a","at_ms":1200}
//!     {"event":"dead","job":2}
//!     {"event":"fault","worker":"a","from_ms":900,"to_ms":1100}
//!     {"event":"fault","worker":"a","from_ms":900,"to_ms":1100,"held":3}
//!
//! An answer is `accepted`, `refused` or `unknown`. All times count from the same moment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Answer, Fault, Ledger, Print};

impl Ledger {
    /// Reads a record.
    ///
    /// # Errors Names the first line that is not an event or that contradicts another line.
    pub(crate) fn from_lines(text: &str) -> Result<Self, String> {
        let mut reader = Reader {
            start: Instant::now(),
            workers: BTreeMap::new(),
            ledger: Self::default(),
        };
        for (number, line) in text.lines().enumerate() {
            if !line.trim().is_empty() {
                let read = serde_json::from_str(line).map_err(|error| error.to_string());
                read.and_then(|event: Value| reader.add(&event))
                    .map_err(|error| format!("line {}: {error}: {line}", number + 1))?;
            }
        }
        Ok(reader.ledger)
    }
}

struct Reader {
    start: Instant,
    workers: BTreeMap<String, usize>,
    ledger: Ledger,
}

impl Reader {
    fn add(&mut self, event: &Value) -> Result<(), String> {
        match text(event, "event")? {
            "limits" => {
                self.ledger.held = count(event, "held")?;
                self.ledger.window = Duration::from_millis(number(event, "window_ms")?);
            }
            "answer" => {
                let job = number(event, "job")?;
                let answer = match text(event, "answer")? {
                    "accepted" => Answer::Accepted,
                    "refused" => Answer::Refused,
                    "unknown" => Answer::Unknown,
                    other => return Err(format!("{other:?} is no answer")),
                };
                if self.ledger.answers.insert(job, answer).is_some() {
                    return Err(format!("job {job} has been answered before"));
                }
            }
            "printed" => {
                let print = Print {
                    job: number(event, "job")?,
                    worker: self.worker(event)?,
                    at: self.at(event, "at_ms")?,
                };
                self.ledger.prints.push(print);
            }
            "dead" => {
                self.ledger.dead.insert(number(event, "job")?);
            }
            "fault" => {
                let fault = Fault {
                    worker: self.worker(event)?,
                    from: self.at(event, "from_ms")?,
                    to: self.at(event, "to_ms")?,
                    held: match event.get("held") {
                        Some(_) => Some(count(event, "held")?),
                        None => None,
                    },
                };
                self.ledger.faults.push(fault);
            }
            other => return Err(format!("{other:?} is no event")),
        }
        Ok(())
    }

    fn worker(&mut self, event: &Value) -> Result<usize, String> {
        let name = text(event, "worker")?;
        let next = self.workers.len();
        Ok(*self.workers.entry(name.to_owned()).or_insert(next))
    }

    fn at(&self, event: &Value, name: &str) -> Result<Instant, String> {
        Ok(self.start + Duration::from_millis(number(event, name)?))
    }
}

fn text<'a>(event: &'a Value, name: &str) -> Result<&'a str, String> {
    let value = event[name].as_str();
    value.ok_or_else(|| format!("{name:?} is not a string"))
}

fn number(event: &Value, name: &str) -> Result<u64, String> {
    let value = event[name].as_u64();
    value.ok_or_else(|| format!("{name:?} is not a number"))
}

fn count(event: &Value, name: &str) -> Result<usize, String> {
    usize::try_from(number(event, name)?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_cannot_be_read_is_named() {
        for (line, why) in [
            ("{", "EOF"),
            (r#"{"event":"eaten"}"#, "\"eaten\" is no event"),
            (r#"{"event":"dead"}"#, "\"job\" is not a number"),
            (
                r#"{"event":"answer","job":1,"answer":"accepted"}"#,
                "before",
            ),
        ] {
            let error = Ledger::from_lines(&format!("{RECORD}{line}")).unwrap_err();
            assert!(
                error.starts_with("line 9: ") && error.contains(why),
                "{error}"
            );
        }
    }
}
