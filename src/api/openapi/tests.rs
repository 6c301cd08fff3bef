//! The description as a whole, and the numbers in it and in the documents, compared with the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use proptest::{prelude::*, string::string_regex};
use regex::Regex;
use serde_json::{Map, Value, json};
use tokio::runtime::Builder;
use tower::ServiceExt;

use crate::{
    api::{health::Readiness, problem::words::MAX_ERRORS, request::object, server_router},
    config::Config,
    service::jobqueue::client::Client,
    service::jobqueue::job::Job,
    usecase::api::dm_jobqueue::DmJobqueueUsecase,
    usecase::api::registration::RegisterInput,
};

/// A server whose client of Redis is never run, and so never connects.
pub(super) fn server() -> Router {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let config = Config::from_sources("develop", dir.as_ref(), &BTreeMap::new()).unwrap();
    let client = Client::new(&config.redis, &config.jobqueue.worker.queue).unwrap();
    let readiness = Readiness::new(async || Ok(Vec::new()));
    let usecase = DmJobqueueUsecase::new(client);
    server_router(usecase, &config.server, &config.cors, readiness)
}

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().build().unwrap();
    let text = runtime.block_on(async {
        let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
        let response = server().oneshot(request).await.unwrap();
        to_bytes(response.into_body(), usize::MAX).await.unwrap()
    });
    serde_json::from_slice(&text).unwrap()
});

const REGISTER: &str = "/paths/~1api~1dm-jobqueue~1register/post";

fn at(pointer: &str) -> Value {
    let value = DESCRIPTION.pointer(pointer);
    value.unwrap_or_else(|| panic!("no {pointer}")).clone()
}

/// The fields of a registration, each with its schema.
fn fields() -> Map<String, Value> {
    let fields = at("/components/schemas/Registration/properties");
    fields.as_object().unwrap().clone()
}

/// What the code makes of this body: the job without its id, or `None` when it is refused.
fn decoded(text: &str) -> Option<(String, u64, u32, u64)> {
    let job: Job = object::decode(text, RegisterInput::try_into).ok()?;
    let payload = job.payload.unwrap().get().to_owned();
    Some((payload, job.delay_ms, job.max_retry, job.expires_in_ms))
}

/// The types that a field has besides null.
fn types_of(schema: &Value) -> Vec<&str> {
    let types = schema["type"].as_array().unwrap().iter();
    let mut types: Vec<_> = types.map(|name| name.as_str().unwrap()).collect();
    assert_eq!(types.pop(), Some("null"), "{schema}");
    types
}

/// The default that the words for a field tell.
fn default_of(schema: &Value) -> Option<Value> {
    let words = Regex::new(r"Absent or \w+ it is:? (.*)\.$").unwrap();
    let description = schema["description"].as_str().unwrap();
    let default = words.captures(description)?[1].to_owned();
    Some(match types_of(schema)[..] {
        ["integer"] => default.parse::<i64>().unwrap().into(),
        _ => default.into(),
    })
}

#[test]
fn it_names_this_version() {
    assert_eq!(at("/info/version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(at("/info/title"), env!("CARGO_PKG_NAME"));
}

#[test]
fn the_default_of_each_field_is_that_of_the_code() {
    let none = decoded("");
    for (name, schema) in fields() {
        let Some(default) = default_of(&schema) else {
            let description = schema["description"].as_str().unwrap();
            if description.contains("Absent or 0 it never") {
                assert_eq!(decoded(&json!({ &name: 0 }).to_string()), none, "{name}");
            } else {
                assert!(description.starts_with("Instead of "), "{name} tells none");
            }
            continue;
        };
        let with_default = decoded(&json!({ &name: default }).to_string());
        assert_eq!(with_default, none, "{name}: {default}");
    }
}

/// The cells of the table in `document` that begins with this line.
fn table<'a>(document: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let lines = document.lines().skip_while(|line| *line != head).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        row.split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect()
    })
    .collect()
}

#[test]
fn the_documents_tell_the_fields_with_their_types_limits_and_defaults() {
    for (document, head, string, or, integer) in [
        (
            include_str!("../../../README.md"),
            "| field | type | default | |",
            "string",
            " or ",
            "integer, MIN to MAX",
        ),
        (
            include_str!("../../../docs/ja/Queue-Job.md"),
            "| 項目 | 型 | 既定値 | 説明 |",
            "文字列",
            "または ",
            "MIN~MAX の整数",
        ),
    ] {
        let told: Vec<_> = table(document, head)
            .into_iter()
            .map(|row| [row[1], row[2], row[3]].map(str::to_owned))
            .collect();
        let expected = fields().into_iter().map(|(name, schema)| {
            let kinds = types_of(&schema).into_iter().map(|kind| match kind {
                "integer" => integer
                    .replace("MIN", &schema["minimum"].to_string())
                    .replace("MAX", &schema["maximum"].to_string()),
                _ => string.to_owned(),
            });
            let kind = kinds.collect::<Vec<_>>().join(or);
            let default = default_of(&schema).map_or(String::new(), |it| match it {
                Value::String(text) => text,
                other => other.to_string(),
            });
            [name, kind, default]
        });
        // The order of a map's keys is not that of the struct's fields.
        let (told, expected): (BTreeSet<_>, BTreeSet<_>) =
            (told.into_iter().collect(), expected.collect());
        assert_eq!(told, expected, "{head}");
    }
}

#[test]
fn the_readme_tells_the_statuses_of_a_registration() {
    let rows = table(include_str!("../../../README.md"), "| status | when |");
    let told: BTreeSet<_> = rows.into_iter().map(|row| row[1].to_owned()).collect();
    let responses = at(&format!("{REGISTER}/responses"));
    let given = responses.as_object().unwrap().keys().cloned();
    // A client that keeps to the README gets none of these.
    let given = given.filter(|it| !["405", "414", "431"].contains(&it.as_str()));
    assert_eq!(told, given.collect());
}

#[test]
fn a_problem_tells_how_many_errors_it_lists() {
    let errors = at("/components/schemas/Problem/properties/errors/description");
    let words = format!("at most {MAX_ERRORS},");
    assert!(errors.as_str().unwrap().contains(&words), "{errors}");
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
    let operation = at(REGISTER);
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
    Job::try_from(input).is_ok()
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
