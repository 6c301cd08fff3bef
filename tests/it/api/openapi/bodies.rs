//! Bodies for requests: some keep to the schema, and some are spoilt.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::MAX_BODY_LEN;
use super::description::Description;

/// A change to a body that keeps to the schema.
#[derive(Debug, Clone)]
enum Spoil {
    Replace(Index, String),
    Add(String, String),
    Repeat(Index),
    Whole(String),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Pad(usize),
}

/// Bodies for a path that registers jobs.
pub(super) fn bodies(all: &Description, path: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let body = all.body(path).unwrap();
    let is_required = |name: &String| {
        let required = body["required"].as_array();
        required.is_some_and(|all| all.contains(&name.as_str().into()))
    };
    let properties = body["properties"].as_object().unwrap();
    let members: Vec<_> = properties
        .iter()
        .map(|(name, schema)| {
            let weight = if is_required(name) { 0.9 } else { 0.4 };
            let (name, value) = (name.clone(), values(schema));
            let member = value.prop_map(move |value| (name.clone(), value));
            prop::option::weighted(weight, member)
        })
        .collect();
    let spoils = prop_oneof![
        3 => Just(Vec::new()),
        2 => vec(spoils(), 1..3),
    ];
    let empty = prop_oneof![Just(Vec::new()), Just(b" \r\n\t".to_vec())];
    let full = (members, spoils).prop_map(|(members, spoils)| {
        let members: Vec<_> = members.into_iter().flatten().collect();
        spoilt(members, spoils)
    });
    prop_oneof![1 => empty, 20 => full]
}

/// JSON texts of values that the schema of one value allows.
fn values(schema: &Value) -> BoxedStrategy<String> {
    let types = &schema["type"];
    let types = types
        .as_array()
        .map_or(std::slice::from_ref(types), Vec::as_slice);
    let examples: Vec<String> = match schema["examples"].as_array() {
        Some(examples) => examples.iter().map(Value::to_string).collect(),
        None => vec![r#""""#.to_owned()],
    };
    let limit = |name: &str| {
        let limit = schema[name].as_i64();
        limit.unwrap_or_else(|| panic!("an integer without a {name}: {schema}"))
    };
    let of_type = |name: &Value| match name.as_str().unwrap() {
        "null" => Just("null".to_owned()).boxed(),
        "boolean" => one_of(&["true", "false"]).prop_map(str::to_owned).boxed(),
        "integer" => {
            let (least, most) = (limit("minimum"), limit("maximum"));
            let edge = select(vec![least, least + 1, most - 1, most, most + 1]);
            prop_oneof![least..=most, edge]
                .prop_map(|n| n.to_string())
                .boxed()
        }
        "string" => {
            let text = "\\PC{0,20}".prop_map(|text| Value::String(text).to_string());
            let escaped = r#""(\\u[0-9a-c][0-9a-f]{3}|\\[nrtbf"/\\]|[a-z]){0,10}""#;
            prop_oneof![3 => select(examples.clone()), 2 => delays(), 1 => text, 1 => escaped]
                .boxed()
        }
        other => panic!("this test makes no {other}"),
    };
    let types: Vec<_> = types.iter().map(of_type).collect();
    proptest::strategy::Union::new(types).boxed()
}

/// Durations: some are good, and some have numbers or sums at a limit.
fn delays() -> impl Strategy<Value = String> {
    let numbers = [
        "0",
        "1",
        "1.5",
        "999999999",
        "1000",
        "1000000000",
        "31622400",
        "18446744073709551615",
        "18446744073709551616",
        "-1",
        "1.",
        "\u{665}",
        "",
    ];
    let units = [
        "ns", "us", "\u{b5}s", "ms", "s", "m", "h", "days", "M", "y", "", "x",
    ];
    let part = (one_of(&numbers), one_of(&units), one_of(&["", " "]));
    let parts = vec(part, 1..3).prop_map(|parts| {
        let parts = parts.iter();
        parts
            .map(|(n, unit, gap)| format!("{n}{unit}{gap}"))
            .collect()
    });
    // The longest duration of humantime, and a second more in each of two forms.
    let longest = ["18446744073709551615s 1s", "18446744073709551615s 1000ms"];
    let longest = one_of(&longest).prop_map(str::to_owned);
    prop_oneof![9 => parts, 1 => longest].prop_map(|text: String| Value::String(text).to_string())
}

/// Random JSON, and some text that is not JSON.
fn any_json() -> impl Strategy<Value = String> {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let mut texts: Vec<String> = [
        "true",
        "null",
        "0",
        "-0",
        "-1",
        "1.0",
        "1.5",
        "1e3",
        "31622400.0",
        "31622400.5",
        "10.00e2",
        "1e400",
        "-1e-400",
        "9223372036854775808",
        "-9223372036854775809",
        "NaN",
        "01",
        "\"10\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "{}",
        "[]",
        "{\"a\":{\"a\":{}}}",
        "'x'",
    ]
    .map(str::to_owned)
    .into();
    texts.extend([
        deep(200),
        deep(30_000),
        "[".repeat(30_000),
        "9".repeat(2_000),
    ]);
    let leaf = prop_oneof![4 => select(texts), 1 => delays()];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let items = vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(",")));
        let object =
            ("[a-z]{0,3}", inner).prop_map(|(name, json)| format!("{{\"{name}\":{json}}}"));
        prop_oneof![items, object]
    })
}

