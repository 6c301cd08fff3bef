//! Reads the description: which requests and which answers exist, and what a body must contain. It
//! knows the few words of JSON Schema that the description uses, and fails at any other word.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::panic::catch_unwind;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::request::Request;

const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The description that the server gives of itself.
#[derive(Debug, Clone)]
pub(super) struct Description(Value);

impl Description {
    pub(super) fn of(addr: SocketAddr) -> Self {
        let answer = Request::new("GET", "/openapi.json").send(addr).unwrap();
        assert_eq!(answer.status, 200);
        Self(serde_json::from_slice(&answer.body).unwrap())
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.0["paths"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }

    /// Each path with each of its statuses.
    pub(super) fn statuses(&self) -> BTreeSet<(String, u16)> {
        let paths = self.paths().into_iter();
        paths
            .flat_map(|path| {
                let codes = (100..600).filter(|code| self.response(&path, *code).is_some());
                codes.map(|code| (path.clone(), code)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// How this path may answer with this status, by any of its methods. All methods count, because
    /// one of the answers is for a method that the path does not have.
    pub(super) fn response(&self, path: &str, status: u16) -> Option<&Value> {
        let operations = self.0["paths"][path].as_object()?;
        let mut operations = operations.values();
        operations
            .find_map(|operation| operation["responses"].get(status.to_string()))
            .map(|response| self.resolved(response))
    }

    /// The method that a path has. HEAD and OPTIONS are described in words only.
    pub(super) fn method(&self, path: &str) -> String {
        let methods = self.0["paths"][path].as_object().unwrap();
        assert_eq!(methods.len(), 1, "{path} has several methods");
        methods.keys().next().unwrap().to_uppercase()
    }

    /// The paths that register jobs.
    pub(super) fn registrations(&self) -> Vec<String> {
        let paths = self.paths().into_iter();
        paths.filter(|path| self.body(path).is_some()).collect()
    }

    /// The schema of the bodies that a path takes.
    pub(super) fn body(&self, path: &str) -> Option<&Value> {
        let content = &self.0["paths"][path]["post"]["requestBody"]["content"];
        let content = content.get("application/json")?;
        Some(self.resolved(&content["schema"]))
    }

    /// A body for this path with the required properties only.
    pub(super) fn least_body(&self, path: &str) -> Vec<u8> {
        let Some(schema) = self.body(path) else {
            return Vec::new();
        };
        let names = schema["required"].as_array().into_iter().flatten();
        let members = names.map(|name| {
            let property = &schema["properties"][name.as_str().unwrap()];
            let good = property["examples"].get(0).or(property.get("minimum"));
            format!("{name}: {}", good.unwrap_or(&Value::from("x")))
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(", ")).into_bytes()
    }

    /// Whether these bytes describe a job for a path that registers jobs, by the schema and by the
    /// words of the description.
    pub(super) fn describes_a_job(&self, path: &str, body: &[u8]) -> bool {
        let Some(schema) = self.body(path) else {
            return false;
        };
        let Ok(text) = std::str::from_utf8(body) else {
            return false;
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = match text.trim_matches([' ', '\t', '\r', '\n']) {
            // An empty body is an object without properties.
            "" => "{}",
            _ => text,
        };
        let Ok(json) = serde_json::from_str::<&RawValue>(text) else {
            return false;
        };
        let Some(members) = members(json) else {
            return false;
        };
        let names: BTreeSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        let is_delay = |json: &RawValue| {
            let Ok(Some(delay)) = serde_json::from_str::<Option<String>>(json.get()) else {
                return true;
            };
            // humantime panics at some sums that are far too long.
            let parsed = catch_unwind(|| humantime::parse_duration(&delay));
            parsed.is_ok_and(|delay| delay.is_ok_and(|delay| delay <= YEAR))
        };
        names.len() == members.len()
            && self.allows(schema, json)
            && (members.iter()).all(|(name, json)| {
                !["delay", "expires_in"].contains(&name.as_str()) || is_delay(json)
            })
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    /// Whether a JSON text keeps to a schema. This reads texts and not values, because a value
    /// loses `-0`, `1e400`, and which one of two equal names counts.
    pub(super) fn allows(&self, schema: &Value, json: &RawValue) -> bool {
        let schema = self.resolved(schema).as_object().unwrap();
        let members = || members(json).unwrap_or_default().into_iter();
        schema
            .iter()
            .all(|(keyword, value)| match keyword.as_str() {
                "description" | "examples" => true,
                "format" => fits(value, json),
                "pattern" => {
                    // A delay may have other forms too. `describes_a_job` knows which.
                    let words = schema["description"].as_str().unwrap_or_default();
                    let text = serde_json::from_str(json.get()).unwrap_or(Value::Null);
                    let pattern = regex::Regex::new(value.as_str().unwrap()).unwrap();
                    words.ends_with("further ones are taken as well.")
                        || text.as_str().is_none_or(|text| pattern.is_match(text))
                }
                "type" if value.is_array() => {
                    value.as_array().unwrap().contains(&kind(json).into())
                }
                "type" => value == kind(json),
                "enum" => {
                    let found = serde_json::from_str(json.get()).unwrap();
                    value.as_array().unwrap().contains(&found)
                }
                "minimum" => integer(json).is_none_or(|n| n >= value.as_i64().unwrap().into()),
                "maximum" => integer(json).is_none_or(|n| n <= value.as_i64().unwrap().into()),
                "items" => {
                    let items: Vec<&RawValue> = serde_json::from_str(json.get()).unwrap();
                    items.into_iter().all(|item| self.allows(value, item))
                }
                "properties" => members().all(|(name, json)| {
                    let schema = value.get(&name);
                    schema.is_none_or(|schema| self.allows(schema, json))
                }),
                "additionalProperties" => {
                    assert_eq!(*value, false);
                    members().all(|(name, _)| schema["properties"].get(&name).is_some())
                }
                "required" => value.as_array().unwrap().iter().all(|name| {
                    let mut members = members();
                    members.any(|(member, _)| member == *name)
                }),
                "not" => !self.allows(value, json),
                _ => panic!("this test does not know the keyword {keyword}"),
            })
    }
}

/// The schema's name for the type of a JSON text. `1.0` is an integer. A string that no program can
/// hold has no name.
fn kind(json: &RawValue) -> &'static str {
    match json.get().as_bytes()[0] {
        b'{' => "object",
        b'[' => "array",
        b'"' if serde_json::from_str::<String>(json.get()).is_ok() => "string",
        b'"' => "",
        b't' | b'f' => "boolean",
        b'n' => "null",
        _ if integer(json).is_some() => "integer",
        _ => "number",
    }
}

/// Whether an integer is within the limits of its format. Other formats are only words.
fn fits(format: &Value, json: &RawValue) -> bool {
    integer(json).is_none_or(|n| match format.as_str().unwrap() {
        "int32" => i32::try_from(n).is_ok(),
        "int64" => i64::try_from(n).is_ok(),
        _ => true,
    })
}

/// The value of a number without a fraction. This moves the decimal point digit by digit.
fn integer(json: &RawValue) -> Option<i128> {
    let text = json.get();
    let number = text.strip_prefix('-').unwrap_or(text);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
    // The numbers of these tests have fewer digits than this, so the limit does not change their
    // values.
    let shift: i32 = exponent.parse::<i32>().unwrap().clamp(-5_000, 5_000);
    for _ in 0..shift {
        let first = if fraction.is_empty() {
            '0'
        } else {
            fraction.remove(0)
        };
        whole.push(first);
    }
    for _ in shift..0 {
        fraction.insert(0, whole.pop().unwrap_or('0'));
    }
    if !fraction.bytes().all(|digit| digit == b'0') {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let beyond = if number == text { i128::MAX } else { i128::MIN };
    let sign = if number == text { 1 } else { -1 };
    Some(match whole {
        "" => 0,
        digits => digits.parse::<i128>().map_or(beyond, |n| n * sign),
    })
}

/// The members of an object in order, including all members with the same name.
fn members(json: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let mut json = serde_json::Deserializer::from_str(json.get());
    serde::Deserializer::deserialize_map(&mut json, Members).ok()
}
