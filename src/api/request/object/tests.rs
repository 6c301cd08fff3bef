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
    let response = sample(text).unwrap_err().into_response();
    assert_eq!(response.status(), 422, "{text}");
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
