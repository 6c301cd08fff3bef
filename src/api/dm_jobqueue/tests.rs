//! Bodies of registrations: which are accepted, and what the answer says of those that are not.

use axum::body::to_bytes;
use serde_json::{Value, json};

use super::*;

fn decode(text: &str) -> Result<Job, Problem> {
    object::decode(text, RegisterInput::try_into)
}

/// The status of the answer to `text` and its errors as `[location, message, value]`.
async fn errors_of(text: &str) -> (u16, Value) {
    let Err(problem) = decode(text) else {
        return (201, json!([]));
    };
    let response = problem.into_response();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["detail"], "validation failed");
    let errors = body["errors"].as_array_mut().unwrap();
    let errors = errors.iter_mut().map(|error| {
        let mut field = |name| error[name].take();
        json!([field("location"), field("message"), field("value")])
    });
    (status, errors.collect())
}

async fn assert_errors(table: &[(&str, Value)]) {
    for (text, errors) in table {
        assert_eq!(errors_of(text).await, (422, errors.clone()), "{text}");
    }
}

#[test]
fn a_good_body_is_accepted() {
    for text in [
        "",
        " \r\n\t",
        "{}",
        " {} ",
        r#"{"message": "hi", "delay_seconds": 5, "max_retry": 3}"#,
        r#"{"message": "", "delay_seconds": 0, "max_retry": 0}"#,
        r#"{"message": null, "delay_seconds": null, "delay": null, "max_retry": null}"#,
        r#"{"delay": "2m 30s", "delay_seconds": null}"#,
        r#"{"delay": "0s"}"#,
        r#"{"delay_seconds": 31622400, "max_retry": 1000}"#,
        r#"{"delay_seconds": -0, "max_retry": -0.0}"#,
        r#"{"delay_seconds": 31622400.0, "max_retry": 1e3}"#,
        r#"{"delay": "1y"}"#,
        "\u{feff}{}",
        "\u{feff}",
        r#"{"message": "\u0000\ud83e\udd80\u2028"}"#,
    ] {
        assert!(decode(text).is_ok(), "{text}: {:?}", decode(text));
    }
}

