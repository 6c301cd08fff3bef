//! `POST /api/dm-jobqueue/register` on a real Redis: its answers, and what it writes to the stream.
//! The unit tests in `src` check every case of each rule. This file checks one case of each status.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Redis, TestApp};

/// The job in the stream's last entry. The entry must have one field.
async fn last_job(redis: &Redis) -> Value {
    let (_, fields) = redis.entries().await.pop().unwrap();
    assert_eq!(fields.len(), 1);
    serde_json::from_slice(&fields["job"]).unwrap()
}

#[tokio::test]
async fn what_is_registered_is_in_the_stream_without_its_defaults() {
    let app = TestApp::start().await;
    for (body, expected) in [
        (
            json!({}),
            json!({"payload": {"message": "Job executed successfully"}, "delay_ms": 180_000}),
        ),
        (
            json!({"message": "", "delay_seconds": 0, "max_retry": 0}),
            json!({"payload": {"message": "Job executed successfully"}, "delay_ms": 180_000}),
        ),
        (
            json!({"message": null, "delay_seconds": null, "delay": null, "max_retry": null}),
            json!({"payload": {"message": "Job executed successfully"}, "delay_ms": 180_000}),
        ),
        (
            json!({"message": "hi\n", "delay": "250ms", "max_retry": 3}),
            json!({"payload": {"message": "hi\n"}, "delay_ms": 250, "max_retry": 3}),
        ),
        (
            json!({"message": "x", "delay": "0s", "max_retry": 10}),
            json!({"payload": {"message": "x"}}),
        ),
        (
            json!({"message": "x", "delay_seconds": 31_622_400, "max_retry": 1000}),
            json!({"payload": {"message": "x"}, "delay_ms": 31_622_400_000_u64, "max_retry": 1000}),
        ),
        (
            json!({"message": "x", "delay": "1y"}),
            json!({"payload": {"message": "x"}, "delay_ms": 31_557_600_000_u64}),
        ),
        (
            // Python's `total_seconds()` gives such numbers.
            json!({"message": "x", "delay_seconds": 5.0, "max_retry": 3.0}),
            json!({"payload": {"message": "x"}, "delay_ms": 5_000, "max_retry": 3}),
        ),
        (
            json!({"message": "x", "delay": "2m 30s"}),
            json!({"payload": {"message": "x"}, "delay_ms": 150_000}),
        ),
    ] {
        let id = app.registered(body.clone()).await;
        let uuid: uuid::Uuid = id.parse().unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        let mut expected = expected;
        expected["id"] = json!(id);
        expected["type"] = json!("demo:delay_print");
        assert_eq!(last_job(&app.redis).await, expected, "{body}");
    }
}

#[tokio::test]
async fn an_empty_body_and_a_missing_content_type_are_fine() {
    let app = TestApp::start().await;
    for (body, content_type) in [
        ("", None),
        ("", Some("application/json")),
        (" \n", None),
        ("{}", None),
        ("{}", Some("application/json; charset=utf-8")),
        ("\u{feff}{}", Some("application/json")),
    ] {
        let (status, reply, headers) = app.register_raw(body, content_type).await;
        assert_eq!(
            status,
            StatusCode::CREATED,
            "{body:?} {content_type:?}: {reply}"
        );
        assert_eq!(headers["content-type"], "application/json");
    }
    assert_eq!(app.redis.xlen().await, 6);
}

