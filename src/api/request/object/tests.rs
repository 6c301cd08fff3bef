//! Types that a request may have, and what no text may do.

use axum::{body::to_bytes, response::IntoResponse};
use proptest::prelude::*;
use serde_json::json;

use super::*;

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Sample {
    name: String,
    count: Option<i64>,
    ids: Option<Vec<String>>,
    is_on: Option<bool>,
}

fn sample(text: &str) -> Result<Sample, Problem> {
    decode(text, |sample: Sample| Ok(sample))
}

async fn errors_of(text: &str) -> serde_json::Value {
    errors_in(sample(text).unwrap_err()).await
}

async fn errors_in(problem: Problem) -> serde_json::Value {
    let response = problem.into_response();
    assert_eq!(response.status(), 422);
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let mut body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    body["errors"].take()
}

#[test]
fn values_of_all_types_are_decoded() {
    let text = r#"{"name": "\u0061", "count": 1e3, "ids": ["1", "2"], "is_on": true}"#;
    let expected = Sample {
        name: "a".to_owned(),
        count: Some(1_000),
        ids: Some(vec!["1".to_owned(), "2".to_owned()]),
        is_on: Some(true),
    };
    assert_eq!(sample(text).unwrap(), expected);
}

#[test]
fn null_is_absent() {
    let expected = Sample {
        name: "a".to_owned(),
        count: None,
        ids: None,
        is_on: None,
    };
    for text in [
        r#"{"name": "a", "count": null, "ids": null, "is_on": null}"#,
        r#"{"name": "a"}"#,
    ] {
        assert_eq!(sample(text).unwrap(), expected);
    }
}

#[test]
fn names_are_compared_after_decoding() {
    assert_eq!(sample(r#"{"\u006eame": "a"}"#).unwrap().name, "a");
}

#[tokio::test]
async fn a_missing_property_is_an_error_beside_all_others() {
    for (text, value) in [
        (r#""count": 1.5, "ids": [1], "is_on": "x""#, json!(null)),
        (
            r#""name": null, "count": 1.5, "ids": [1], "is_on": "x""#,
            json!(null),
        ),
    ] {
        let errors = errors_of(&format!("{{{text}}}")).await;
        let locations: Vec<_> = errors
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["location"].as_str().unwrap())
            .collect();
        assert_eq!(
            locations,
            ["body.name", "body.count", "body.ids", "body.is_on"]
        );
        assert_eq!(errors[0]["message"], words::EXPECTED_PROPERTY);
        assert_eq!(errors[0]["value"], value);
        assert_eq!(
            errors[2]["message"],
            "invalid type: integer `1`, expected a string"
        );
    }
}

#[tokio::test]
async fn an_integer_beyond_its_type_is_an_error_that_names_the_limit_of_the_type() {
    #[derive(Debug, serde::Deserialize)]
    struct Integers {
        byte: Option<u8>,
        small: Option<i8>,
        long: Option<i64>,
        most: Option<u64>,
    }
    let decode = |text: &str| decode(text, |integers: Integers| Ok(integers));
    for (text, expected) in [
        (r#"{"byte": -1}"#, "expected number >= 0"),
        (r#"{"byte": 256}"#, "expected number <= 255"),
        (r#"{"byte": 2.56e2}"#, "expected number <= 255"),
        (r#"{"byte": 1.5}"#, "expected integer"),
        (r#"{"small": -129}"#, "expected number >= -128"),
        (r#"{"small": 1e400}"#, "expected number <= 127"),
        (
            r#"{"long": 9223372036854775808}"#,
            "expected number <= 9223372036854775807",
        ),
        (
            r#"{"long": -1e400}"#,
            "expected number >= -9223372036854775808",
        ),
        (
            r#"{"most": 18446744073709551616}"#,
            "expected number <= 18446744073709551615",
        ),
    ] {
        let errors = errors_in(decode(text).unwrap_err()).await;
        assert_eq!(errors[0]["message"], expected, "{text}");
    }
    let at_the_limits = r#"{"byte": 255.0, "small": -128, "long": -9223372036854775808,
        "most": 18446744073709551615}"#;
    let found = decode(at_the_limits).unwrap();
    assert_eq!((found.byte, found.small), (Some(255), Some(-128)));
    assert_eq!((found.long, found.most), (Some(i64::MIN), Some(u64::MAX)));
}

proptest! {
    #[test]
    fn no_text_panics_and_only_json_is_taken(text in r#"\PC*|[\[\]{}",:\\a0-9eEu.+\- ]{0,40}"#) {
        #[derive(serde::Deserialize)]
        struct Short {
            a: Option<String>,
            #[serde(rename = "0")]
            zero: Option<i64>,
        }

        let json = text.trim_matches(members::WHITE_SPACE).is_empty()
            || serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        if let Ok((a, zero)) = decode(&text, |short: Short| Ok((short.a, short.zero))) {
            prop_assert!(json);
            prop_assert!(a.is_none() || text.contains('"'));
            prop_assert!(zero.is_none() || text.contains('0'));
        }
    }
}

#[derive(Debug, serde::Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Level {
    Low,
    High,
}

#[derive(Debug, serde::Deserialize, PartialEq)]
struct Percent(u8);

#[derive(Debug, serde::Deserialize, PartialEq)]
struct Further {
    level: Option<Level>,
    percent: Option<Percent>,
    count: Option<std::num::NonZeroU8>,
}

#[tokio::test]
async fn types_of_a_property_that_are_made_of_others_are_decoded_and_their_errors_are_named() {
    let decode = |text: &str| decode(text, |further: Further| Ok(further));
    let found = decode(r#"{"level":"high","percent":7,"count":1}"#).unwrap();
    let expected = Further {
        level: Some(Level::High),
        percent: Some(Percent(7)),
        count: std::num::NonZeroU8::new(1),
    };
    assert_eq!(found, expected);
    let problem = decode(r#"{"level":"middle","percent":300,"count":0}"#).unwrap_err();
    let errors = errors_in(problem).await;
    let mut told: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            let text = |key: &str| error[key].as_str().unwrap().to_owned();
            (text("location"), text("message"))
        })
        .collect();
    told.sort();
    let expected = [
        (
            "body.count",
            "invalid value: integer `0`, expected a nonzero u8",
        ),
        (
            "body.level",
            "unknown variant `middle`, expected `low` or `high`",
        ),
        ("body.percent", "expected number <= 255"),
    ];
    assert_eq!(
        told,
        expected.map(|(at, what)| (at.to_owned(), what.to_owned()))
    );
}
