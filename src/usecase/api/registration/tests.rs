//! The defaults and both sides of each limit.

use proptest::prelude::*;

use super::*;

fn delay(text: &str) -> RegisterInput {
    RegisterInput {
        delay: Some(text.to_owned()),
        ..RegisterInput::default()
    }
}

fn delay_seconds(seconds: i64) -> RegisterInput {
    RegisterInput {
        delay_seconds: Some(seconds),
        ..RegisterInput::default()
    }
}

fn max_retry(retries: i64) -> RegisterInput {
    RegisterInput {
        max_retry: Some(retries),
        ..RegisterInput::default()
    }
}

fn job(input: RegisterInput) -> Job {
    input.try_into().unwrap()
}

fn violation(input: RegisterInput) -> (&'static str, Rule) {
    let [violation] = Job::try_from(input).unwrap_err().try_into().unwrap();
    (violation.field, violation.rule)
}

#[test]
fn defaults_fill_what_is_absent_or_empty_or_zero() {
    let zeroes = RegisterInput {
        message: Some(String::new()),
        delay_seconds: Some(0),
        delay: None,
        max_retry: Some(0),
        expires_in: Some(Span::Seconds(0)),
    };
    for input in [RegisterInput::default(), zeroes] {
        let job = job(input);
        assert_eq!(job.job_type, "demo:delay_print");
        assert_eq!(
            job.payload.unwrap().get(),
            r#"{"message":"Job executed successfully"}"#
        );
        assert_eq!(job.delay_ms, 180_000);
        assert_eq!(job.max_retry, 10);
        assert_eq!(job.attempt, 0);
        assert_eq!(job.expires_in_ms, 0);
    }
}

#[test]
fn an_expiry_is_a_text_or_a_number_of_seconds_within_the_limits_of_a_delay() {
    let expires_in = |span| RegisterInput {
        expires_in: Some(span),
        ..RegisterInput::default()
    };
    let text = |text: &str| expires_in(Span::Text(text.to_owned()));
    let seconds = |seconds| expires_in(Span::Seconds(seconds));
    for (input, ms) in [
        (text("1h 30m"), 5_400_000),
        (text("366days"), 31_622_400_000),
        (text("0s"), 0),
        (text("1ns"), 1),
        (seconds(90), 90_000),
        (seconds(31_622_400), 31_622_400_000),
    ] {
        assert_eq!(job(input.clone()).expires_in_ms, ms, "{input:?}");
    }
    let refused = |input| violation(input);
    assert_eq!(
        refused(text("367days")),
        ("expires_in", Rule::DaysAtMost(366))
    );
    assert!(matches!(
        refused(text("soon")),
        ("expires_in", Rule::Duration(_))
    ));
    assert_eq!(refused(seconds(-1)), ("expires_in", Rule::AtLeast(0)));
    assert_eq!(
        refused(seconds(31_622_401)),
        ("expires_in", Rule::AtMost(31_622_400))
    );
}

#[test]
fn a_span_is_read_from_any_way_to_write_an_integer() {
    let read = |json: &str| serde_json::from_str::<Span>(json).ok();
    for (json, seconds) in [
        ("90", 90),
        ("90.0", 90),
        ("-0.0", 0),
        ("1e3", 1000),
        ("18446744073709551615", i64::MAX),
        ("1e30", i64::MAX),
        ("-1e30", i64::MIN),
    ] {
        assert_eq!(read(json), Some(Span::Seconds(seconds)), "{json}");
    }
    assert_eq!(read("\"90\""), Some(Span::Text("90".to_owned())));
    for json in ["90.5", "true", "[]", "{}"] {
        assert_eq!(read(json), None, "{json}");
    }
}

