//! Judges a recorded chaos run: `cargo run --example ledger -- RECORD`.
//!
//! The record has one JSON object in each line, as `tests/it/chaos/ledger/record.rs` shows.
//! `./scripts/chaos` writes a record when `CHAOS_RECORD` names a file. The exit status is the
//! verdict: 0 when every job is accounted for, 1 when a job is not, 2 when the record cannot be
//! read.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program for people to read"
)]

#[path = "../tests/it/chaos/ledger/mod.rs"]
mod ledger;

use std::process::ExitCode;

use ledger::{Answer, Ledger};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(path), None) = (args.next(), args.next()) else {
        eprintln!("usage: ledger RECORD");
        return ExitCode::from(2);
    };
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    match read.and_then(|text| Ledger::from_lines(&text)) {
        Ok(ledger) => {
            let (report, good) = report(&ledger);
            print!("{report}");
            ExitCode::from(u8::from(!good))
        }
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::from(2)
        }
    }
}

/// The text that describes a run, and whether the run was good.
fn report(ledger: &Ledger) -> (String, bool) {
    let verdict = ledger.verdict();
    let count = |wanted| ledger.answers.values().filter(|a| **a == wanted).count();
    let report = format!(
        "accepted {}, refused {}, unknown {}; lines {}, dead letters {}, faults {}\n\
         LOST {:?}\nUNEXPECTED {:?}\nDUPLICATES explained {}, unexplained {:?}\n",
        count(Answer::Accepted),
        count(Answer::Refused),
        count(Answer::Unknown),
        ledger.prints.len(),
        ledger.dead.len(),
        ledger.faults.len(),
        verdict.lost,
        verdict.unexpected,
        verdict.explained,
        verdict.unexplained,
    );
    (report, verdict.is_good())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Job 1 was printed, and job 2 was buried. Job 3 ran twice, because its first worker was killed.
    const GOOD: &str = r#"
{"event":"limits","held":1,"window_ms":1000}
{"event":"answer","job":1,"answer":"accepted"}
{"event":"answer","job":2,"answer":"accepted"}
{"event":"answer","job":3,"answer":"unknown"}
{"event":"answer","job":4,"answer":"refused"}
{"event":"printed","job":1,"worker":"b","at_ms":10}
{"event":"dead","job":2}
{"event":"printed","job":3,"worker":"a","at_ms":20}
{"event":"fault","worker":"a","from_ms":30,"to_ms":30}
{"event":"printed","job":3,"worker":"b","at_ms":900}
"#;

    fn judge(planted: &str) -> (String, bool) {
        report(&Ledger::from_lines(&format!("{GOOD}{planted}")).unwrap())
    }

    #[test]
    fn a_good_run_is_good() {
        let (report, good) = judge("");
        assert!(good, "{report}");
        assert!(report.contains("explained 1, unexplained []"), "{report}");
    }

    #[test]
    fn a_planted_loss_a_duplicate_and_an_unexpected_line_are_found() {
        let (report, good) = judge(
            r#"{"event":"answer","job":5,"answer":"accepted"}
{"event":"printed","job":1,"worker":"c","at_ms":5000}
{"event":"printed","job":4,"worker":"b","at_ms":5000}
"#,
        );
        assert!(!good);
        for found in ["LOST [5]", "UNEXPECTED [4]", "unexplained [1]"] {
            assert!(report.contains(found), "{found}: {report}");
        }
    }
}