fn spoils() -> impl Strategy<Value = Spoil> {
    let names = prop_oneof![
        "[a-zA-Z_]{0,8}",
        Just("Message".to_owned()),
        Just("\\u0064elay".to_owned())
    ];
    let at = any::<Index>;
    let bytes = prop_oneof![
        vec(any::<u8>(), 1..4),
        one_of(&[
            &b"\xff"[..],
            b"\xed\xa0\x80",
            b"\0",
            b"\xef\xbb\xbf",
            b",",
            b"{}"
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    prop_oneof![
        4 => (at(), any_json()).prop_map(|(at, json)| Spoil::Replace(at, json)),
        2 => (names, any_json()).prop_map(|(name, json)| Spoil::Add(name, json)),
        1 => at().prop_map(Spoil::Repeat),
        1 => any_json().prop_map(Spoil::Whole),
        1 => at().prop_map(Spoil::Cut),
        2 => (at(), bytes).prop_map(|(at, bytes)| Spoil::Insert(at, bytes)),
        1 => one_of(&[MAX_BODY_LEN, MAX_BODY_LEN + 1, 200_000, 2_000_000]).prop_map(Spoil::Pad),
    ]
}

/// The body with these members, after each of the changes in turn.
fn spoilt(mut members: Vec<(String, String)>, spoils: Vec<Spoil>) -> Vec<u8> {
    let text = |members: &[(String, String)]| {
        let members = members
            .iter()
            .map(|(name, json)| format!("\"{name}\": {json}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(", ")).into_bytes()
    };
    let mut bytes = text(&members);
    for spoil in spoils {
        match spoil {
            Spoil::Replace(at, json) if !members.is_empty() => {
                at.get_mut(&mut members).1 = json;
                bytes = text(&members);
            }
            Spoil::Repeat(at) if !members.is_empty() => {
                members.push(at.get(&members).clone());
                bytes = text(&members);
            }
            Spoil::Add(name, json) => {
                members.push((name, json));
                bytes = text(&members);
            }
            Spoil::Replace(..) | Spoil::Repeat(_) => {}
            Spoil::Whole(json) => bytes = json.into_bytes(),
            Spoil::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Spoil::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more);
            }
            Spoil::Pad(length) => bytes.resize(bytes.len().max(length), b' '),
        }
    }
    bytes
}

/// One of these values.
pub(super) fn one_of<T: Clone + fmt::Debug + 'static>(
    items: &[T],
) -> impl Strategy<Value = T> + use<T> {
    select(items.to_vec())
}
