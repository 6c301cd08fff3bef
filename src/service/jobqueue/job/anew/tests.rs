use super::*;
use crate::service::jobqueue::job::{Job, MAX_JOB_BYTES};

const OF_ENTRY: Known<'_> = Known {
    entry: Some("1000-7"),
    registered_ms: Some(1000),
};
const UNKNOWN: Known<'_> = Known {
    entry: None,
    registered_ms: None,
};

fn text(job: Result<Vec<u8>, CannotRun>) -> String {
    String::from_utf8(job.unwrap()).unwrap()
}

#[test]
fn only_the_queues_own_counts_are_taken_out() {
    for (job, expected) in [
        (
            r#"{"type":"x","attempt":3,"payload":{"attempt":3},"id":"a"}"#,
            r#"{"type":"x","payload":{"attempt":3},"id":"a"}"#,
        ),
        (
            "\n{ \"attempt\" :\t3 , \"id\":\"a\", \"type\":\"x\" } ",
            "\n{ \"id\":\"a\", \"type\":\"x\" } ",
        ),
        (
            r#"{"id":"a","t\"attempt\":1":"\"attempt\":3,","type":"\\","attempt":3}"#,
            r#"{"id":"a","t\"attempt\":1":"\"attempt\":3,","type":"\\"}"#,
        ),
        (
            r#"{"attempt":1,"id":"a","\u0061ttempt":2,"type":"x","attempt":null}"#,
            r#"{"id":"a","type":"x"}"#,
        ),
        (
            r#"{"id":"a","type":"x","unknown_for_ms":3600000,"attempt":1}"#,
            r#"{"id":"a","type":"x"}"#,
        ),
        (
            r#"{"id":"a","expires_at_ms":5,"type":"x","expires_in_ms":1,"delay_ms":"5"}"#,
            r#"{"id":"a","type":"x"}"#,
        ),
        (
            r#"{"id":"a","id":"b","type":"x","type":"y","attempt":1,"big":1e400}"#,
            r#"{"id":"a","id":"b","type":"x","type":"y","big":1e400}"#,
        ),
        (
            r#"{"id":"a","type":"x","trace\ud83d":{"attempt":1},"cut":"\uDE00","attempt":3}"#,
            r#"{"id":"a","type":"x","trace\ud83d":{"attempt":1},"cut":"\uDE00"}"#,
        ),
    ] {
        assert_eq!(text(retried(job.as_bytes(), UNKNOWN)), expected);
    }
}

#[test]
fn a_job_gets_what_it_was_known_by() {
    for (job, expected) in [
        (
            r#"{"type":"x","delay_ms":5000}"#,
            r#"{"id":"1000-7","registered_ms":1000,"type":"x"}"#,
        ),
        (
            r#"{ "id":null, "registered_ms":null , "type":"x"}"#,
            r#"{ "id":"1000-7","registered_ms":1000,"type":"x"}"#,
        ),
        (
            r#"{"id":"a","type":"x","registered_ms":7}"#,
            r#"{"id":"a","type":"x","registered_ms":7}"#,
        ),
        (
            r#"{"registered_ms":7,"type":"x"}"#,
            r#"{"id":"1000-7","registered_ms":7,"type":"x"}"#,
        ),
    ] {
        let again = text(retried(job.as_bytes(), OF_ENTRY));
        assert_eq!(again, expected);
        assert_eq!(text(retried(again.as_bytes(), OF_ENTRY)), expected);
    }
}

#[test]
fn a_job_that_runs_now_keeps_its_attempts() {
    let job = br#"{"id":"a","type":"x","attempt":3,"unknown_for_ms":9,"expires_at_ms":5}"#;
    assert_eq!(
        text(run_now(job, UNKNOWN)),
        r#"{"id":"a","type":"x","attempt":3}"#
    );
}

#[test]
fn what_is_no_job_is_refused_with_the_reason() {
    for (job, why) in [
        ("[1]", CannotRun::NotAnObject),
        ("", CannotRun::NotAnObject),
        (r#"{"type":"x",}"#, CannotRun::NotJson),
        (r#"{"type":"x"} x"#, CannotRun::NotJson),
        ("{}", CannotRun::NoType),
        (r#"{"id":"x"}"#, CannotRun::NoType),
        (r#"{"type":7}"#, CannotRun::NoType),
    ] {
        assert_eq!(retried(job.as_bytes(), OF_ENTRY), Err(why), "{job}");
    }
    assert_eq!(
        retried(b"{\"type\":\"\xff\"}", OF_ENTRY),
        Err(CannotRun::NotJson)
    );
    let large = |bytes: usize| {
        let rest = r#"{"type":"x","payload":""}"#.len();
        format!(r#"{{"type":"x","payload":"{}"}}"#, "a".repeat(bytes - rest)).into_bytes()
    };
    let most = large(MAX_JOB_BYTES);
    Job::parse(&retried(&most, UNKNOWN).unwrap()).unwrap();
    assert_eq!(
        retried(&large(MAX_MOVED_BYTES + 1), UNKNOWN),
        Err(CannotRun::TooLarge)
    );
    assert_eq!(
        retried(&large(MAX_MOVED_BYTES), OF_ENTRY),
        Err(CannotRun::TooLarge)
    );
    // Deeper than the recursion of the reader goes.
    let deep = format!(
        r#"{{"type":"x","deep":{}{}}}"#,
        "[".repeat(2000),
        "]".repeat(2000)
    );
    assert_eq!(text(retried(deep.as_bytes(), UNKNOWN)), deep);
}