#[test]
fn what_is_given_is_kept() {
    let job = job(RegisterInput {
        message: Some(" \"hi\"\n".to_owned()),
        delay_seconds: Some(7),
        delay: None,
        max_retry: Some(3),
        expires_in: None,
    });
    assert_eq!(job.payload.unwrap().get(), r#"{"message":" \"hi\"\n"}"#);
    assert_eq!(job.delay_ms, 7_000);
    assert_eq!(job.max_retry, 3);
}

#[test]
fn every_job_has_its_own_id() {
    let ids = [(); 2].map(|()| job(RegisterInput::default()).id.unwrap());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn delay_seconds_has_two_limits() {
    assert_eq!(job(delay_seconds(1)).delay_ms, 1_000);
    assert_eq!(job(delay_seconds(31_622_400)).delay_ms, 31_622_400_000);
    for over in [31_622_401, i64::MAX] {
        let expected = ("delay_seconds", Rule::AtMost(31_622_400));
        assert_eq!(violation(delay_seconds(over)), expected);
    }
    for under in [-1, i64::MIN] {
        let expected = ("delay_seconds", Rule::AtLeast(0));
        assert_eq!(violation(delay_seconds(under)), expected);
    }
}

#[test]
fn max_retry_has_two_limits() {
    assert_eq!(job(max_retry(1)).max_retry, 1);
    assert_eq!(job(max_retry(1000)).max_retry, 1000);
    for over in [1001, i64::from(u32::MAX) + 2, i64::MAX] {
        let expected = ("max_retry", Rule::AtMost(1000));
        assert_eq!(violation(max_retry(over)), expected);
    }
    for under in [-1, i64::MIN] {
        let expected = ("max_retry", Rule::AtLeast(0));
        assert_eq!(violation(max_retry(under)), expected);
    }
}

#[test]
fn delay_takes_humantime_and_zero_means_now() {
    for (text, ms) in [
        ("0s", 0),
        ("250ms", 250),
        ("2m 30s", 150_000),
        ("366days", 31_622_400_000),
        ("1y", 31_557_600_000),
        ("1year", 31_557_600_000),
    ] {
        assert_eq!(job(delay(text)).delay_ms, ms, "{text}");
    }
}

#[test]
fn a_part_of_a_millisecond_counts_as_a_whole_one() {
    for (text, ms) in [("1ns", 1), ("1ms", 1), ("1ms 1us", 2), ("999us", 1)] {
        assert_eq!(job(delay(text)).delay_ms, ms, "{text}");
    }
}

#[test]
fn delay_of_more_than_366_days_is_refused() {
    for text in ["366days 1ns", "1y 1day", "500000years"] {
        let expected = ("delay", Rule::DaysAtMost(366));
        assert_eq!(violation(delay(text)), expected, "{text}");
    }
}

#[test]
fn delays_whose_sum_no_duration_holds_are_refused() {
    const MAX: &str = "18446744073709551615";
    for text in [
        &format!("{MAX}s 1s"),
        &format!("{MAX}s 1000ms"),
        &format!("{MAX}s1000000000ns"),
        "18446744073709551614 s 1s\t1000ms",
        "584542046090y 19767615s 1000ms",
        // Each part alone is short enough.
        &"365d ".repeat(10_000),
    ] {
        let expected = ("delay", Rule::DaysAtMost(366));
        assert_eq!(violation(delay(text)), expected, "{text:.60}");
    }
}

#[test]
fn delay_that_is_no_duration_is_refused() {
    for text in [
        "",
        " ",
        "soon",
        "10",
        "-1s",
        "1 parsec",
        "99999999999999999999s",
    ] {
        let (field, rule) = violation(delay(text));
        assert_eq!(field, "delay");
        assert!(matches!(rule, Rule::Duration(_)), "{text}: {rule:?}");
    }
}

#[test]
fn delay_and_delay_seconds_exclude_each_other() {
    for seconds in [0, 5, -1] {
        let input = RegisterInput {
            delay: Some("5s".to_owned()),
            ..delay_seconds(seconds)
        };
        assert_eq!(violation(input), (EITHER_DELAY.field, EITHER_DELAY.rule));
    }
}

#[test]
fn all_violations_are_reported_at_once() {
    let input = RegisterInput {
        delay_seconds: Some(-1),
        max_retry: Some(1001),
        ..RegisterInput::default()
    };
    let fields: Vec<_> = Job::try_from(input)
        .unwrap_err()
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(fields, ["delay_seconds", "max_retry"]);
}

proptest! {
    #[test]
    fn no_delay_panics(text in "[0-9]{0,25}\\.?[0-9]{0,25} ?(ns|us|ms|s|m|h|d|w|M|y)?|\\PC*") {
        if let Ok(job) = Job::try_from(delay(&text)) {
            prop_assert!(job.delay_ms <= 31_622_400_000);
        }
    }
}
