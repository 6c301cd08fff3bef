//! `GET /openapi.json`: the API's description, for clients and for generators of clients.
//!
//! The description is written by hand, since bodies are decoded by hand as well: no types exist that
//! it could be derived from. The tests below compare its numbers with the limits in the code, and
//! `tests/it/api/openapi.rs` compares all of it with a running server.

use axum::{
    Router,
    http::{HeaderValue, header},
    routing::get,
};

const DESCRIPTION: &str = include_str!("openapi.json");

/// The route.
pub(super) fn routes() -> Router {
    let content_type = HeaderValue::from_static("application/json");
    Router::new().route(
        "/openapi.json",
        get(async || ([(header::CONTENT_TYPE, content_type)], DESCRIPTION)),
    )
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, string::string_regex};
    use regex::Regex;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::{dm_jobqueue::PROPERTIES, problem::words::MAX_ERRORS, request::body::MAX_BODY_LEN},
        service::jobqueue::job::{DEFAULT_MAX_RETRY, MAX_DELAY_MS, MAX_RETRY},
        usecase::{
            api::registration::{DEFAULT_DELAY, RegisterInput},
            jobqueue::delay_print::DEFAULT_MESSAGE,
        },
    };

    fn at(pointer: &str) -> Value {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        let value = description.pointer(pointer);
        value.unwrap_or_else(|| panic!("no {pointer}")).clone()
    }

    #[test]
    fn it_names_this_version() {
        assert_eq!(at("/info/version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(at("/info/title"), env!("CARGO_PKG_NAME"));
    }

    #[test]
    fn a_registration_has_the_properties_that_are_decoded() {
        let described = at("/components/schemas/Registration/properties");
        let mut described: Vec<_> = described.as_object().unwrap().keys().collect();
        let mut decoded = PROPERTIES;
        described.sort();
        decoded.sort_unstable();
        assert_eq!(described, decoded);
    }

    #[test]
    fn defaults_and_limits_are_those_of_the_code() {
        let max_delay_s = MAX_DELAY_MS / 1000;
        for (property, key, value) in [
            ("delay_seconds", "minimum", json!(0)),
            ("delay_seconds", "maximum", json!(max_delay_s)),
            ("max_retry", "minimum", json!(0)),
            ("max_retry", "maximum", json!(MAX_RETRY)),
        ] {
            let schema = at(&format!(
                "/components/schemas/Registration/properties/{property}"
            ));
            assert_eq!(schema[key], value, "{property}.{key}");
        }
        let says = |pointer: &str, words: String| {
            let text = at(&format!("{pointer}/description"));
            assert!(text.as_str().unwrap().contains(&words), "{words}: {text}");
        };
        for (property, default) in [
            ("message", DEFAULT_MESSAGE.to_owned()),
            ("delay_seconds", DEFAULT_DELAY.as_secs().to_string()),
            ("max_retry", DEFAULT_MAX_RETRY.to_string()),
        ] {
            says(
                &format!("/components/schemas/Registration/properties/{property}"),
                format!(
                    "it is{} {default}.",
                    if property == "message" { ":" } else { "" }
                ),
            );
        }
        let days = max_delay_s / (24 * 60 * 60);
        says(
            "/components/schemas/Registration/properties/delay",
            format!("{days}days"),
        );
        says(
            "/paths/~1api~1dm-jobqueue~1register/post/responses/413",
            format!(" {MAX_BODY_LEN} bytes"),
        );
        says(
            "/components/schemas/Problem/properties/errors",
            format!("at most {MAX_ERRORS},"),
        );
    }

    /// All values in a part of the description, the part itself included.
    fn all_values(part: Value) -> Vec<Value> {
        let (mut values, mut seen) = (vec![part], Vec::new());
        while let Some(value) = values.pop() {
            match &value {
                Value::Array(items) => values.extend(items.clone()),
                Value::Object(members) => values.extend(members.values().cloned()),
                _ => {}
            }
            seen.push(value);
        }
        seen
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let mut references = 0;
        for value in all_values(at("")) {
            if let Some(reference) = value.get("$ref") {
                let reference = reference.as_str().unwrap().strip_prefix('#');
                at(reference.expect("a reference within the description"));
                references += 1;
            }
        }
        assert!(references > 0);
    }

    /// A generated client would send a default with each request, such as `delay_seconds: 180` beside
    /// a delay.
    #[test]
    fn no_value_is_a_default() {
        for schema in all_values(at("/components/schemas")) {
            assert!(schema.get("default").is_none(), "{schema}");
        }
    }

    #[test]
    fn the_operation_has_the_name_that_clients_know() {
        let operation = at("/paths/~1api~1dm-jobqueue~1register/post");
        assert_eq!(operation["operationId"], "register-demo-job");
        assert_eq!(operation["tags"], json!(["jobqueue-demo"]));
    }

    fn delay() -> Value {
        at("/components/schemas/Registration/properties/delay")
    }

    fn is_delay(text: &str) -> bool {
        let input = RegisterInput {
            delay: Some(text.to_owned()),
            ..RegisterInput::default()
        };
        input.check().is_ok()
    }

    #[test]
    fn usual_delays_match_the_pattern() {
        let pattern = Regex::new(delay()["pattern"].as_str().unwrap()).unwrap();
        let examples = delay()["examples"].as_array().unwrap().clone();
        let examples = examples.iter().map(|it| it.as_str().unwrap());
        for text in examples.chain([
            "90s",
            "1h30m",
            "36h",
            "1d 2h 3m 4s 5ms",
            "366days",
            "100d",
            "52weeks",
            "12 months",
            "1 year",
            "86400s",
            "2592000 seconds",
            "1000ns",
            "7999h",
        ]) {
            assert!(pattern.is_match(text) && is_delay(text), "{text}");
        }
        for text in ["", " ", "5", "-1s", "367days", "2y", "1 parsec", "s"] {
            assert!(!pattern.is_match(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_matches_the_pattern_is_a_delay(text in string_regex(
            delay()["pattern"].as_str().unwrap().trim_start_matches('^').trim_end_matches('$'),
        ).unwrap()) {
            prop_assert!(is_delay(&text), "{text}");
        }
    }
}
