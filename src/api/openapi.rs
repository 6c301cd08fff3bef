//! `GET /openapi.json`: the API's description, for clients and their generators.
//!
//! It is written by hand: bodies are decoded by hand as well, so there are no types that
//! it could be derived from. The tests below hold its numbers against the limits, and
//! `tests/it/openapi.rs` holds a running server against all of it.

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
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::{body::MAX_BODY_LEN, dm_jobqueue::PROPERTIES, problem::MAX_ERRORS},
        service::jobqueue::job::{DEFAULT_MAX_RETRY, MAX_DELAY_MS, MAX_RETRY},
        usecase::{api::dm_jobqueue::DEFAULT_DELAY, jobqueue::delay_print::DEFAULT_MESSAGE},
    };

    fn at(pointer: &str) -> Value {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        let value = description.pointer(pointer);
        value.unwrap_or_else(|| panic!("no {pointer}")).clone()
    }

    #[test]
    fn it_is_of_this_version() {
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
            ("message", "default", json!(DEFAULT_MESSAGE)),
            ("delay_seconds", "default", json!(DEFAULT_DELAY.as_secs())),
            ("delay_seconds", "minimum", json!(0)),
            ("delay_seconds", "maximum", json!(max_delay_s)),
            ("max_retry", "default", json!(DEFAULT_MAX_RETRY)),
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

    #[test]
    fn every_reference_leads_somewhere() {
        let mut values = vec![at("")];
        let mut references = 0;
        while let Some(value) = values.pop() {
            if let Some(reference) = value.get("$ref") {
                let reference = reference.as_str().unwrap().strip_prefix('#');
                at(reference.expect("a reference within the description"));
                references += 1;
            }
            match value {
                Value::Array(items) => values.extend(items),
                Value::Object(members) => values.extend(members.into_iter().map(|(_, v)| v)),
                _ => {}
            }
        }
        assert!(references > 0);
    }
}
