//! Each field of each body that registers a job, compared with what the server makes of it. The fields
//! come from the description, so a new route and a new field are tested without a line here.

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use serde_json::{Map, Value};
use tower::ServiceExt;

use super::tests::server;

/// A field of a body.
struct Field {
    path: String,
    name: String,
    schema: Value,
    /// The properties that the body must have, each with a good value.
    required: Map<String, Value>,
}

async fn fields() -> Vec<Field> {
    let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let response = server().oneshot(request).await.unwrap();
    let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let description: Value = serde_json::from_slice(&text).unwrap();
    let mut fields = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        let body = &item["post"]["requestBody"]["content"]["application/json"]["schema"];
        let Some(reference) = body["$ref"].as_str() else {
            continue;
        };
        let body = description.pointer(&reference[1..]).unwrap();
        let all = body["properties"].as_object().unwrap();
        fields.extend(all.iter().map(|(name, schema)| Field {
            path: path.clone(),
            name: name.clone(),
            schema: schema.clone(),
            required: required(body),
        }));
    }
    fields
}

fn required(body: &Value) -> Map<String, Value> {
    let names = body["required"].as_array().into_iter().flatten();
    let values = names.map(|name| {
        let name = name.as_str().unwrap();
        let schema = &body["properties"][name];
        let good = schema["examples"].get(0).or(schema.get("minimum"));
        (name.to_owned(), good.cloned().unwrap_or("x".into()))
    });
    values.collect()
}

impl Field {
    /// Whether the server takes a body in which the field has this value.
    async fn may_be(&self, value: &Value) -> bool {
        let mut body = self.required.clone();
        body.insert(self.name.clone(), value.clone());
        let request = Request::post(&self.path).body(Body::from(Value::from(body).to_string()));
        let response = server().oneshot(request.unwrap()).await.unwrap();
        match response.status().as_u16() {
            422 => false,
            // The body is good. Redis, which is away, is asked for after that.
            503 => true,
            other => panic!("{other} for {} {value}", self.name),
        }
    }

    fn is_integer(&self) -> bool {
        let types = &self.schema["type"];
        types == "integer" || (types.as_array()).is_some_and(|it| it.contains(&"integer".into()))
    }
}

#[tokio::test]
async fn an_integer_has_the_limits_that_the_code_has() {
    let integers = fields().await.into_iter().filter(Field::is_integer);
    let mut compared = 0;
    for field in integers {
        for (limit, step) in [("minimum", -1), ("maximum", 1)] {
            let name = format!("{limit} of {} of {}", field.name, field.path);
            let limit = field.schema[limit].as_i64();
            let limit = limit.unwrap_or_else(|| panic!("the description has no {name}"));
            assert!(field.may_be(&limit.into()).await, "{name}");
            assert!(!field.may_be(&(limit + step).into()).await, "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 4, "{compared}");
}

#[tokio::test]
async fn an_example_is_accepted() {
    let mut accepted = 0;
    for field in fields().await {
        for example in field.schema["examples"].as_array().into_iter().flatten() {
            assert!(field.may_be(example).await, "{}: {example}", field.name);
            accepted += 1;
        }
    }
    assert!(accepted > 0);
}
