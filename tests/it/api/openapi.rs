//! The server keeps to its description at `/openapi.json`, whatever it receives. The requests are
//! made from the description, and then spoilt in every way that a client could spoil them.

mod bodies;
mod description;
mod request;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::Value;
use serde_json::value::RawValue;

use self::description::Description;
use self::request::{Request, Twist, requests};
use crate::support::{PATIENCE, RawAnswer, TestApp};

const MAX_BODY_LEN: usize = 64 * 1024;

/// The number of random requests, and the longest time for them.
const CASES: u32 = 2_000;
const FUZZ_TIME: Duration = Duration::from_secs(12);

/// The statuses of a request that is refused before it reaches a handler.
const NO_HTTP: [u16; 3] = [400, 414, 431];

#[tokio::test]
async fn whatever_is_sent_gets_a_documented_answer_and_only_what_is_valid_a_job() {
    let app = TestApp::start().await;
    let addr = app.server.http_addr().await;
    let fuzzing = tokio::task::spawn_blocking(move || fuzz(addr));
    let registered = fuzzing.await.unwrap();
    assert_eq!(app.redis.xlen().await, registered, "a job for each 201");
    assert!(app.server.exited().is_none());
    assert_eq!(app.server.count_log("panicked"), 0);
    app.server.wait_ready(PATIENCE).await;
}

#[tokio::test]
async fn every_documented_status_is_given() {
    let app = TestApp::start().await;
    let addr = app.server.http_addr().await;
    let (description, mut given) = tokio::task::spawn_blocking(move || {
        let description = Description::of(addr);
        let given = with_redis(addr, &description);
        (description, given)
    })
    .await
    .unwrap();
    app.redis.kill();
    app.server.wait_not_ready(PATIENCE).await;
    let (description, without_redis) = tokio::task::spawn_blocking(move || {
        let requests = description.paths().into_iter();
        let requests = requests.map(|path| good(&description, &path)).collect();
        let given = statuses(addr, &description, requests);
        (description, given)
    })
    .await
    .unwrap();
    given.extend(without_redis);
    assert_eq!(given, description.statuses());
}

/// A request that nothing is wrong with.
fn good(description: &Description, path: &str) -> Request {
    Request {
        body: description.least_body(path),
        ..Request::new(&description.method(path), path)
    }
}

/// Every status of every path that can occur while Redis works.
fn with_redis(addr: SocketAddr, description: &Description) -> BTreeSet<(String, u16)> {
    let mut requests = Vec::new();
    for path in description.paths() {
        let good = good(description, &path);
        for twist in [
            Twist::None,
            Twist::BadHttp("x y: z"),
            Twist::LongQuery(66_000),
            Twist::ManyHeaders(120),
        ] {
            requests.push(Request {
                twist,
                ..good.clone()
            });
        }
        requests.push(Request::new("PUT", &path));
        requests.push(Request {
            twist: Twist::Site("sec-fetch-site: cross-site\r\n", true),
            ..Request::new("PUT", &path)
        });
    }
    for path in description.registrations() {
        requests.extend(with_bad_bodies(&good(description, &path)));
    }
    statuses(addr, description, requests)
}

fn with_bad_bodies(good: &Request) -> Vec<Request> {
    let bodies = ["{", "[]", &" ".repeat(MAX_BODY_LEN + 1)];
    let mut requests = Vec::from(bodies.map(|body| Request {
        body: body.into(),
        ..good.clone()
    }));
    requests.push(Request {
        content_type: Some(("text/plain", false)),
        body: b"{}".to_vec(),
        ..good.clone()
    });
    requests.push(Request {
        // The request announces a body that does not come.
        twist: Twist::Header("Content-Length".to_owned(), b"2".to_vec()),
        framing: None,
        ..good.clone()
    });
    requests
}

