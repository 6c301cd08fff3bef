//! The answers that many routes share, so that a route only says its own.

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Content, Header, OpenApi, Ref, Response, Type, extensions::Extensions, schema::Object,
    },
};

use crate::api::{
    problem::{PROBLEM_JSON, Problem},
    request::body::MAX_BODY_LEN,
};

/// An answer: its status, its name among the description's components, and when it is given.
type Answer = (u16, &'static str, String);

/// The answers that any request may get.
fn for_any_request() -> [Answer; 5] {
    [
        (
            400,
            "BadRequest",
            "The request is not HTTP, or its Host header is missing, given twice or no host.".into(),
        ),
        (
            403,
            "OtherSite",
            "A page of another site asked for something else than to read (Sec-Fetch-Site, Origin), \
             and the server's settings do not allow that site."
                .into(),
        ),
        (405, "MethodNotAllowed", "The answer to any other method.".into()),
        (
            414,
            "UriTooLong",
            "The path and query are longer than 65534 bytes.".into(),
        ),
        (
            431,
            "HeadersTooLarge",
            "More than 100 headers, or larger ones than the server takes, which is 400 KiB at least."
                .into(),
        ),
    ]
}

/// The answers that a request with a body may get besides, or instead. Each body asks for a job.
fn for_a_body() -> [Answer; 6] {
    [
        (
            400,
            "BadBody",
            "The body is not JSON or did not come whole, or the request is not HTTP, or its Host \
             header is missing, given twice or no host."
                .into(),
        ),
        (
            408,
            "BodyTooSlow",
            "The body did not arrive in time.".into(),
        ),
        (
            413,
            "BodyTooLarge",
            format!("The body is larger than {MAX_BODY_LEN} bytes."),
        ),
        (
            415,
            "NotJson",
            "The body's content type is not JSON, or it has a content encoding.".into(),
        ),
        (
            422,
            "Invalid",
            "A value is wrong or missing; errors says which, where and why.".into(),
        ),
        (
            503,
            "Unavailable",
            "Redis cannot take the job. When detail says that the outcome is unknown, the job may have \
             been registered."
                .into(),
        ),
    ]
}

/// Adds these answers to all operations that may give them.
pub(super) fn add(description: &mut OpenApi) {
    let components = description.components.get_or_insert_default();
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    for (status, name, when) in for_any_request().into_iter().chain(for_a_body()) {
        let answer = answer(status, &when);
        components.responses.insert(name.to_owned(), answer.into());
    }
    let paths = description.paths.paths.values_mut();
    let operations = paths.flat_map(|path| {
        [
            &mut path.get,
            &mut path.post,
            &mut path.put,
            &mut path.patch,
            &mut path.delete,
        ]
    });
    for operation in operations.flatten() {
        let for_a_body = operation.request_body.as_ref().map(|_| for_a_body());
        let answers = for_a_body.into_iter().flatten().chain(for_any_request());
        let responses = &mut operation.responses.responses;
        for (status, name, _) in answers {
            let answer = || Ref::from_response_name(name).into();
            responses.entry(status.to_string()).or_insert_with(answer);
        }
    }
}

fn answer(status: u16, when: &str) -> Response {
    let mut answer = Response::new(when);
    // The HTTP library gives the other two by itself, without a body.
    if ![414, 431].contains(&status) {
        let problem = Ref::from_schema_name("Problem");
        answer
            .content
            .insert(PROBLEM_JSON.to_owned(), Content::new(Some(problem)).into());
    }
    // A header that is described is always there.
    let mut add_header = |name: &str, schema: Object, text: &str| {
        let mut header = Header::new(schema);
        header.description = Some(text.to_owned());
        header.extensions = also([("required", json!(true))]);
        answer.headers.insert(name.to_owned(), header.into());
    };
    match status {
        405 => {
            let methods = Object::with_type(Type::String);
            add_header("Allow", methods, "The methods that are allowed.");
        }
        503 => {
            let seconds = Object::with_type(Type::Integer);
            add_header("Retry-After", seconds, "Seconds after which to try again.");
        }
        _ => {}
    }
    answer
}

/// Words of OpenAPI that utoipa does not know. It writes its extensions as they are.
pub(super) fn also<const N: usize>(words: [(&str, serde_json::Value); N]) -> Option<Extensions> {
    Some(Extensions::from_iter(words))
}