#[tokio::test]
async fn what_is_refused_is_a_problem_and_not_in_the_stream() {
    let app = TestApp::start().await;
    let large = "x".repeat(64 * 1024 + 1);
    for (body, content_type, status, location) in [
        (r#"{"delay_seconds":-1}"#, None, 422, "body.delay_seconds"),
        (
            r#"{"delay_seconds":31622401}"#,
            None,
            422,
            "body.delay_seconds",
        ),
        (r#"{"delay_seconds":1.5}"#, None, 422, "body.delay_seconds"),
        (r#"{"delay_seconds":"10"}"#, None, 422, "body.delay_seconds"),
        (
            r#"{"delay_seconds":9223372036854775808}"#,
            None,
            422,
            "body.delay_seconds",
        ),
        (
            r#"{"delay_seconds":1e400}"#,
            None,
            422,
            "body.delay_seconds",
        ),
        (
            r#"{"delay":"1s","delay_seconds":1}"#,
            None,
            422,
            "body.delay",
        ),
        (r#"{"delay":"367 days"}"#, None, 422, "body.delay"),
        (r#"{"delay":"soon"}"#, None, 422, "body.delay"),
        (r#"{"delay":5}"#, None, 422, "body.delay"),
        (r#"{"max_retry":1001}"#, None, 422, "body.max_retry"),
        (r#"{"message":5}"#, None, 422, "body.message"),
        (r#"{"priority":1}"#, None, 422, "body.priority"),
        ("[]", None, 422, "body"),
        (r#"{"delay_seconds":NaN}"#, None, 400, "body"),
        ("{", None, 400, "body"),
        ("{}", Some("text/plain"), 415, ""),
        (large.as_str(), None, 413, ""),
    ] {
        let (found, problem, headers) = app.register_raw(body.to_owned(), content_type).await;
        assert_eq!(found, status, "{body:.60}: {problem}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(problem["status"], status);
        assert!(
            problem["title"].is_string() && problem["detail"].is_string(),
            "{problem}"
        );
        if !location.is_empty() {
            assert_eq!(problem["errors"][0]["location"], location, "{problem}");
        }
    }
    let http = app.http();
    let (status, problem, headers) = app.send(http.get(app.register_url())).await;
    assert_eq!((status.as_u16(), &problem["status"]), (405, &json!(405)));
    assert_eq!(headers["allow"], "POST,OPTIONS");
    let (status, ..) = app
        .send(http.post(format!("{}/x", app.register_url())))
        .await;
    assert_eq!(status, 404);
    assert_eq!(app.redis.xlen().await, 0);
}

#[tokio::test]
async fn what_is_wrong_with_the_json_is_said_with_its_place_in_the_body() {
    let app = TestApp::start().await;
    for (body, place) in [
        (&b"{\n \"message\": \"\\ud800\"}"[..], "line 2 column 20"),
        (b"\r\n{\"\xe3\x81\x82\": x}", "line 2 column 7"),
        (b"{\"\xe3\x81\x82\": \"\xff\"}", "line 1 column 8"),
    ] {
        let (status, problem, _) = app.register_raw(body, None).await;
        assert_eq!(status, 400, "{problem}");
        let message = problem["errors"][0]["message"].as_str().unwrap();
        assert!(message.ends_with(&format!(" at {place}")), "{message}");
    }
}

#[tokio::test]
async fn the_server_alone_consumes_nothing() {
    let app = TestApp::start().await;
    for _ in 0..20 {
        app.registered(json!({"delay": "0s"})).await;
    }
    // A server that consumed jobs would take these at once, so a short watch is enough.
    let taken = crate::support::within(std::time::Duration::from_millis(500), async || {
        let backlog = app.redis.backlog().await;
        (backlog.stream != 20 || backlog.pending != 0 || !backlog.consumers.is_empty())
            .then_some(backlog)
    });
    assert_eq!(taken.await, None);
}

#[tokio::test]
async fn what_is_just_within_a_limit_is_accepted_and_what_is_just_beyond_is_not() {
    let app = TestApp::start().await;
    let body_of = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    for (within, beyond, status) in [
        (body_of(65_536), body_of(65_537), 413),
        (
            json!({"delay": "366days"}).to_string(),
            json!({"delay": "366days 1ns"}).to_string(),
            422,
        ),
        (
            json!({"delay_seconds": 1}).to_string(),
            json!({"delay_seconds": -1}).to_string(),
            422,
        ),
        (
            json!({"max_retry": 1}).to_string(),
            json!({"max_retry": -1}).to_string(),
            422,
        ),
        (
            json!({"max_retry": 1000}).to_string(),
            json!({"max_retry": 1001}).to_string(),
            422,
        ),
    ] {
        let before = app.redis.xlen().await;
        let (found, reply, _) = app.register_raw(beyond.clone(), None).await;
        assert_eq!(found, status, "{beyond:.60}: {reply}");
        assert_eq!(app.redis.xlen().await, before);
        let (found, reply, _) = app.register_raw(within.clone(), None).await;
        assert_eq!(found, StatusCode::CREATED, "{within:.60}: {reply}");
        assert_eq!(app.redis.xlen().await, before + 1);
    }
    // A part of a millisecond is rounded up. If it were rounded down, the job would run too early.
    app.registered(json!({"delay": "1ns"})).await;
    assert_eq!(last_job(&app.redis).await["delay_ms"], 1);
}

#[tokio::test]
async fn an_unknown_path_or_method_is_a_problem_too() {
    let app = TestApp::start().await;
    let (url, http) = (app.register_url(), app.http());
    for (request, status) in [
        (http.get(url), 405),
        (http.put(url).body("{}"), 405),
        (http.delete(url), 405),
        (http.post(format!("{url}/x")).body("{}"), 404),
        (http.get(url.replace("register", "jobs")), 404),
    ] {
        let (found, problem, headers) = app.send(request).await;
        assert_eq!(found, status, "{problem}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(problem["status"], status);
        assert!(
            problem["title"].is_string() && problem["detail"].is_string(),
            "{problem}"
        );
    }
    assert_eq!(app.redis.xlen().await, 0);
}