/// The status of each request, with its path.
fn statuses(
    addr: SocketAddr,
    description: &Description,
    requests: Vec<Request>,
) -> BTreeSet<(String, u16)> {
    let status = |request: Request| {
        let answer = checked(addr, description, &request);
        let answer = answer.unwrap_or_else(|why| panic!("{why}: {request:?}"));
        (request.path, answer.status)
    };
    requests.into_iter().map(status).collect()
}

/// Sends random requests of proptest. When one is answered wrongly, proptest shrinks it. Returns
/// the number of registered jobs.
fn fuzz(addr: SocketAddr) -> u64 {
    let description = Description::of(addr);
    let (registered, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        max_shrink_iters: 500,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&requests(&description), |request| {
        if began.elapsed() > FUZZ_TIME {
            return Ok(());
        }
        let answer = checked(addr, &description, &request).map_err(TestCaseError::fail)?;
        let count = match answer.status {
            201 => &registered,
            _ => &refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let (registered, refused) = (registered.into_inner(), refused.into_inner());
    eprintln!(
        "{registered} registered, {refused} not, in {:?}",
        began.elapsed()
    );
    outcome.unwrap_or_else(|why| panic!("{why}"));
    // On a machine that is too slow for this the test would prove nothing.
    assert!(registered > 20 && refused > 20, "too few of a kind");
    registered
}

/// Sends a request. Returns the answer when the description allows it and it is right for the
/// request.
fn checked(addr: SocketAddr, all: &Description, request: &Request) -> Result<RawAnswer, String> {
    let answer = request.send(addr)?;
    let status = answer.status;
    let fail = |what: &str| Err(format!("{what}: {answer:?}"));
    if request.method == "OPTIONS" && status == 204 {
        // The description tells this answer only in words.
        return match answer.header("allow") {
            Some(allow) if allow.ends_with(",options") && answer.body.is_empty() => Ok(answer),
            _ => fail("not which methods there are"),
        };
    }
    let Some(response) = all.response(&request.path, status) else {
        return fail("this status is not documented");
    };
    if matches!(request.twist, Twist::Hosts(_)) && status != 400 {
        return fail("a request for no host, or for several");
    }
    let reads = ["GET", "HEAD", "OPTIONS", "TRACE"].contains(&request.method.as_str());
    let is_foreign = matches!(request.twist, Twist::Site(_, true)) && !reads;
    if is_foreign != (status == 403) {
        return fail("a page of another site");
    }
    let bodiless = answer.body.is_empty() && request.method != "HEAD";
    if request.twist.is_refused() || (status == 400 && bodiless) {
        if !request.twist.is_refused() || !NO_HTTP.contains(&status) || !answer.body.is_empty() {
            return fail("not how a request that is no HTTP is refused");
        }
        return Ok(answer);
    }
    if let Some(headers) = response["headers"].as_object()
        && let Some(missing) = headers.keys().find(|name| answer.header(name).is_none())
    {
        return fail(&format!("no {missing}"));
    }
    let content_type = answer.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap();
    let Some(content) = response["content"].get(media_type) else {
        return fail("this media type is not documented");
    };
    if request.method != "HEAD" {
        let text = String::from_utf8(answer.body.clone()).map_err(|why| why.to_string())?;
        let json = match media_type {
            "text/plain" => Value::String(text).to_string(),
            _ => text,
        };
        let Ok(json) = serde_json::from_str::<&RawValue>(&json) else {
            return fail("not JSON");
        };
        if !all.allows(&content["schema"], json) {
            return fail("a body that is not as documented");
        }
        if media_type == "application/problem+json" {
            let problem: Value = serde_json::from_str(json.get()).unwrap();
            if problem["status"] != status {
                return fail("another status in the body");
            }
        }
    }
    // Without Redis no request gets a job.
    if status != 503 && (status == 201) != request.is_valid(all) {
        return fail("a job for a request that is not valid, or none for one that is");
    }
    Ok(answer)
}