#[tokio::test]
async fn a_wrong_type_is_named_with_its_place() {
    assert_errors(&[
        (
            r#"{"delay_seconds": "10"}"#,
            json!([["body.delay_seconds", "expected integer", "10"]]),
        ),
        (
            r#"{"delay_seconds": 5.5}"#,
            json!([["body.delay_seconds", "expected integer", 5.5]]),
        ),
        (
            r#"{"max_retry": 1e-400}"#,
            json!([["body.max_retry", "expected integer", 0.0]]),
        ),
        (
            r#"{"delay_seconds": true}"#,
            json!([["body.delay_seconds", "expected integer", true]]),
        ),
        (
            r#"{"max_retry": [1]}"#,
            json!([["body.max_retry", "expected integer", [1]]]),
        ),
        (
            r#"{"message": 5}"#,
            json!([["body.message", "expected string", 5]]),
        ),
        (
            r#"{"delay": {"secs": 5}}"#,
            json!([["body.delay", "expected string", {"secs": 5}]]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_value_beyond_a_limit_is_named_with_the_limit() {
    assert_errors(&[
        (
            r#"{"delay_seconds": -1}"#,
            json!([["body.delay_seconds", "expected number >= 0", -1]]),
        ),
        (
            r#"{"delay_seconds": 31622401}"#,
            json!([[
                "body.delay_seconds",
                "expected number <= 31622400",
                31_622_401
            ]]),
        ),
        (
            r#"{"delay_seconds": 9223372036854775808}"#,
            json!([[
                "body.delay_seconds",
                "expected number <= 9223372036854775807",
                9_223_372_036_854_775_808_u64
            ]]),
        ),
        (
            r#"{"delay_seconds": 1e400}"#,
            json!([[
                "body.delay_seconds",
                "expected number <= 9223372036854775807",
                "1e400"
            ]]),
        ),
        (
            r#"{"max_retry": 1001}"#,
            json!([["body.max_retry", "expected number <= 1000", 1001]]),
        ),
        (
            r#"{"max_retry": 1.001e3}"#,
            json!([["body.max_retry", "expected number <= 1000", 1001.0]]),
        ),
        (
            r#"{"delay": "367days"}"#,
            json!([["body.delay", "expected duration <= 366days", "367days"]]),
        ),
        (
            r#"{"delay": "1s", "delay_seconds": 1}"#,
            json!([[
                "body.delay",
                "expected either delay or delay_seconds, not both",
                "1s"
            ]]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_property_that_is_unknown_or_occurs_twice_is_an_error() {
    assert_errors(&[
        (
            r#"{"Message": "hi", "": null}"#,
            json!([
                ["body.Message", "unexpected property", "hi"],
                ["body.", "unexpected property", null]
            ]),
        ),
        (
            r#"{"message": "a", "message": "b"}"#,
            json!([["body.message", "duplicate property", "b"]]),
        ),
        (
            r#"{"message": null, "message": null}"#,
            json!([["body.message", "duplicate property", null]]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn all_errors_of_a_body_are_reported_at_once() {
    assert_errors(&[(
        r#"{"message": 1, "delay_seconds": -1, "delay": [], "max_retry": 1001, "x": 0}"#,
        json!([
            ["body.x", "unexpected property", 0],
            ["body.message", "expected string", 1],
            ["body.delay", "expected string", []],
            ["body.delay_seconds", "expected number >= 0", -1],
            ["body.max_retry", "expected number <= 1000", 1001]
        ]),
    )])
    .await;
}

#[tokio::test]
async fn a_body_that_is_no_object_is_422() {
    for text in ["[]", "null", "\"x\"", "1e400", "true", "[[[{}]]]"] {
        let (status, errors) = errors_of(text).await;
        assert_eq!(status, 422, "{text}");
        assert_eq!(errors[0][0], "body");
        assert_eq!(errors[0][1], "expected object");
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_is_400() {
    let deep = "[".repeat(60_000);
    for text in [
        "{",
        "{}x",
        "{} {}",
        "[1,}",
        "NaN",
        "{'message': 1}",
        r#"{"delay_seconds": NaN}"#,
        r#"{"delay_seconds": 01}"#,
        r#"{"delay_seconds": +1}"#,
        r#"{"message": "hi",}"#,
        "{\"message\": \"a\nb\"}",
        r#"{"message": "\ud800"}"#,
        r#"{"delay": "\udc00"}"#,
        r#"{"\ud800": 1}"#,
        "\u{feff}\u{feff}{}",
        "{}\u{feff}",
        "\u{a0}",
        &deep,
    ] {
        let (status, errors) = errors_of(text).await;
        assert_eq!(status, 400, "{text}: {errors}");
        assert_eq!(errors[0][0], "body", "{text}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_json_is_said_with_its_place_in_the_body() {
    for (text, place) in [
        (r#"{"message": "\ud800"}"#, "line 1 column 20"),
        ("\r\n {\"a\": [1,\n  x]}", "line 3 column 3"),
        ("{\"\u{3042}\u{1f980}\": x}", "line 1 column 8"),
        ("\u{feff}{\"a\": x}", "line 1 column 7"),
        ("  {\"\\ud800\": 1}", "line 1 column 11"),
        ("{\n\"delay\": \"\u{3042}\\udc00\"}", "line 2 column 17"),
        ("{\"x\": {\"y\": tru}}", "line 1 column 16"),
        ("{", "line 1 column 1"),
        ("{}\n\nx", "line 3 column 1"),
        ("{\n", "line 1 column 2"),
    ] {
        let (status, errors) = errors_of(text).await;
        let message = errors[0][1].as_str().unwrap();
        assert_eq!(status, 400, "{text}");
        let at = message.find(" at ").unwrap();
        assert_eq!(&message[at..], format!(" at {place}"), "{text}: {message}");
    }
}

#[tokio::test]
async fn an_answer_to_thousands_of_errors_is_short() {
    let properties: Vec<_> = (0..6_000).map(|n| format!("\"{n}\":{n}")).collect();
    let (status, errors) = errors_of(&format!("{{{}}}", properties.join(","))).await;
    assert_eq!(status, 422);
    assert_eq!(errors.as_array().unwrap().len(), 21);
    assert_eq!(errors[20][1], "and 5980 more");
}

#[tokio::test]
async fn a_registration_is_answered_with_201_and_the_id() {
    let response = created("42".to_owned());
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert_eq!(body, r#"{"job_id":"42","status":"registered"}"#);
}
